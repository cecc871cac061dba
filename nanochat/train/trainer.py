"""The training loop: pretraining, midtraining, SFT and RL differ in the source of their batches only.

One step: the source gives this rank's rows; the loss is the sum of weighted token losses over the number of valid
targets on all ranks, so that neither ranks nor micro-batches change the result; gradients are summed, looked at,
applied. What is random comes from (seed, step) inside the source.
"""

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch

from nanochat.data.packing import Batch
from nanochat.errors import TrainingError
from nanochat.metrics import Metrics
from nanochat.model.gpt import GPT
from nanochat.model.scaling import Plan, flops_per_token
from nanochat.optim.schedule import lr_multiplier, momentum
from nanochat.optim.sharded import MuonAdamW
from nanochat.runtime import World
from nanochat.train.accumulate import accumulate
from nanochat.train.checkpoint import StepCheckpoints, StepState
from nanochat.train.interrupt import STOPPING, Interrupted, stop_on_signals

log = logging.getLogger(__name__)


@dataclass
class StepBatch:
    """This rank's rows of one step, and what the source wants logged about them (equal on all ranks)."""

    rows: Batch
    metrics: dict[str, float] = field(default_factory=dict)


class StepSource(Protocol):
    """Gives the rows of a step; the same step always gives the same rows."""

    def read(self, step: int) -> StepBatch:
        """Rows of the 0-based `step` for this rank."""
        ...


@dataclass(frozen=True)
class Every:
    """Something measured between steps: after each `steps`-th, after the last, and before the first if `at_start`."""

    steps: int | None
    run: Callable[[], dict[str, float]]
    at_start: bool = False

    def due(self, step: int, total: int) -> bool:
        """Whether it runs after `step` steps."""
        if step == 0:
            return self.at_start
        return step == total or (self.steps is not None and step % self.steps == 0)


@dataclass
class Progress:
    """Counters that a step checkpoint carries."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    step_seconds: float = 0.0
    update_seconds: float = 0.0
    device_batch_size: int = 0


@dataclass(frozen=True)
class Cadence:
    """When step checkpoints are written: by steps, by the clock, or both."""

    steps: int | None
    minutes: float


def train(
    model: GPT,
    optimizer: MuonAdamW,
    source: StepSource,
    plan: Plan,
    *,
    checkpoints: StepCheckpoints,
    cadence: Cadence,
    metrics: Metrics | None,
    hooks: Sequence[Every],
    world: World,
    progress: Progress,
    peak_flops: float | None = None,
) -> Progress:
    """Run the plan from `progress.step` to its end.

    Args:
        model: on its device.
        optimizer: of the model's parameters.
        source: of the steps' rows.
        plan: horizon, schedule, clipping.
        checkpoints: where step checkpoints go.
        cadence: when they are written.
        metrics: of the main rank; None elsewhere.
        hooks: run on every rank, in order; what they return is logged.
        world: the processes of the launch.
        progress: where to start, and what is counted on.
        peak_flops: of all devices together, for mfu.

    Returns:
        The counters at the end.

    Raises:
        TrainingError: if loss or gradient are not finite (before the update), or one row does not fit the memory.
        Interrupted: on SIGTERM or SIGINT, after saving.
    """
    clock, saved_at, last_saved = time.perf_counter(), time.perf_counter(), progress.step
    cost = flops_per_token(model.config)

    def save() -> None:
        nonlocal saved_at, last_saved
        tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
        tensors |= {f"optimizer.{name}": value for name, value in optimizer.state_dict().items()}
        checkpoints.save(StepState(progress.step, tensors, vars(progress).copy()))
        saved_at, last_saved = time.perf_counter(), progress.step

    def run_hooks() -> None:
        for hook in hooks:
            if hook.due(progress.step, plan.steps):
                values = hook.run()
                if metrics is not None and values:
                    metrics.log(progress.step, **values)

    if progress.step == 0:
        run_hooks()
    with stop_on_signals() as request:
        while progress.step < plan.steps:
            started = time.perf_counter()
            batch = source.read(progress.step)
            read = time.perf_counter()
            counts = torch.tensor([batch.rows.valid_targets, batch.rows.tokens], dtype=torch.float64)
            valid, tokens = world.sum_(counts.to(model.device)).tolist()
            size = progress.device_batch_size
            loss, progress.device_batch_size = accumulate(model, optimizer, batch.rows, max(1.0, valid), size)
            norm = float(optimizer.reduce())
            overdue = time.perf_counter() - saved_at > 60 * cadence.minutes
            # One exchange decides for all ranks: the clock of the main one, the signals of any.
            flags = [loss, float(overdue and world.is_main), *(float(request.signal_number == s) for s in STOPPING)]
            summed = world.sum_(torch.tensor(flags, dtype=torch.float64).to(model.device)).tolist()
            loss, overdue = summed[0] / max(1.0, valid), summed[1] > 0
            stop = next((number for number, count in zip(STOPPING, summed[2:], strict=True) if count), None)
            if not (math.isfinite(loss) and math.isfinite(norm)):
                raise TrainingError(
                    f"step {progress.step + 1}: loss {loss:g}, gradient norm {norm:g} are not finite; the weights were "
                    f"not changed. The last step checkpoint is of step {last_saved}, in {checkpoints.folder}. Lower "
                    "the learning rates or set grad_clip, and run again"
                )
            multiplier = lr_multiplier(plan, progress.step)
            if valid:
                clip = 1.0 if plan.grad_clip is None else min(1.0, plan.grad_clip / (norm + 1e-6))
                optimizer.step(multiplier, momentum(plan, progress.step), clip)
            now = time.perf_counter()
            progress.step += 1
            progress.tokens += int(tokens)
            progress.step_seconds += now - started
            progress.update_seconds += now - read
            if metrics is not None:
                rate = tokens / (now - started)
                values = {
                    "loss": loss,
                    "lr": multiplier,
                    "grad_norm": norm,
                    "tokens": progress.tokens,
                    "targets": valid,
                }
                values |= {"tokens_per_second": rate, "seconds": now - started, "seconds_update": now - read}
                if peak_flops:
                    values["mfu"] = tokens / (now - read) * cost / peak_flops
                metrics.log(progress.step, **values, **batch.metrics)
            run_hooks()
            progress.seconds += time.perf_counter() - clock
            clock = time.perf_counter()
            by_steps = cadence.steps is not None and progress.step % cadence.steps == 0
            if by_steps or overdue or stop or progress.step == plan.steps:
                save()
            if stop and progress.step < plan.steps:
                raise Interrupted(stop, progress.step)
    return progress
