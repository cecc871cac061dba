"""What every training stage does around the loop: resume, train, write the checkpoint directory."""

import logging
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from nanochat.artifact import Manifest, Workspace, read_manifest
from nanochat.data.tokenizer import Tokenizer
from nanochat.metrics import Metrics, read_metrics
from nanochat.model.checkpoint import save_model, save_tensors
from nanochat.model.gpt import GPT
from nanochat.model.scaling import Plan, count_parameters, flops_per_token
from nanochat.optim.sharded import MuonAdamW
from nanochat.runtime import (
    World,
    hardware_info,
    measured_matmul_flops,
    peak_flops,
    peak_memory_bytes,
    return_freed_memory,
)
from nanochat.train.acceleration import accelerate
from nanochat.train.checkpoint import StepCheckpoints
from nanochat.train.device_batch import DeviceBatch, DeviceBatchRecord, memory_settings
from nanochat.train.execution import Execution
from nanochat.train.prefetch import Prefetched
from nanochat.train.sources import RowSteps
from nanochat.train.trainer import Cadence, Every, Progress, StepSource, train

log = logging.getLogger(__name__)

OPTIMIZER = "optimizer.safetensors"


def promote_if_finished(workspace: Workspace, world: World) -> Manifest | None:
    """The manifest of a result that only has to be linked into place, or None; equal on all ranks."""
    finished = workspace.finished() if world.is_main else False
    if not world.broadcast_object(finished):
        return None
    return _on_main(workspace.promote, workspace, world)


def _on_main(write: Callable[[], Manifest], workspace: Workspace, world: World) -> Manifest:
    if world.is_main:
        write()
    world.barrier()
    return read_manifest(workspace.out)


@dataclass
class Training:
    """A stage that is ready to train."""

    model: GPT
    tokenizer: Tokenizer
    plan: Plan
    base_plan: Plan
    source: StepSource
    hooks: Sequence[Every]
    samples: Callable[[], str]
    optimizer_state: Mapping[str, Tensor] | None = None
    """State of the stage before, if it is to be kept."""
    keep_optimizer: bool = False
    """Whether the checkpoint directory gets the optimizer's state for the next stage."""
    final_metrics: Callable[[], dict[str, Any]] = dict
    """More for the manifest, measured after the last step."""
    progress: Progress = field(default_factory=Progress)
    """Filled by `run_training`: hooks find there how many rows fit the memory."""


