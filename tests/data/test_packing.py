import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanochat.data.packing import Batch, best_fit, best_fit_full, exact_fit, row_count
from nanochat.errors import DataError

LENGTHS = st.lists(st.integers(0, 90), max_size=60)
CAPACITY = st.integers(1, 40)


def assert_complete(rows, lengths, capacity):
    """Every pair of every item is in exactly one row, and no row is overfull or empty."""
    seen = [np.zeros(length, dtype=int) for length in lengths]
    for row in rows:
        assert 0 < sum(length for _, _, length in row) <= capacity
        for item, start, length in row:
            assert length > 0
            assert start + length <= lengths[item]
            seen[item][start : start + length] += 1
    assert all((count == 1).all() for count in seen)


@given(LENGTHS, CAPACITY)
def test_best_fit_loses_and_doubles_nothing(lengths, capacity):
    assert_complete(best_fit(lengths, capacity), lengths, capacity)


@given(LENGTHS, CAPACITY)
def test_best_fit_splits_only_what_is_longer_than_a_row(lengths, capacity):
    for row in best_fit(lengths, capacity):
        for item, _, length in row:
            assert length == lengths[item] or lengths[item] > capacity


@given(LENGTHS, CAPACITY, st.randoms(use_true_random=False))
def test_number_of_rows_does_not_depend_on_the_order(lengths, capacity, random):
    shuffled = random.sample(lengths, len(lengths))
    assert len(best_fit(lengths, capacity)) == len(best_fit(shuffled, capacity))


@given(LENGTHS, CAPACITY)
def test_best_fit_full_wastes_less_than_one_row(lengths, capacity):
    rows = best_fit_full(lengths, capacity)
    assert_complete(rows, lengths, capacity)
    assert len(rows) == row_count(sum(lengths), capacity)


def test_the_fullest_row_that_fits_is_taken():
    # 7 and 6 open two rows of 10; 3 fits both and belongs to the 7, so that 4 still fits beside the 6.
    assert best_fit([7, 6, 4, 3], 10) == [[(0, 0, 7), (3, 0, 3)], [(1, 0, 6), (2, 0, 4)]]


def test_a_long_item_goes_on_in_later_rows():
    assert best_fit([25, 5], 10) == [[(0, 0, 10)], [(0, 10, 10)], [(0, 20, 5), (1, 0, 5)]]


@pytest.mark.parametrize("sequence_length", [256, 2048])
def test_realistic_lengths_waste_less_than_a_hundredth(sequence_length):
    # Web documents: log-normal, median 400 tokens, mean 700.
    lengths = np.random.default_rng(0).lognormal(6.0, 1.05, 5000).astype(int) + 2
    rows = best_fit(lengths, sequence_length)
    assert 1 - lengths.sum() / (len(rows) * sequence_length) < 0.01


def test_lengths_that_do_not_combine_are_cut_where_rows_must_be_full():
    lengths = [60] * 100
    assert len(best_fit(lengths, 100)) == 100
    assert len(best_fit_full(lengths, 100)) == 60


@pytest.mark.parametrize("sequence_length", [256, 2048])
def test_filling_rows_cuts_hardly_any_realistic_document(sequence_length):
    lengths = np.random.default_rng(0).lognormal(6.0, 1.05, 5000).astype(int) + 2
    pieces = sum(map(len, best_fit_full(lengths, sequence_length)))
    unavoidable = sum(map(len, best_fit(lengths, sequence_length)))
    assert pieces - unavoidable < 0.01 * unavoidable


@pytest.mark.parametrize(("lengths", "capacity", "named"), [([1], 0, "capacity is 0"), ([2, -3], 4, "item 1")])
def test_impossible_arguments_are_named(lengths, capacity, named):
    with pytest.raises(DataError, match=named):
        best_fit(lengths, capacity)


def test_batch_counts_and_slices():
    batch = Batch.padding(3, 4, token=7)
    assert batch.valid_targets == 0
    batch.targets[1, :2] = 5
    part = batch.slice(1, 3)
    assert (part.rows, part.valid_targets, part.weights) == (2, 2, None)
    assert (part.inputs == 7).all()


@given(st.lists(st.integers(0, 40), max_size=60), st.randoms())
def test_exact_fit_loses_doubles_and_cuts_nothing(lengths, chance):
    rows = exact_fit(lengths, 40)
    assert sorted(item for row in rows for item, _, _ in row) == [i for i, length in enumerate(lengths) if length]
    assert all(start == 0 and length == lengths[item] for row in rows for item, start, length in row)
    assert all(0 < sum(length for _, _, length in row) <= 40 for row in rows)
    # No two rows could be one: nothing that fitted was left for later.
    free = sorted(sum(length for _, _, length in row) for row in rows)[:2]
    assert len(free) < 2 or sum(free) > 40
    chance.shuffle(lengths)
    assert len(exact_fit(lengths, 40)) == len(rows)


def test_exact_fit_completes_rows_of_conversations():
    lengths = np.random.default_rng(0).integers(50, 300, 5000)
    rows = exact_fit(lengths, 512)
    assert 1 - lengths.sum() / (512 * len(rows)) < 0.002
    assert len(rows) < len(best_fit(lengths, 512))


@pytest.mark.parametrize(("lengths", "capacity"), [([41], 40), ([-1], 40), ([1], 0)])
def test_exact_fit_names_what_cannot_be_packed(lengths, capacity):
    with pytest.raises(DataError, match="expected"):
        exact_fit(lengths, capacity)
