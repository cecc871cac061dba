"""The stage base_eval: bits per byte on training and validation text beside a unigram model's, and CORE's tasks."""

import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nanochat.artifact import Manifest, Workspace
from nanochat.config.stages import BaseEvalStage, BaseStage
from nanochat.data.loader import TokenRows
from nanochat.data.mixing import mean_by_share
from nanochat.data.tokens import TokenFile, read_corpora
from nanochat.errors import ArtifactError, DataError
from nanochat.evaluate.bpb import evaluate_loss
from nanochat.evaluate.core import CoreTask, read_bundle
from nanochat.evaluate.core_batches import evaluate_tasks
from nanochat.evaluate.core_tasks import core_extent
from nanochat.evaluate.item_log import FinishedParts, ItemLog
from nanochat.evaluate.opening import open_checkpoint
from nanochat.evaluate.scores import (
    Record,
    Score,
    mean_summary,
    score_records,
    summary_text,
    write_records,
    write_scores,
)
from nanochat.infer.acceleration import accelerate_inference
from nanochat.infer.checkpoint import LoadedModel
from nanochat.runtime import World, hardware_info, peak_memory_bytes

log = logging.getLogger(__name__)

UNIGRAM_TOKENS = 100_000_000
"""Training tokens that the unigram model is counted from, at most."""


def run(
    settings: BaseEvalStage,
    *,
    out: Path,
    model: Path,
    bundle: Path,
    train_tokens: Sequence[Path],
    val_tokens: Sequence[Path],
    world: World,
    device_batch_size: int,
) -> Manifest:
    """Evaluate a base model; an interrupted evaluation goes on with the items that are left.

    Writes scores.json (one score per CORE task) and records.parquet (one row per item). Metrics: `bpb` (train, val,
    unigram), `bpb_tokens` (train, val: how many it was measured on), `core` (score, stderr, tasks, and extent: what
    was left out).

    Args:
        settings: how much is evaluated.
        out: the evaluation's directory.
        model: checkpoint directory of stage base.
        bundle: evaluation bundle.
        train_tokens: token folders `<corpus>/<shard>` of the training shards.
        val_tokens: token folder of the validation shard of each corpus.
        world: the ranks; each takes batches that amount to its share of the tokens.
        device_batch_size: full rows in one forward pass.

    Raises:
        ArtifactError, DataError: if an input is missing or damaged.
    """
    inputs = {"model": model, "bundle": bundle}
    for part, folders in (("train_tokens", train_tokens), ("val_tokens", val_tokens)):
        inputs |= {f"{part}/{path.parent.name}/{path.name}": path for path in folders}
    with Workspace(out, "base_eval", settings, inputs, rank=world.rank) as workspace:
        if world.broadcast_object(world.is_main and workspace.finished()):
            return world.broadcast_object(workspace.promote() if world.is_main else None)
        accelerate_inference(world.device)
        loaded = open_checkpoint(model, "base", workspace, world)
        finished = FinishedParts(workspace.progress)
        bpb = world.broadcast_object(finished.load("bits_per_byte") if world.is_main else None)
        if bpb is None:
            bpb = _bits_per_byte(settings, loaded, train_tokens, val_tokens, world, device_batch_size)
            if world.is_main:
                finished.save("bits_per_byte", bpb)
        tasks = read_bundle(bundle, settings.base_eval.tasks)
        records = evaluate_tasks(
            loaded.model,
            loaded.tokenizer,
            tasks,
            max_items=settings.base_eval.max_items,
            device_batch_size=device_batch_size,
            world=world,
            items=ItemLog(workspace.progress, world.rank),
        )
        scores = [_score(task, records[task.label]) for task in tasks]
        for score in scores:
            log.info("%s %s", score.task, score.text)
        core = mean_summary(scores, core_extent({score.task: (score.items, score.available) for score in scores}))
        log.info("CORE %s", summary_text(core))
        summary = {
            "core": core,
            "bpb": bpb["values"],
            "bpb_tokens": bpb["tokens"],
        }
        manifest = None
        if world.is_main:
            write_scores(workspace.final, scores, summary)
            write_records(workspace.final, records)
            manifest = workspace.finish(
                metrics={
                    "bpb": bpb["values"],
                    "bpb_tokens": bpb["tokens"],
                    "core": {
                        "score": core["value"],
                        "stderr": core["stderr"],
                        "extent": core["extent"],
                        "tasks": {score.task: score.row() for score in scores},
                    },
                },
                hardware=hardware_info(world.device),
                wall_seconds=bpb["seconds"] + sum(score.seconds for score in scores),
                peak_memory_bytes=peak_memory_bytes(world.device),
                logs=("scores.json",),  # holds seconds; the records say the same without
            )
        return world.broadcast_object(manifest)


