"""Midtraining and SFT: the pretraining loop on packed conversations of a task mixture."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from nanochat.artifact import Manifest, Workspace, read_manifest
from nanochat.config import FinetuneSettings
from nanochat.config.stages import MidStage, SftStage
from nanochat.data.loader import ConversationRows
from nanochat.data.tokenizer import Tokenizer
from nanochat.errors import DataError
from nanochat.evaluate.bpb import evaluate_loss
from nanochat.model.checkpoint import load_model, load_tensors
from nanochat.model.gpt import GPT
from nanochat.model.scaling import Plan, finetune_plan
from nanochat.runtime import World, set_deterministic
from nanochat.train.execution import Execution
from nanochat.train.mixture import Mixture, Rendered, TaskFolders, build, shown_conversations
from nanochat.train.samples import answers
from nanochat.train.sources import RowSteps
from nanochat.train.stage import OPTIMIZER, Training, promote_if_finished, run_training
from nanochat.train.trainer import Every, Progress

_BEFORE = {"mid": ("base",), "sft": ("mid", "base")}


def _mixture(
    workspace: Workspace, settings: FinetuneSettings, folders: TaskFolders, tokenizer: Tokenizer, world: World
) -> Mixture:
    """The rendered mixture, from the in-progress folder where an interrupted run has left it."""
    path = workspace.progress / "conversations.npz"
    if world.is_main and not path.exists():
        build(settings, folders, tokenizer).save(path)
    world.barrier()
    return Mixture.load(path)


class _Validation:
    """Loss on the held-out conversations, on what the assistant says, whatever the stage trains on."""

    def __init__(self, held_out: Mapping[str, list[Rendered]], length: int, token_bytes: Any, max_tokens: int) -> None:
        self.token_bytes, self.max_tokens = token_bytes, max_tokens
        self.tasks: dict[str, ConversationRows] = {}
        for name, conversations in held_out.items():
            try:
                self.tasks[name] = ConversationRows(conversations, length, 0)
            except DataError:
                continue  # few and long: nothing of the assistant's within the context
        together = [conversation for name in self.tasks for conversation in held_out[name]]
        self.all = ConversationRows(together, length, 0) if together else None

    def overall(self, model: GPT, batch: int, world: World) -> dict[str, float]:
        """val_bpb and val_loss (nats per token) of all tasks together."""
        if self.all is None:
            return {}
        loss = evaluate_loss(model, self.all, self.token_bytes, self.max_tokens, batch, world)
        return {"val_bpb": loss.bits_per_byte, "val_loss": loss.nats_per_token}

    def by_task(self, model: GPT, batch: int, world: World) -> dict[str, float]:
        """Nats per token of each task."""
        return {
            name: evaluate_loss(model, rows, self.token_bytes, self.max_tokens, batch, world).nats_per_token
            for name, rows in self.tasks.items()
        }


def kept_optimizer(init: Path, settings: FinetuneSettings, model: GPT) -> dict[str, Tensor] | None:
    """Optimizer state of the checkpoint before, if it is wanted and there."""
    if not settings.keep_optimizer or not (init / OPTIMIZER).exists():
        return None
    return load_tensors(init / OPTIMIZER, model.device)


def run(
    stage: Literal["mid", "sft"],
    settings: MidStage | SftStage,
    *,
    out: Path,
    init: Path,
    data: Path,
    execution: Execution,
    world: World,
    own_data: Path | None = None,
) -> Manifest:
    """Train a checkpoint on conversations into `out`.

    Args:
        stage: which of the two.
        settings: everything that changes the result.
        out: the checkpoint directory to be.
        init: checkpoint directory to start from.
        data: data folder with the files of the mixture's tasks.
        execution: how it runs here.
        world: the processes of the launch.
        own_data: folder of the user's own conversations and persona, for the tasks that are not in the catalogue.

    Raises:
        ArtifactError: if `init` is missing, damaged or of a wrong stage, or a task file is missing.
        DataError: if a task file does not have the expected schema.
        TrainingError, Interrupted: as `nanochat.train.trainer.train`.
    """
    own: FinetuneSettings = getattr(settings, stage)
    before = read_manifest(init, _BEFORE[stage])
    folders = TaskFolders(data, own_data)
    inputs = {"init": init, **folders.files(own.mixture)}
    with Workspace(out, stage, settings, inputs, rank=world.rank) as workspace:
        finished = promote_if_finished(workspace, world)
        if finished is not None:
            return finished
        set_deterministic(settings.seed)
        tokenizer = Tokenizer.load(init)
        model = load_model(init, world.device)
        length = model.config.sequence_length
        mixture = _mixture(workspace, own, folders, tokenizer, world)
        source = ConversationRows(mixture.training(own, settings.seed), length, settings.seed, own.train_on)
        optimizer_state = kept_optimizer(init, own, model)
        seen_steps = 0 if optimizer_state is None else int(optimizer_state["steps"])
        base_plan = Plan.from_dict(before.metrics["base_plan"])
        plan = finetune_plan(base_plan, own, source.rows_per_epoch, model.config, seen_steps)
        validation = _Validation(mixture.validation(), length, tokenizer.token_bytes, own.eval_tokens)
        progress = Progress()

        def evaluate() -> dict[str, float]:
            return validation.overall(model, progress.device_batch_size, world)

        training = Training(
            model=model,
            tokenizer=tokenizer,
            plan=plan,
            base_plan=base_plan,
            source=RowSteps(source, plan.rows_per_step, world),
            hooks=[Every(own.eval_every, evaluate, at_start=True)],
            samples=lambda: answers(model, tokenizer, shown_conversations(mixture, folders)),
            optimizer_state=optimizer_state,
            keep_optimizer=stage == "mid",
            progress=progress,
            final_metrics=lambda: {
                "val_loss_by_task": validation.by_task(model, progress.device_batch_size, world),
                "rows_per_epoch": source.rows_per_epoch,
                "padding": source.waste,
                "conversations_cut": source.cut,
                "conversations_dropped": source.dropped,
                "epochs": plan.steps * plan.rows_per_step / source.rows_per_epoch,
                "conversations": {name: count for name, (_, count) in mixture.parts.items()},
                "passes": mixture.passes(own),
            },
        )
        del optimizer_state  # large, and of no use once it is loaded
        return run_training(training, workspace, settings.model_dump(mode="json"), execution, world)
