import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanochat.config import BaseSettings, ModelSettings
from nanochat.model.scaling import base_plan
from nanochat.optim.schedule import lr_multiplier, momentum

PLAN = base_plan(12, ModelSettings(), BaseSettings(steps=1000, warmup_ratio=0.1, warmdown_ratio=0.5), 32_768)


def test_up_flat_down():
    values = [lr_multiplier(PLAN, step) for step in range(1000)]
    assert values[0] == pytest.approx(0.01)
    assert values[99] == values[300] == values[499] == 1.0
    assert values[750] == pytest.approx(0.5 * (1 + 0.05))
    assert values[999] == pytest.approx(0.05, abs=0.005)


@given(steps=st.integers(1, 400), warmup=st.floats(0, 0.5), warmdown=st.floats(0, 0.5), final=st.floats(0, 1))
def test_it_stays_within_its_bounds(steps, warmup, warmdown, final):
    plan = replace(
        PLAN,
        steps=steps,
        warmup_steps=round(warmup * steps),
        warmdown_steps=round(warmdown * steps),
        final_lr_ratio=final,
    )
    values = [lr_multiplier(plan, step) for step in range(steps)]
    assert all(0 < value <= 1 for value in values)
    ups = sum(b > a for a, b in itertools.pairwise(values))
    assert ups <= plan.warmup_steps


def test_momentum_rises_and_stays():
    assert momentum(PLAN, 0) == 0.85
    assert momentum(PLAN, 200) == pytest.approx(0.91)
    assert momentum(PLAN, 400) == momentum(PLAN, 900) == pytest.approx(0.97)
    assert momentum(replace(PLAN, momentum_warmup_steps=0), 0) == pytest.approx(0.97)