def _bits_per_byte(
    settings: BaseEvalStage,
    loaded: LoadedModel,
    train_tokens: Sequence[Path],
    val_tokens: Sequence[Path],
    world: World,
    device_batch_size: int,
) -> dict[str, Any]:
    start = time.monotonic()
    digest = loaded.manifest.inputs.get("tokenizer")
    corpora = {"train": read_corpora(train_tokens, digest), "val": read_corpora(val_tokens, digest)}
    context, tokenizer = loaded.model.config.sequence_length, loaded.tokenizer
    limit = settings.base_eval.bpb_tokens
    trained = BaseStage.model_validate(loaded.manifest.settings)
    shares = trained.data.mixture
    result: dict[str, Any] = {}
    tokens: dict[str, int] = {}
    for part, files_of in corpora.items():
        found = {}
        for name, files in files_of.items():
            rows = TokenRows(files, context, trained.seed, tokenizer.bos)  # the first ones are those of training
            loss = evaluate_loss(loaded.model, rows, tokenizer.token_bytes, limit, device_batch_size, world)
            found[name] = loss.bits_per_byte
            tokens[part] = tokens.get(part, 0) + loss.tokens
            if not math.isfinite(loss.nats):
                raise ArtifactError(
                    f"the model's loss on the {part} text of {name} is {loss.nats}, expected a finite number: its "
                    "weights are broken or its training diverged; see its metrics.jsonl, and train it again"
                )
            log.info("%s, %s text: %.4f bits per byte", name, part, found[name])
        result[part] = mean_by_share(found, shares)
        if shares:
            result |= {f"{part}_{name}": value for name, value in found.items()}
    unigram = {
        name: unigram_bits_per_byte(files, corpora["val"][name][0], tokenizer.token_bytes, limit)
        for name, files in corpora["train"].items()
    }
    result["unigram"] = mean_by_share(unigram, shares)
    log.info("unigram model: %.4f bits per byte of the validation text", result["unigram"])
    return {"values": result, "tokens": tokens, "seconds": time.monotonic() - start}


def unigram_bits_per_byte(
    train: Sequence[TokenFile], val: TokenFile, token_bytes: np.ndarray, max_tokens: int
) -> float:
    """Bits per byte of the validation text under the token frequencies of the training text, add-one smoothed.

    What a model reaches that knows which tokens are frequent and nothing else. Special tokens count neither as loss
    nor as bytes, as in the model's own figure.

    Raises:
        DataError: if the validation text is empty.
    """
    counts = np.ones(len(token_bytes), dtype=np.float64)
    left = UNIGRAM_TOKENS
    for file in train:
        counts += np.bincount(file.ids[:left], minlength=len(token_bytes))
        left = max(0, left - len(file.ids))
    text = token_bytes > 0
    bits = -np.log2(counts / counts[text].sum())
    seen = np.bincount(val.ids[:max_tokens], minlength=len(token_bytes))[text]
    size = float((seen * token_bytes[text]).sum())
    if size == 0:
        raise DataError("the validation text is empty; expected at least one document in the last shard")
    return float((seen * bits[text]).sum()) / size


def _score(task: CoreTask, records: Sequence[Record]) -> Score:
    baseline = task.chance if task.baseline is None else task.baseline
    if not math.isfinite(baseline) or baseline >= 1:
        raise DataError(
            f"eval_meta_data.csv: {task.label} has random baseline {100 * baseline}, expected 0 to 99 percent"
        )
    return score_records(
        task.label,
        task.kind,
        records,
        available=len(task.items),
        chance=task.chance,
        baseline=baseline,
        seconds=sum(record["seconds"] for record in records),
        more={
            "baseline": baseline,
            "shots": task.shots,
            "truncated": sum(record["truncated"] for record in records),
            "fallbacks": sum(record["fallback"] for record in records),
        },
    )
