"""No token is lost or doubled over ranks, micro-batches, kills and epochs: the rows as training takes them.

A step checkpoint holds the number of the step alone (beside weights), so a launch is played here as fresh sources, one
for each rank, read from that step on. tests/train/test_pretrain.py and test_ranks.py do it with processes and weights.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nanochat.data import loader
from nanochat.data.loader import ConversationRows, TokenRows
from nanochat.data.packing import Batch, RowSource
from nanochat.runtime import World
from nanochat.train.accumulate import _micro_batch
from nanochat.train.prefetch import Prefetched
from nanochat.train.sources import RowSteps

from .test_loader import BOS, conversations_of, expected_targets, file_pairs, pairs_of, token_file


@pytest.fixture(autouse=True, scope="module")
def small_windows():
    """Several windows even in a few documents."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loader, "_WINDOW_ROWS", 3)
        yield


@dataclass(frozen=True)
class Data:
    """What a run trains on: a fresh source of its rows, and the targets that an epoch must hold."""

    make: Callable[[], RowSource]
    epoch: Counter


@st.composite
def documents(draw) -> Data:
    shards = draw(st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=10), min_size=1, max_size=4))
    assume(any(length > 1 for lengths in shards for length in lengths))
    firsts = np.cumsum([1, *(sum(lengths) - len(lengths) for lengths in shards)])
    files = [token_file(lengths, int(first)) for lengths, first in zip(shards, firsts[:-1], strict=True)]
    length, seed = draw(st.integers(1, 24)), draw(st.integers(0, 5))
    # Tokens are unique, so a pair across two documents would be a pair that is not expected.
    return Data(lambda: TokenRows(files, length, seed, BOS), Counter(file_pairs(files)))


@st.composite
def conversations(draw) -> Data:
    given = conversations_of(draw(st.lists(st.integers(2, 30), min_size=1, max_size=25)))
    length, seed = draw(st.integers(4, 40)), draw(st.integers(0, 5))
    train_on = draw(st.sampled_from(["assistant", "everything"]))
    targets = expected_targets(given, length, train_on)
    assume(targets)
    # The token before a token is the number before it.
    epoch = Counter({(target - 1, target): count for target, count in targets.items()})
    return Data(lambda: ConversationRows(given, length, seed, train_on), epoch)


def read_step(source: Prefetched, step: int, size: int, padded: bool) -> list[Batch]:
    """A rank's micro-batches of a step."""
    rows = source.read(step).rows
    return [_micro_batch(rows, start, size, padded) for start in range(0, rows.rows, size)]


def launch(data: Data, ranks: int, steps: range, total: int, rows_per_step: int, size: int, padded: bool):
    """What each of the steps trained on, rank by rank."""
    trained: dict[int, list[list[Batch]]] = {step: [] for step in steps}
    for rank in range(ranks):
        world = World(rank, rank, ranks, torch.device("cpu"))
        with Prefetched(RowSteps(data.make(), rows_per_step, world), total) as source:
            for step in steps:
                trained[step].append(read_step(source, step, size, padded))
    return trained


def pairs_in(batches: list[Batch]) -> list[tuple[int, int]]:
    return [pair for batch in batches for pair in pairs_of(batch)]


KILLS = st.lists(st.tuples(st.integers(1, 5), st.integers(0, 6), st.integers(0, 6)), max_size=4)
"""Launches that are killed: ranks, steps made, how many of them the last step checkpoint does not hold."""


