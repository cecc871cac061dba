"""The training loop: pretraining, midtraining, SFT and RL differ in the source of their batches only.

One step: the source gives this rank's rows; the loss is the sum of weighted token losses over the number of valid
targets on all ranks, so that neither ranks nor micro-batches change the result; gradients are summed, looked at,
applied. What is random comes from (seed, step) inside the source.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from nanochat.data.packing import Batch
from nanochat.errors import TrainingError
from nanochat.metrics import Metrics
from nanochat.model.gpt import GPT
from nanochat.model.scaling import Plan, flops_per_token
from nanochat.optim.schedule import lr_multiplier, momentum
from nanochat.optim.sharded import MuonAdamW
from nanochat.runtime import World
from nanochat.train.accumulate import accumulate
from nanochat.train.checkpoint import StepCheckpoints
from nanochat.train.interrupt import STOPPING, Interrupted, StepAbandoned, StopRequest, stop_on_signals

log = logging.getLogger(__name__)


@dataclass
class StepBatch:
    """This rank's rows of one step, and what the source says about them (equal on all ranks).

    Attributes:
        metrics: logged with the step.
        where: in words, the position in the data of all ranks' rows, for errors.
    """

    rows: Batch
    metrics: dict[str, float] = field(default_factory=dict)
    where: str | None = None


class StepSource(Protocol):
    """Gives the rows of a step; the same step always gives the same rows."""

    def read(self, step: int) -> StepBatch:
        """Rows of the 0-based `step` for this rank."""
        ...


@runtime_checkable
class Watched(Protocol):
    """A source whose reading takes long enough to be given up in the middle."""

    def watch(self, before_token: Callable[[], None]) -> None:
        """Have `before_token` called every now and then; it may raise `StepAbandoned`."""
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
        ArtifactError: if a step checkpoint cannot be written; raised one or more steps later.
        Interrupted: on SIGTERM or SIGINT, after saving the last completed step.
    """
    clock, saved_at, last_saved = time.perf_counter(), time.perf_counter(), progress.step
    cost = flops_per_token(model.config)

    def tensors() -> Iterator[tuple[str, Tensor]]:
        yield from ((f"model.{name}", value) for name, value in model.state_dict().items())
        yield from ((f"optimizer.{name}", value) for name, value in optimizer.state_items())

    def tick() -> None:
        nonlocal clock
        now = time.perf_counter()
        progress.seconds, clock = progress.seconds + now - clock, now

    def save() -> None:
        nonlocal saved_at, last_saved
        tick()
        checkpoints.save(progress.step, tensors(), vars(progress).copy())
        saved_at, last_saved = time.perf_counter(), progress.step
        if metrics is not None:
            # A row of its own: that of the step must be there before its checkpoint is.
            metrics.log(progress.step, seconds_saving=saved_at - clock)

    def run_hooks() -> None:
        for hook in hooks:
            if hook.due(progress.step, plan.steps):
                values = hook.run()
                if metrics is not None and values:
                    metrics.log(progress.step, **values)

    if progress.step < plan.steps:
        checkpoints.reserve(tensors())
    if progress.step == 0:
        run_hooks()
    with stop_on_signals() as request, checkpoints:
        # Ranks are at different places of a step when a signal comes: several of them finish it together.
        should_stop = (lambda: request.made) if world.size == 1 else None
        if world.size == 1 and isinstance(source, Watched):
            source.watch(request.abandon)
        while True:
            overdue = time.perf_counter() - saved_at > 60 * cadence.minutes
            stop, overdue = _agree(world, request, overdue)
            by_steps = cadence.steps is not None and progress.step % cadence.steps == 0
            finished = progress.step >= plan.steps
            if progress.step > last_saved and (by_steps or overdue or stop or finished):
                save()
            if stop:
                checkpoints.wait()
                world.barrier()  # the launcher ends all ranks when the first has ended: the main one is the last
                raise Interrupted(stop, progress.step)
            if finished:
                break
            checkpoints.check()

            started = time.perf_counter()
            try:
                batch = source.read(progress.step)
            except StepAbandoned:
                continue
            read = time.perf_counter()
            # Both counts stay on the host, where nothing has to wait for a GPU.
            counts = [batch.rows.valid_targets, batch.rows.tokens, *([0] * world.size)]
            counts[2 + world.rank] = progress.device_batch_size
            valid, tokens, *sizes = world.sum_(torch.tensor(counts, dtype=torch.float64)).tolist()
            # A rank may have run out of memory: all follow, so that the one number in the checkpoint is everyone's.
            size = int(min(sizes))
            done = accumulate(model, optimizer, batch.rows, max(1.0, valid), size, should_stop)
            if done is None:  # the weights are still those of the step before
                continue
            summed, progress.device_batch_size = done
            norm = optimizer.reduce()
            # The one place of a step where the host waits for a GPU.
            loss, norm = torch.stack([world.sum_(summed), norm.double()]).tolist()
            loss /= max(1.0, valid)
            if not (math.isfinite(loss) and math.isfinite(norm)):
                checkpoints.wait()  # it is named as good
                raise _not_finite(progress.step + 1, batch.where, loss, norm, last_saved, checkpoints)
            multiplier = lr_multiplier(plan, progress.step)
            if valid:
                clip = 1.0 if plan.grad_clip is None else min(1.0, plan.grad_clip / (norm + 1e-6))
                checkpoints.before_update()
                optimizer.step(multiplier, momentum(plan, progress.step), clip, wait=False)
            now = time.perf_counter()
            progress.step += 1
            progress.tokens += int(tokens)
            progress.step_seconds += now - started
            progress.update_seconds += now - read
            if metrics is not None:
                values = {
                    "loss": loss,
                    "lr": multiplier,
                    "grad_norm": norm,
                    "tokens": progress.tokens,
                    "targets": valid,
                    "tokens_per_second": tokens / (now - started),
                    "seconds": now - started,
                    "seconds_data": read - started,
                    "seconds_update": now - read,
                }
                if peak_flops:
                    values["mfu"] = tokens / (now - read) * cost / peak_flops
                metrics.log(progress.step, **values, **batch.metrics)
            optimizer.wait()
            run_hooks()
    tick()
    return progress


def _agree(world: World, request: StopRequest, overdue: bool) -> tuple[int, bool]:
    """One decision for all ranks: the signal that any has got (0: none), and the clock of the main one."""
    flags = torch.tensor([overdue and world.is_main, *(request.signal_number == number for number in STOPPING)])
    late, *signals = world.sum_(flags.double()).tolist()
    stop = next((number for number, count in zip(STOPPING, signals, strict=True) if count), 0)
    return stop, late > 0


def _not_finite(
    step: int, where: str | None, loss: float, norm: float, last_saved: int, checkpoints: StepCheckpoints
) -> TrainingError:
    place = f" on the data of {where}" if where else ""
    saved = f"The last step checkpoint is of step {last_saved}, in {checkpoints.folder}"
    if not last_saved:
        saved = "There is no step checkpoint yet"
    return TrainingError(
        f"step {step}: loss {loss:g}, gradient norm {norm:g} are not finite{place}; the weights were not changed. "
        f"{saved}. Lower the learning rates or set grad_clip, and run again"
    )
