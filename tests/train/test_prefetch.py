import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nanochat.data.loader import ConversationRows
from nanochat.data.packing import Batch
from nanochat.runtime import World
from nanochat.train.prefetch import Prefetched
from nanochat.train.sources import RowSteps
from nanochat.train.trainer import StepBatch

ALONE = World(0, 0, 1, torch.device("cpu"))


def conversations() -> list[tuple[list[int], list[int]]]:
    chance = np.random.default_rng(7)
    lengths = chance.integers(2, 40, 60).tolist()
    return [(chance.integers(0, 50, n).tolist(), [1] * n) for n in lengths]


class Watched:
    """Notes which steps are read; fails at one of them."""

    def __init__(self, fails_at: int = -1) -> None:
        self.rows = RowSteps(ConversationRows(conversations(), 32, seed=1), 4, ALONE)
        self.fails_at = fails_at
        self.seen: list[int] = []
        self.was_read: dict[int, threading.Event] = {step: threading.Event() for step in range(100)}
        self._alone = threading.Lock()

    def read(self, step: int) -> StepBatch:
        assert self._alone.acquire(blocking=False), "read by two threads at once"
        try:
            if step == self.fails_at:
                raise ValueError(f"step {step}")
            self.seen.append(step)
            return self.rows.read(step)
        finally:
            self._alone.release()
            self.was_read[step].set()


def assert_equal(a: Batch, b: Batch) -> None:
    for name in ("inputs", "targets", "segments"):
        assert np.array_equal(getattr(a, name), getattr(b, name))


@settings(max_examples=40, deadline=None)
@given(begin=st.integers(0, 20), ahead=st.integers(1, 15), depth=st.integers(1, 4), jumps=st.lists(st.integers(0, 40)))
def test_the_rows_are_those_of_the_source(begin, ahead, depth, jumps):
    direct, source = Watched(), Watched()
    with Prefetched(source, begin + ahead, depth=depth) as fetched:
        for step in [*range(begin, begin + ahead), *jumps]:
            expected, found = direct.read(step), fetched.read(step)
            assert_equal(found.rows, expected.rows)
            assert found.where == expected.where
    if not jumps:
        assert source.seen == list(range(begin, begin + ahead))  # each once, in order, none beyond the plan


def test_the_next_steps_are_read_without_being_asked_for():
    source = Watched()
    with Prefetched(source, 10, depth=2) as fetched:
        fetched.read(0)
        assert source.was_read[2].wait(30)
        assert not source.was_read[3].is_set()
        fetched.read(1)
        assert source.was_read[3].wait(30)
    assert source.seen == [0, 1, 2, 3]


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("prefetch")}


def test_an_error_comes_with_its_step_and_the_thread_ends():
    source = Watched(fails_at=2)
    with pytest.raises(ValueError, match="step 2"), Prefetched(source, 10) as fetched:
        for step in range(10):
            assert threads() or step == 0
            fetched.read(step)
    assert step == 2
    assert not threads()
    fetched.close()  # once more does nothing


def test_a_position_is_told_in_words():
    rows = RowSteps(ConversationRows(conversations(), 32, seed=1), 4, ALONE)
    per_epoch = rows.source.rows_per_epoch
    assert rows.position(0) == f"epoch 1, rows 0 to 3 (an epoch has {per_epoch}, from 0)"
    step = per_epoch // 4
    assert per_epoch % 4, "expected a step across the end"
    end = (step + 1) * 4 - 1 - per_epoch
    assert rows.position(step).startswith(f"epoch 1, rows {step * 4} to {end} of epoch 2")