@settings(max_examples=50, deadline=None)
@given(
    data=documents() | conversations(),
    kills=KILLS,
    last_ranks=st.integers(1, 5),
    rows_per_step=st.integers(1, 9),
    size=st.integers(1, 4),
    padded=st.booleans(),
)
def test_nothing_is_lost_or_doubled_over_kills_ranks_and_micro_batches(
    data, kills, last_ranks, rows_per_step, size, padded
):
    source = data.make()
    epoch = source.rows_per_epoch
    total = -(-2 * epoch // rows_per_step)
    trained: dict[int, list[list[Batch]]] = {}
    saved = 0
    for ranks, made, unsaved in [*kills, (last_ranks, total, 0)]:
        steps = range(saved, min(saved + made, total))
        rows = launch(data, ranks, steps, total, rows_per_step, size, padded)
        saved = max(saved, steps.stop - unsaved)
        trained |= {step: rows[step] for step in steps if step < saved}  # the weights of later steps are gone
    assert sorted(trained) == list(range(total))
    # What an uninterrupted run on one rank sees, in its order.
    whole = source.read(0, total * rows_per_step)
    for step, ranks in trained.items():
        expected = whole.slice(step * rows_per_step, (step + 1) * rows_per_step)
        assert pairs_in([batch for rank in ranks for batch in rank]) == pairs_of(expected)
        assert sum(batch.valid_targets for rank in ranks for batch in rank) == expected.valid_targets
    # An epoch ends within a step where its rows are no multiple of the step's.
    seen = [pair for step in range(total) for rank in trained[step] for pair in pairs_in(rank)]
    size_of_epoch = data.epoch.total()
    assert Counter(seen[:size_of_epoch]) == data.epoch
    assert Counter(seen[size_of_epoch : 2 * size_of_epoch]) == data.epoch


@settings(max_examples=40, deadline=None)
@given(data=documents() | conversations(), ranks=st.integers(1, 5), rows_per_step=st.integers(1, 9))
def test_each_rank_has_rows_of_its_own(data, ranks, rows_per_step):
    total = data.make().rows_per_epoch // rows_per_step
    assume(total)
    trained = launch(data, ranks, range(total), total, rows_per_step, rows_per_step, False)
    by_rank = [Counter(pair for step in trained.values() for pair in pairs_in(step[rank])) for rank in range(ranks)]
    # Within an epoch a pair is there once (in conversations, a target): what one rank has, no other has.
    for one, other in combinations(by_rank, 2):
        assert not one.keys() & other.keys()
    assert sum(by_rank, Counter()) <= data.epoch
    # No rank has more than one row more than another.
    rows = [sum(batch.rows for batch in trained[0][rank]) for rank in range(ranks)]
    assert sum(rows) == rows_per_step
    assert max(rows) - min(rows) <= 1


def token_set(seed: int) -> Data:
    lengths = np.random.default_rng(1).integers(2, 40, (12, 20)).tolist()
    firsts = np.cumsum([1, *(sum(part) - len(part) for part in lengths)])
    files = [token_file(part, int(first)) for part, first in zip(lengths, firsts[:-1], strict=True)]
    return Data(lambda: TokenRows(files, 32, seed, BOS), Counter(file_pairs(files)))


def conversation_set(seed: int) -> Data:
    given = conversations_of(np.random.default_rng(1).integers(4, 30, 200).tolist())
    targets = expected_targets(given, 32, "assistant")
    epoch = Counter({(target - 1, target): count for target, count in targets.items()})
    return Data(lambda: ConversationRows(given, 32, seed), epoch)


EPOCHS = 4


def epochs_of(data: Data) -> list[list[tuple[int, int]]]:
    rows = data.make()
    return [pairs_of(rows.read(epoch * rows.rows_per_epoch, rows.rows_per_epoch)) for epoch in range(EPOCHS)]


def likeness(one: list[tuple[int, int]], other: list[tuple[int, int]]) -> float:
    """Correlation of the places that the same pairs have in two epochs: 1 for the same order, about 0 for none."""
    place = {pair: index for index, pair in enumerate(other)}
    return float(np.corrcoef(np.arange(len(one)), [place[pair] for pair in one])[0, 1])


@pytest.mark.parametrize("make", [token_set, conversation_set])
def test_four_epochs_of_a_small_set_hold_all_of_it_each_in_an_order_of_its_own(make):
    data = make(seed=7)
    epochs = epochs_of(data)
    assert all(Counter(epoch) == data.epoch for epoch in epochs)
    other_seed = epochs_of(make(seed=8))
    for one, other in [*combinations(epochs, 2), *zip(epochs, other_seed, strict=True)]:
        assert one != other
        assert likeness(one, other) < 0.9
    # Files stay together in pretraining, whose shards are shuffled already; on average nothing else does.
    assert abs(np.mean([likeness(one, other) for one, other in combinations(epochs, 2)])) < 0.3


@pytest.mark.parametrize("make", [token_set, conversation_set])
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0, 2.7, 3.99])
def test_the_orders_are_the_same_after_a_restart(make, share):
    data = make(seed=7)
    rows = data.make()
    start, end = int(share * rows.rows_per_epoch), EPOCHS * rows.rows_per_epoch
    whole, resumed = rows.read(0, end), data.make().read(start, end - start)
    for name in ("inputs", "targets", "segments"):
        assert np.array_equal(getattr(whole, name)[start:], getattr(resumed, name))


def test_the_position_in_the_data_is_told_in_words():
    data = token_set(seed=7)
    steps = RowSteps(data.make(), 50, World(0, 0, 1, torch.device("cpu")))
    per_epoch = steps.source.rows_per_epoch
    positions = [steps.read(step).where for step in range(2 * per_epoch // 50)]
    assert positions[0] == f"epoch 1, rows 0 to 49 (an epoch has {per_epoch}, from 0)"
    assert all(one != other for one, other in pairwise(positions))
    assert any("of epoch 2" in position for position in positions)
