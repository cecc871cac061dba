import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanochat.data.splits import held_out

FRACTIONS = st.floats(0.0, 1.0)


@given(st.text(), FRACTIONS, FRACTIONS, st.text())
def test_a_larger_fraction_holds_out_a_superset(key, one, other, salt):
    small, large = sorted((one, other))
    assert not held_out(key, small, salt) or held_out(key, large, salt)


@given(st.text(), st.text())
def test_the_ends_hold_out_nothing_and_everything(key, salt):
    assert not held_out(key, 0.0, salt)
    assert held_out(key, 1.0, salt)


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5])
def test_the_share_is_the_fraction(fraction):
    share = sum(held_out(f"word{index}", fraction) for index in range(20_000)) / 20_000
    assert share == pytest.approx(fraction, abs=0.012)


def test_salts_give_independent_splits():
    keys = [f"key{index}" for index in range(20_000)]
    both = sum(held_out(key, 0.5, "a") and held_out(key, 0.5, "b") for key in keys) / len(keys)
    assert both == pytest.approx(0.25, abs=0.015)


def test_the_split_is_the_same_for_ever():
    # Changing the hash would move items between training and test of every existing run.
    words = ("apple", "banana", "cherry", "grape", "lemon", "melon", "peach", "plum")
    held = [word for word in words if held_out(word, 0.5)]
    assert held == ["banana", "cherry", "lemon", "melon", "peach"]


@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan")])
def test_a_fraction_outside_of_zero_to_one_is_refused(fraction):
    with pytest.raises(ValueError, match="fraction"):
        held_out("key", fraction)
