"""Differences of two models on the same items: what was planted is found, and intervals hold what they promise."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanochat.evaluate.paired import Pairs, compare, compare_means, mcnemar, resampled_means


def planted(items: int, gain: float, loss: float, generator: np.random.Generator, base: float = 0.4) -> Pairs:
    """The second model turns `gain` of the wrong items right and `loss` of the right ones wrong."""
    first = (generator.random(items) < base).astype(float)
    turned = generator.random(items) < np.where(first == 1, loss, gain)
    return Pairs(first, np.where(turned, 1 - first, first), 0.25)


def test_a_planted_difference_is_found_and_none_is_not_made_up():
    generator = np.random.default_rng(1)
    tasks = {"better": planted(600, 0.3, 0.05, generator), "same": planted(600, 0.1, 0.15, generator)}
    found = compare(tasks)
    better, same = found["better"], found["same"]
    assert better.value == pytest.approx(0.16, abs=0.05) and better.value == pytest.approx(better.second - better.first)
    assert 0 < better.low < better.value < better.high and better.p < 0.001 and better.mcnemar < 0.001
    assert same.low < 0 < same.high and same.p > 0.05 and same.mcnemar > 0.05
    mean = compare_means(tasks)
    assert mean.value == pytest.approx((better.value + same.value) / 2 / 0.75)
    assert mean.first == pytest.approx((better.first + same.first - 0.5) / 2 / 0.75)
    assert mean.low > 0 and mean.items == 1200 and mean.mcnemar is None


def test_pairing_sees_what_independent_samples_would_not():
    """Two models right on almost the same items: the interval is far narrower than of independent ones."""
    generator = np.random.default_rng(2)
    pairs = planted(1000, 0.05, 0.0, generator)
    found = compare({"t": pairs})["t"]
    independent = math.sqrt(pairs.first.var() / 1000 + pairs.second.var() / 1000)
    assert (found.high - found.low) / 2 / 1.96 < 0.4 * independent
    assert found.low > 0


def test_drawing_values_by_their_counts_is_drawing_items():
    generator = np.random.default_rng(3)
    values = generator.choice([-1.0, -0.5, 0.0, 0.25, 1.0], size=150, p=[0.1, 0.2, 0.4, 0.2, 0.1])
    means = resampled_means(values, 20_000, (0, 0))
    plain = generator.choice(values, size=(20_000, 150)).mean(axis=1)
    assert means.mean() == pytest.approx(plain.mean(), abs=0.002)
    assert means.std() == pytest.approx(plain.std(), rel=0.03)
    for share in (0.025, 0.5, 0.975):
        assert np.quantile(means, share) == pytest.approx(np.quantile(plain, share), abs=0.006)


def test_intervals_cover_the_truth_as_often_as_they_say():
    generator = np.random.default_rng(4)
    truth = (0.6 * 0.2 - 0.4 * 0.1 + 0.5 * 0.3 - 0.5 * 0.1) / 2 / 0.75
    inside = 0
    for seed in range(400):
        tasks = {"a": planted(150, 0.2, 0.1, generator), "b": planted(60, 0.3, 0.1, generator, base=0.5)}
        found = compare_means(tasks, resamples=1000, seed=seed)
        inside += found.low <= truth <= found.high
    assert 0.915 <= inside / 400 <= 0.985  # 0.95, three standard errors to each side


@pytest.mark.parametrize(("gained", "lost", "expected"), [(0, 0, 1.0), (1, 0, 1.0), (5, 0, 2 / 32), (8, 2, 0.109375)])
def test_mcnemar_is_the_exact_binomial(gained, lost, expected):
    first = np.array([0.0] * gained + [1.0] * lost + [1.0, 0.0] * 7)
    second = np.array([1.0] * gained + [0.0] * lost + [1.0, 0.0] * 7)
    assert mcnemar(first, second) == pytest.approx(expected)
    assert mcnemar(second, first) == pytest.approx(expected)


def test_mcnemar_of_many_items():
    first = np.array([0.0] * 7000 + [1.0] * 6800)
    gap = 200 / math.sqrt(13800)
    assert mcnemar(first, 1 - first) == pytest.approx(math.erfc(gap / math.sqrt(2)), rel=0.05)


@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0.0, 0.5, 1.0])), min_size=1, max_size=40),
    st.integers(0, 2**32),
)
def test_the_other_way_round_is_the_same_with_the_other_sign(values, seed):
    first, second = (np.array(column) for column in zip(*values))
    there = compare({"t": Pairs(first, second)}, resamples=200, seed=seed)["t"]
    back = compare({"t": Pairs(second, first)}, resamples=200, seed=seed)["t"]
    assert there.value == pytest.approx(-back.value)
    assert len(values) < 20 or there.low - 1e-9 <= there.value <= there.high + 1e-9
    assert 0 < there.p <= 1 and there.mcnemar == back.mcnemar
    if (first == second).all():
        assert (there.low, there.high, there.p) == (0.0, 0.0, 1.0)


def test_seeds_and_tasks_do_not_disturb_each_other():
    generator = np.random.default_rng(5)
    a, b = planted(100, 0.2, 0.1, generator), planted(100, 0.2, 0.1, generator)
    alone, beside = compare({"a": a})["a"], compare({"b": b, "a": a})["a"]
    assert alone == beside
    assert compare({"a": a}, seed=1)["a"] != alone


def test_samples_of_an_item_have_no_mcnemar():
    pairs = Pairs(np.array([0.25, 1.0]), np.array([0.5, 1.0]))
    assert compare({"t": pairs})["t"].mcnemar is None
    with pytest.raises(ValueError, match="expected as many items"):
        Pairs(np.array([1.0]), np.array([1.0, 0.0]))
