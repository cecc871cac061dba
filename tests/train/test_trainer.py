import math
import os
import signal

import numpy as np
import pytest
import torch

from nanochat.config import BaseSettings, ModelSettings
from nanochat.data.packing import Batch
from nanochat.errors import ArtifactError, TrainingError
from nanochat.metrics import Metrics, read_metrics
from nanochat.model.gpt import GPT
from nanochat.model.scaling import base_plan, model_config
from nanochat.optim.sharded import MuonAdamW
from nanochat.runtime import World
from nanochat.train.checkpoint import StepCheckpoints
from nanochat.train.interrupt import Interrupted
from nanochat.train.sources import RowSteps
from nanochat.train.trainer import Cadence, Every, Progress, StepBatch, train

ALONE = World(0, 0, 1, torch.device("cpu"))
MODEL = ModelSettings(sequence_length=32, aspect_ratio=16, head_dim=16)
PLAN = base_plan(2, MODEL, BaseSettings(steps=6, total_batch_size=256), 64)


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """Relative to the size of the tensor: Adam turns single gradients that are all rounding into whole steps."""
    return float((a.double() - b.double()).norm() / b.double().norm().clamp(min=1e-9))


class Counting:
    """Rows of one repeating pattern, with a random part and some ignored targets."""

    sequence_length = 32
    rows_per_epoch = 1000

    def read(self, start: int, count: int) -> Batch:
        rows = [np.random.default_rng([1, row]).integers(0, 32, 33) for row in range(start, start + count)]
        ids = np.array(rows, dtype=np.int32).reshape(count, 33)
        ids[:, ::2] = 40
        targets = ids[:, 1:].copy()
        targets[:, :3] = -1
        return Batch(ids[:, :-1], targets, np.zeros((count, 32), dtype=np.int32))


def start(tmp_path, device_batch_size=8, plan=PLAN, source=None, hooks=(), cadence=None, model_type=GPT):
    model = model_type(model_config(2, MODEL, 64))
    model.init_weights(0)
    optimizer = MuonAdamW(model.parameter_groups(), plan, ALONE, dtype=model.dtype)
    metrics = Metrics(tmp_path / "metrics.jsonl", stage="base", run="test", total_steps=plan.steps)
    progress = Progress(device_batch_size=device_batch_size)
    try:
        train(
            model,
            optimizer,
            source or RowSteps(Counting(), plan.rows_per_step, ALONE),
            plan,
            checkpoints=StepCheckpoints(tmp_path, ALONE),
            cadence=cadence or Cadence(None, 60.0),
            metrics=metrics,
            hooks=hooks,
            world=ALONE,
            progress=progress,
        )
    finally:
        metrics.close()
    return model, progress


def logged(folder) -> list[dict[str, float]]:
    """The rows of the steps."""
    return [row for row in read_metrics(folder / "metrics.jsonl") if "loss" in row]


def test_loss_falls_and_is_the_mean_over_valid_targets(tmp_path):
    _, progress = start(tmp_path)
    rows = logged(tmp_path)
    assert rows[0]["loss"] == pytest.approx(math.log(64), abs=0.01)
    assert rows[-1]["loss"] < rows[0]["loss"] - 0.2
    assert progress.tokens == rows[-1]["tokens"] == 6 * 8 * 32
    assert rows[-1]["targets"] == 8 * 29
    assert all(0 <= row["seconds_data"] <= row["seconds"] for row in rows)


def test_micro_batches_do_not_change_the_model(tmp_path):
    weights = []
    for size in (8, 3):
        folder = tmp_path / str(size)
        folder.mkdir()
        weights.append(start(folder, size)[0].state_dict())
    for name, value in weights[0].items():
        assert distance(value, weights[1][name]) < 1e-3, name


class Hungry(GPT):
    """Runs out of memory with more than two rows."""

    def weighted_loss(self, tokens, targets, weights, segments=None):
        result = super().weighted_loss(tokens, targets, weights, segments)
        if tokens.shape[0] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return result


def test_out_of_memory_halves_the_batch_and_keeps_the_model(tmp_path):
    for name in ("small", "hungry"):
        (tmp_path / name).mkdir()
    small, _ = start(tmp_path / "small", 2)
    hungry, progress = start(tmp_path / "hungry", 8, model_type=Hungry)
    assert progress.device_batch_size == 2
    assert StepCheckpoints(tmp_path / "hungry", ALONE).load_latest().meta["device_batch_size"] == 2
    for name, value in small.state_dict().items():
        assert torch.equal(value, hungry.state_dict()[name])


class Starved(GPT):
    """Has no memory at all."""

    def weighted_loss(self, tokens, targets, weights, segments=None):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")


def test_no_memory_for_one_row_is_one_clear_error(tmp_path):
    with pytest.raises(TrainingError, match="single row of 32 tokens"):
        start(tmp_path, model_type=Starved)


class Poisoned:
    """Weights of one step's losses are not a number."""

    def __init__(self, at: int) -> None:
        self.at, self.rows = at, RowSteps(Counting(), 8, ALONE)

    def read(self, step: int) -> StepBatch:
        batch = self.rows.read(step)
        value = np.nan if step == self.at else 1.0
        batch.rows.weights = np.full(batch.rows.inputs.shape, value, dtype=np.float32)
        return batch


