import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanochat.config import CorpusShare
from nanochat.data.mixing import MixedRows
from nanochat.data.packing import Batch
from nanochat.errors import DataError

LENGTH = 4


class Numbered:
    """A row source whose rows say which they are."""

    sequence_length = LENGTH

    def __init__(self, name: int, rows: int) -> None:
        self.name = name
        self.rows_per_epoch = rows

    def read(self, start: int, count: int) -> Batch:
        batch = Batch.padding(count, LENGTH, 0)
        batch.inputs[:, 0] = self.name
        batch.inputs[:, 1] = np.arange(start, start + count)
        batch.segments[:] = self.name
        return batch


def mixed(sizes: list[int], shares: list[CorpusShare], rows: int, seed: int = 0) -> MixedRows:
    sources = {str(n): Numbered(n, size) for n, size in enumerate(sizes)}
    return MixedRows(sources, {str(n): share for n, share in enumerate(shares)}, rows, seed)


def rows_of(source: MixedRows, start: int = 0, count: int | None = None) -> list[tuple[int, int]]:
    batch = source.read(start, source.rows_per_epoch - start if count is None else count)
    assert (batch.segments[:, 0] == batch.inputs[:, 0]).all()
    return [(int(which), int(row)) for which, row in batch.inputs[:, :2]]


SHARES = st.builds(CorpusShare, weight=st.floats(0.01, 5))


@settings(max_examples=60, deadline=None)
@given(st.lists(SHARES, min_size=2, max_size=4), st.integers(1, 3500), st.data())
def test_each_source_is_read_row_by_row_from_wherever_one_begins(shares, rows, data):
    source = mixed([50] * len(shares), shares, rows)
    found = rows_of(source)
    for which in range(len(shares)):
        own = [row for name, row in found if name == which]
        assert own == list(range(len(own)))
    start = data.draw(st.integers(0, rows - 1))
    count = data.draw(st.integers(1, rows - start))
    assert rows_of(source, start, count) == found[start : start + count]


def test_the_shares_hold_in_every_thousand_rows_and_the_order_is_mixed():
    source = mixed([100, 100], [CorpusShare(weight=3), CorpusShare(weight=1)], 10_000)
    found = np.array([which for which, _ in rows_of(source)])
    assert found.reshape(10, 1000).sum(1).tolist() == [250] * 10
    assert len({tuple(part) for part in found.reshape(10, 1000)}) == 10  # another order each time
    runs = np.diff(np.flatnonzero(found == 1))
    assert 10 < runs.max() < 60  # not in blocks, not in a fixed beat
    assert source.epochs() == {"0": 75.0, "1": 25.0}


def test_a_limited_source_is_spread_over_the_run_and_the_others_take_its_share():
    shares = [CorpusShare(weight=1), CorpusShare(weight=1, epochs=2), CorpusShare(weight=2)]
    source = mixed([10**6, 600, 10**6], shares, 12_000)
    found = np.array([which for which, _ in rows_of(source)])
    assert np.bincount(found).tolist() == [3600, 1200, 7200]
    assert all(95 <= count <= 105 for count in (found.reshape(12, 1000) == 1).sum(1).tolist())
    assert source.epochs()["1"] == 2


def test_what_falls_short_of_its_share_is_said(caplog):
    with caplog.at_level("WARNING"):
        mixed([10**6, 100], [CorpusShare(), CorpusShare(epochs=1)], 1000)
    assert "1 is read 1 times, as its epochs say: 10.0 % of the text instead of 50.0 %" in caplog.text


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 700), st.sampled_from([0.25, 1.0, 3.0]), st.floats(0.01, 2), st.integers(1, 6000), st.data())
def test_a_small_source_is_read_exactly_as_often_as_it_may(size, epochs, weight, rows, data):
    """Also one of fewer rows than a cycle, wherever reading begins."""
    source = mixed([10**6, size], [CorpusShare(weight=1), CorpusShare(weight=weight, epochs=epochs)], rows)
    found = rows_of(source)
    counts = np.bincount([which for which, _ in found], minlength=2)
    limit = round(size * epochs)
    assert counts[1] <= limit
    wanted = rows * weight / (1 + weight)
    assert counts[1] == limit if wanted >= limit else abs(counts[1] - wanted) <= 1
    assert source.epochs()["1"] == counts[1] / size
    for which in (0, 1):
        own = [row for name, row in found if name == which]
        assert own == list(range(len(own)))
    start = data.draw(st.integers(0, rows - 1))
    assert rows_of(source, start) == found[start:]


def test_a_source_alone_may_be_used_up_to_its_last_row():
    assert len(rows_of(mixed([100], [CorpusShare(epochs=4)], 400))) == 400
    with pytest.raises(DataError, match="have 400 rows"):
        mixed([100], [CorpusShare(epochs=4)], 401)


def test_a_mixture_that_cannot_last_says_so():
    with pytest.raises(DataError, match=r"data\.mixture.*raise their epochs"):
        mixed([600, 800], [CorpusShare(epochs=1), CorpusShare(epochs=1)], 5000)


def test_rows_beyond_the_run_are_refused():
    with pytest.raises(DataError, match="was made for 10"):
        mixed([5, 5], [CorpusShare(), CorpusShare()], 10).read(5, 6)


def test_another_seed_is_another_order():
    shares = [CorpusShare(), CorpusShare()]
    assert rows_of(mixed([50, 50], shares, 500, 1)) != rows_of(mixed([50, 50], shares, 500, 2))
