"""Pretraining: a new model on packed documents."""

from collections.abc import Sequence
from pathlib import Path

from nanochat.artifact import Manifest, Workspace
from nanochat.config.stages import BaseStage
from nanochat.data.loader import TokenRows
from nanochat.data.mixing import MixedRows, mean_by_share, text_rows
from nanochat.data.tokenizer import Tokenizer
from nanochat.data.tokens import TokenFile, read_corpora
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
    val_tokens: Sequence[Path],
    execution: Execution,
    world: World,
    sample_prompts: Sequence[str] = (),
) -> Manifest:
    """Train the base model into `out`.

    Args:
        settings: everything that changes the result.
        out: the checkpoint directory to be.
        tokenizer: tokenizer directory.
        train_tokens: token folders `<corpus>/<shard>`, in order.
        val_tokens: token folder of the validation shard of each corpus.
        execution: how it runs here.
        world: the processes of the launch.
        sample_prompts: prompts for samples.md where the settings name none; without any, beginnings of documents.

    Raises:
        ArtifactError: if an input is missing or damaged, or was made with another tokenizer.
        TrainingError, Interrupted: as `nanochat.train.trainer.train`.
    """
    inputs = {"tokenizer": tokenizer}
    for part, folders in (("train", train_tokens), ("validation", val_tokens)):
        inputs |= {f"{part}/{folder.parent.name}/{folder.name}": folder for folder in folders}
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
        shares = settings.data.mixture
        source = text_rows(
            read_corpora(train_tokens, made_with),
            shares,
            rows=plan.steps * plan.rows_per_step,
            sequence_length=length,
            seed=settings.seed,
            bos=vocabulary.bos,
        )
        held_out = read_corpora(val_tokens, made_with)
        validation = {name: TokenRows(files, length, settings.seed, vocabulary.bos) for name, files in held_out.items()}

        progress = Progress()

        def evaluate() -> dict[str, float]:
            limit, batch = settings.base.eval_tokens, progress.device_batch_size
            found = {
                name: bits_per_byte(model, rows, vocabulary.token_bytes, limit, batch, world)
                for name, rows in validation.items()
            }
            parts = {f"val_bpb_{name}": value for name, value in found.items()} if shares else {}
            return {"val_bpb": mean_by_share(found, shares)} | parts

        first = next(iter(held_out.values()))[0]
        prompts = settings.base.sample_prompts or tuple(sample_prompts) or beginnings(first, vocabulary)
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
                **({"epochs_by_corpus": source.epochs()} if isinstance(source, MixedRows) else {}),
            },
        )
        return run_training(training, workspace, settings.model_dump(mode="json"), execution, world)
