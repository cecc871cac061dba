"""Pretraining: a new model on packed documents."""

from collections.abc import Sequence
from pathlib import Path

from nanochat.artifact import Manifest, Workspace
from nanochat.config.stages import BaseStage
from nanochat.data.loader import TokenRows
from nanochat.data.tokenizer import Tokenizer
from nanochat.data.tokens import TokenFile
from nanochat.evaluate.bpb import bits_per_byte
from nanochat.model.gpt import GPT
from nanochat.model.scaling import base_plan, model_config
from nanochat.runtime import World, compute_dtype, set_deterministic
from nanochat.train.execution import Execution
from nanochat.train.samples import continuations
from nanochat.train.sources import RowSteps
from nanochat.train.stage import Training, promote_if_finished, run_training
from nanochat.train.trainer import Every, Progress


def beginnings(tokens: TokenFile, tokenizer: Tokenizer, count: int = 4, length: int = 8) -> tuple[str, ...]:
    """First few tokens of the first documents: prompts for a text nobody named prompts for."""
    documents = (
        tokens.ids[start : start + length + 1].tolist()
        for start in tokens.offsets[: min(count, len(tokens.offsets) - 1)]
    )
    return tuple(tokenizer.decode(ids, skip_special=True) for ids in documents)


def run(
    settings: BaseStage,
    *,
    out: Path,
    tokenizer: Path,
    train_tokens: Sequence[Path],
    val_tokens: Path,
    execution: Execution,
    world: World,
    sample_prompts: Sequence[str] = (),
) -> Manifest:
    """Train the base model into `out`.

    Args:
        settings: everything that changes the result.
        out: the checkpoint directory to be.
        tokenizer: tokenizer directory.
        train_tokens: token folders, in order.
        val_tokens: token folder of the validation shard.
        execution: how it runs here.
        world: the processes of the launch.
        sample_prompts: prompts for samples.md where the settings name none; without any, beginnings of documents.

    Raises:
        ArtifactError: if an input is missing or damaged, or was made with another tokenizer.
        TrainingError, Interrupted: as `nanochat.train.trainer.train`.
    """
    shards = {f"train/{folder.name}": folder for folder in train_tokens}
    inputs = {"tokenizer": tokenizer, **shards, f"validation/{val_tokens.name}": val_tokens}
    with Workspace(out, "base", settings, inputs, rank=world.rank) as workspace:
        finished = promote_if_finished(workspace, world)
        if finished is not None:
            return finished
        set_deterministic(settings.seed)
        vocabulary = Tokenizer.load(tokenizer)
        made_with = workspace.inputs["tokenizer"]
        config = model_config(settings.depth, settings.model, vocabulary.vocab_size)
        plan = base_plan(settings.depth, settings.model, settings.base, vocabulary.vocab_size)
        model = GPT(config)
        model.init_weights(settings.seed)
        model.to(world.device)
        model.dtype = compute_dtype(config.precision, world.device)
        length = config.sequence_length
        files = [TokenFile.read(folder, made_with) for folder in train_tokens]
        source = TokenRows(files, length, settings.seed, vocabulary.bos)
        held_out = TokenFile.read(val_tokens, made_with)
        validation = TokenRows([held_out], length, settings.seed, vocabulary.bos)
        token_bytes = vocabulary.token_bytes

        progress = Progress()

        def evaluate() -> dict[str, float]:
            batch = progress.device_batch_size
            return {"val_bpb": bits_per_byte(model, validation, token_bytes, settings.base.eval_tokens, batch, world)}

        prompts = settings.base.sample_prompts or tuple(sample_prompts) or beginnings(held_out, vocabulary)
        training = Training(
            model=model,
            tokenizer=vocabulary,
            plan=plan,
            base_plan=plan,
            source=RowSteps(source, plan.rows_per_step, world),
            hooks=[Every(settings.base.eval_every, evaluate, at_start=True)],
            samples=lambda: continuations(model, vocabulary, prompts),
            keep_optimizer=True,
            progress=progress,
            final_metrics=lambda: {
                "rows_per_epoch": source.rows_per_epoch,
                "epochs": plan.steps * plan.rows_per_step / source.rows_per_epoch,
            },
        )
        return run_training(training, workspace, settings.model_dump(mode="json"), execution, world)