def _history(path: Path) -> dict[str, Any]:
    """First and last value of what is measured now and then, and the mean loss and reward of the last tenth."""
    rows = read_metrics(path)
    found: dict[str, Any] = {}
    measured = {key: None for row in rows for key in row if key.startswith(("val_bpb", "val_loss", "pass_at_1"))}
    for key in measured:
        values = [row[key] for row in rows if key in row]
        found |= {f"initial_{key}": values[0], key: values[-1]}
    for key, name in (("loss", "train_loss"), ("reward", "reward"), ("response_tokens", "response_tokens")):
        values = [row[key] for row in rows if key in row]
        if values:
            last = values[-max(1, len(values) // 10) :]
            found[name] = math.fsum(last) / len(last)
    return found


def run_training(
    training: Training, workspace: Workspace, settings: Mapping[str, Any], execution: Execution, world: World
) -> Manifest:
    """Train from the newest step checkpoint to the end of the plan and promote the checkpoint directory.

    Raises:
        TrainingError, ArtifactError, Interrupted: as `nanochat.train.trainer.train`.
    """
    model, plan = training.model, training.plan
    accelerate(model, execution.compile)
    record = DeviceBatchRecord(workspace.progress, world)
    batch = _fit(training, execution, record, world)
    optimizer = MuonAdamW(model.parameter_groups(), plan, world, dtype=model.dtype)
    checkpoints = StepCheckpoints(workspace.progress, world, execution.keep_checkpoints)
    progress = training.progress
    progress.device_batch_size = batch.rows
    state = checkpoints.load_latest()
    if state is not None:
        vars(progress).update(state.meta)
        progress.device_batch_size = min(progress.device_batch_size, batch.rows)
        model.load_state_dict(_below("model.", state.tensors))
        optimizer.load_state_dict(_below("optimizer.", state.tensors))
        log.info("%s: resuming from step %d of %d", workspace.stage, progress.step, plan.steps)
        del state  # as large as all that is trained
    elif training.optimizer_state is not None:
        optimizer.load_state_dict(training.optimizer_state)
    training.optimizer_state = None  # likewise
    progress.device_batch_size = record.resumed(progress.device_batch_size)
    record.begin(replace(batch, rows=progress.device_batch_size))
    hardware = hardware_info(model.device)
    measured = measured_matmul_flops(model.device, model.dtype) * world.size
    datasheet = peak_flops(str(hardware.get("device", "")))
    peak = datasheet * world.size if datasheet else None
    log.info(
        "%s: %d parameters, %d steps of %d tokens, %.3g FLOPs",
        workspace.stage,
        count_parameters(model.config)["total"],
        plan.steps,
        plan.total_batch_size,
        plan.flops,
    )
    source = training.source
    if isinstance(source, RowSteps):  # others sample from the weights as they are
        source = Prefetched(source, plan.steps, device=model.device)
    history = workspace.progress / "metrics.jsonl"
    metrics = None
    if world.is_main:
        metrics = Metrics(
            history,
            stage=workspace.stage,
            run=execution.run,
            total_steps=plan.steps,
            resume_step=progress.step,
            wandb=execution.wandb,
            wandb_id=f"{workspace.stage}-{workspace.fingerprint}",
            wandb_folder=workspace.out.parent,
            settings=dict(settings),
        )
    try:
        train(
            model,
            optimizer,
            source,
            plan,
            checkpoints=checkpoints,
            cadence=Cadence(execution.checkpoint_steps, execution.checkpoint_minutes),
            metrics=metrics,
            hooks=training.hooks,
            world=world,
            progress=progress,
            peak_flops=peak or measured,
        )
    finally:
        if isinstance(source, Prefetched):
            source.close()
        if metrics is not None:
            metrics.close()
        record.end(replace(batch, rows=progress.device_batch_size))
    # Twice, because a busy neighbour at one of the times would make the machine look slow and the run fast.
    measured = max(measured, measured_matmul_flops(model.device, model.dtype) * world.size)
    more = training.final_metrics()
    optimizer_state = optimizer.state_dict() if training.keep_optimizer else None
    rate = progress.tokens / progress.step_seconds if progress.step_seconds else 0.0
    # Of forward, backward and update alone: RL's rollouts are work of another kind.
    updating = progress.tokens / progress.update_seconds if progress.update_seconds else 0.0
    achieved = updating * flops_per_token(model.config)

    def write() -> Manifest:
        folder = workspace.final
        save_model(folder, model)
        training.tokenizer.save(folder)
        (folder / "samples.md").write_text(training.samples())
        shutil.copyfile(history, folder / "metrics.jsonl")
        if optimizer_state is not None:
            save_tensors(folder / OPTIMIZER, optimizer_state)
        return workspace.finish(
            metrics={
                "parameters": count_parameters(model.config),
                "plan": plan.to_dict(),
                "base_plan": training.base_plan.to_dict(),
                "optimizer_steps": optimizer.steps,
                "tokens_per_second": rate,
                "flops_per_token": flops_per_token(model.config),
                "mfu_datasheet": achieved / peak if peak else None,
                "mfu_measured": achieved / measured,
                "measured_matmul_flops": measured,
                "device_batch_size": progress.device_batch_size,
                "activation_checkpointing": batch.recompute,
                "predicted_memory_bytes": batch.predicted,
                "precision": str(model.dtype).removeprefix("torch."),
                "ranks": world.size,
                **_history(history),
                **more,
            },
            hardware=hardware,
            steps=progress.step,
            tokens=progress.tokens,
            flops=progress.tokens * flops_per_token(model.config),
            wall_seconds=progress.seconds,
            peak_memory_bytes=peak_memory_bytes(model.device),
        )

    return _on_main(write, workspace, world)


def _fit(training: Training, execution: Execution, record: DeviceBatchRecord, world: World) -> DeviceBatch:
    """Choose the rows of a micro-batch, and whether the model recomputes."""
    model, per_rank = training.model, -(-training.plan.rows_per_step // world.size)
    batch = record.choose(model.config, execution, memory_settings(model, world), max(1, per_rank))
    model.recompute = batch.recompute
    if batch.recompute and model.device.type == "cpu":
        return_freed_memory()
    log.info(
        "memory: %d rows of %d tokens per micro-batch%s, about %.1f GB of the %.1f GB that may be used",
        batch.rows,
        model.config.sequence_length,
        ", blocks computed twice" if batch.recompute else "",
        batch.predicted / 1e9,
        batch.usable / 1e9,
    )
    if batch.predicted > batch.usable:
        log.warning("memory: this may not fit; lower device_batch_size, or set it to auto")
    return batch


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