def test_the_time_that_saving_takes_is_logged(tmp_path):
    start(tmp_path, cadence=Cadence(4, 60.0))
    rows = [row for row in read_metrics(tmp_path / "metrics.jsonl") if "seconds_saving" in row]
    assert [row["step"] for row in rows] == [4, 6]
    assert StepCheckpoints(tmp_path, ALONE).load_latest().meta["seconds"] > sum(
        row["seconds"] for row in logged(tmp_path)
    )


def test_a_checkpoint_that_cannot_be_written_stops_training(tmp_path):
    (tmp_path / "steps").write_text("in the way")
    with pytest.raises(ArtifactError, match="step 2 cannot be written"):
        start(tmp_path, cadence=Cadence(2, 60.0))
    assert len(logged(tmp_path)) <= 4  # the next save has to know, if no step before it did


def test_a_loss_that_is_not_finite_stops_before_the_update(tmp_path):
    with pytest.raises(TrainingError, match=r"step 4: .*epoch 1, rows 24 to 31 .*step checkpoint is of step 2"):
        start(tmp_path, source=Poisoned(3), cadence=Cadence(2, 60.0))
    assert [row["step"] for row in logged(tmp_path)] == [1, 2, 3]
    saved = StepCheckpoints(tmp_path, ALONE).load_latest()
    assert saved.step == 2
    assert all(value.isfinite().all() for value in saved.tensors.values())


class Signalled:
    """Gets a signal while a step's rows are read."""

    def __init__(self, at: int, number: int) -> None:
        self.at, self.number, self.rows = at, number, RowSteps(Counting(), 8, ALONE)

    def read(self, step: int) -> StepBatch:
        if step == self.at:
            os.kill(os.getpid(), self.number)
        return self.rows.read(step)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_stops(tmp_path, number, code):
    before = signal.getsignal(number)
    with pytest.raises(Interrupted) as stopped:
        start(tmp_path, source=Signalled(2, number))
    assert stopped.value.code == code
    assert StepCheckpoints(tmp_path, ALONE).load_latest().step == 2
    assert signal.getsignal(number) is before


class Terminated(GPT):
    """Gets a signal in the first of two micro-batches of the fourth step."""

    calls = 0

    def weighted_loss(self, tokens, targets, weights, segments=None):
        self.calls += 1
        if self.calls == 7:
            os.kill(os.getpid(), signal.SIGTERM)
        assert self.calls <= 7, "the step was not abandoned"
        return super().weighted_loss(tokens, targets, weights, segments)


def test_a_signal_within_a_step_abandons_it_and_saves_the_one_before(tmp_path):
    with pytest.raises(Interrupted) as stopped:
        start(tmp_path, 4, model_type=Terminated)
    assert stopped.value.step == 3
    saved = StepCheckpoints(tmp_path, ALONE).load_latest()
    assert (saved.step, saved.meta["step"], saved.meta["tokens"]) == (3, 3, 3 * 8 * 32)
    assert len(logged(tmp_path)) == 3
    # Its weights are those of a run that saved after the third step.
    (tmp_path / "other").mkdir()
    with pytest.raises(TrainingError):
        start(tmp_path / "other", 4, source=Poisoned(3), cadence=Cadence(3, 60.0))
    other = StepCheckpoints(tmp_path / "other", ALONE).load_latest()
    assert other.tensors.keys() == saved.tensors.keys()
    assert all(torch.equal(value, saved.tensors[name]) for name, value in other.tensors.items())


def test_hooks_run_when_due(tmp_path):
    seen = []
    hooks = [
        Every(4, lambda: seen.append("four") or {"val_bpb": 1.0}, at_start=True),
        Every(None, lambda: seen.append("end") or {}),
    ]
    start(tmp_path, hooks=hooks)
    assert seen == ["four", "four", "four", "end"]
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl") if "val_bpb" in row] == [0, 4, 6]


class Empty:
    """Steps without a single target, as when every RL group is uniform."""

    def read(self, step: int) -> StepBatch:
        batch = Counting().read(step, 2)
        batch.targets[:] = -1
        return StepBatch(batch.slice(0, 0) if step % 2 else batch)


def test_a_step_without_targets_changes_nothing(tmp_path):
    model, progress = start(tmp_path, source=Empty())
    fresh = GPT(model.config)
    fresh.init_weights(0)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), fresh.parameters(), strict=True))
    assert progress.tokens == 0


class Sampling:
    """Rows that take long to make, as RL's: asks every now and then whether it is still wanted."""

    def __init__(self, at: int) -> None:
        self.at, self.rows = at, RowSteps(Counting(), 8, ALONE)

    def watch(self, before_token) -> None:
        self.ask = before_token

    def read(self, step: int) -> StepBatch:
        if step == self.at:
            os.kill(os.getpid(), signal.SIGTERM)
        self.ask()
        assert step < self.at, "a step that was given up is not made"
        return self.rows.read(step)


def test_a_signal_ends_the_making_of_a_steps_rows(tmp_path):
    with pytest.raises(Interrupted):
        start(tmp_path, source=Sampling(3))
    assert StepCheckpoints(tmp_path, ALONE).load_latest().step == 3
