"""The stage chat_eval: chat tasks by likeliest letter or by generation, with a record of every item."""

import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nanochat.artifact import Manifest, Workspace
from nanochat.config import ChatTaskSettings, load_catalogue
from nanochat.config.stages import ChatEvalStage
from nanochat.errors import ConfigError
from nanochat.evaluate.asking import Answered, Question, by_letter, by_reply
from nanochat.evaluate.item_log import ItemLog
from nanochat.evaluate.opening import open_checkpoint
from nanochat.evaluate.recorder import Recorder, merge_records
from nanochat.evaluate.scores import (
    Record,
    Score,
    extent,
    mean_summary,
    score_records,
    summary_text,
    write_records,
    write_scores,
)
from nanochat.evaluate.tasks import Task, load_task
from nanochat.infer.acceleration import accelerate_inference
from nanochat.infer.checkpoint import LoadedModel
from nanochat.runtime import World, hardware_info, peak_memory_bytes

log = logging.getLogger(__name__)


def run(
    settings: ChatEvalStage,
    *,
    stage: str,
    out: Path,
    model: Path,
    data: Path,
    world: World,
    device_batch_size: int,
) -> Manifest:
    """Evaluate a chat model; an interrupted evaluation goes on with the items that are left.

    Writes scores.json and records.parquet. Metrics: `tasks` (task → score), and `chat_core` where all six tasks of
    ChatCORE were run, else `chat_score`, the mean centred score of the tasks that were; with `…_stderr` and
    `…_extent`, what was left out.

    Args:
        settings: tasks, how many items of each, and how replies are drawn.
        stage: of the checkpoint: mid, sft or rl.
        out: the evaluation's directory.
        model: checkpoint directory.
        data: data folder, laid out like the hub.
        world: the ranks; each takes every size-th of the items that are left.
        device_batch_size: rows generated at a time, or full rows in one forward pass.

    Raises:
        ArtifactError, DataError: if an input is missing or damaged.
        ConfigError: if a task cannot be scored, or there is none.
    """
    chosen = settings.chat_eval.tasks
    if not chosen:
        raise ConfigError("chat_eval.tasks is empty; list at least one task, or leave chat evaluation out")
    tasks = {name: _scored_task(name, how, data) for name, how in chosen.items()}
    catalogue = load_catalogue()
    files = {path: data / path for name in chosen for path in catalogue.tasks[name].test}
    with Workspace(out, "chat_eval", settings, {"model": model, **files}, rank=world.rank) as workspace:
        if world.broadcast_object(world.is_main and workspace.finished()):
            return world.broadcast_object(workspace.promote() if world.is_main else None)
        accelerate_inference(world.device)
        loaded = open_checkpoint(model, stage, workspace, world)
        records = _records(settings, loaded, tasks, ItemLog(workspace.progress, world.rank), world, device_batch_size)
        if not world.is_main:
            return world.broadcast_object(None)
        scores = [_score(tasks[name], records[name]) for name in chosen]
        for score in scores:
            log.info("%s %s", score.task, score.text)
        name, summary = _headline(scores)
        log.info("%s %s", name, summary_text(summary))
        write_scores(workspace.final, scores, {name: summary})
        write_records(workspace.final, records)
        manifest = workspace.finish(
            metrics={
                name: summary["value"],
                f"{name}_stderr": summary["stderr"],
                f"{name}_extent": summary["extent"],
                "tasks": {score.task: score.row() for score in scores},
            },
            hardware=hardware_info(world.device),
            wall_seconds=sum(score.seconds for score in scores),
            peak_memory_bytes=peak_memory_bytes(world.device),
            logs=("scores.json",),  # holds seconds; the records say the same without
        )
        return world.broadcast_object(manifest)


def _scored_task(name: str, how: ChatTaskSettings, data: Path) -> Task:
    task = load_task(name, "test", data)
    if task.metric is None:
        raise ConfigError(f"chat_eval.tasks: {name} is for training only, its replies cannot be scored; leave it out")
    if task.metric == "choice" and how.samples > 1:
        raise ConfigError(f"chat_eval.tasks.{name}.samples = {how.samples}: it is answered by letter; expected 1")
    return task


def _headline(scores: Sequence[Score]) -> tuple[str, dict[str, Any]]:
    """Name and summary of the aggregate: ChatCORE where all its tasks were run."""
    six = {name for name, entry in load_catalogue().tasks.items() if entry.in_chat_core}
    counted = [score for score in scores if score.task in six]
    name = "chat_core" if len(counted) == len(six) else "chat_score"
    counted = counted if name == "chat_core" else list(scores)
    return name, mean_summary(counted, extent([(score.items, score.available) for score in counted]))


def items_asked(task: Task, max_items: int | None) -> list[int]:
    """The items a cap leaves: a fixed random sample, the same for every model, since files are often sorted."""
    count = len(task) if max_items is None else min(max_items, len(task))
    return sorted(random.Random(1337).sample(range(len(task)), count))


def _records(
    settings: ChatEvalStage,
    loaded: LoadedModel,
    tasks: Mapping[str, Task],
    items: ItemLog,
    world: World,
    device_batch_size: int,
) -> dict[str, list[Record]]:
    """Task → records of its items in order, those of earlier starts among them; complete on the main rank."""
    asked = {name: items_asked(task, settings.chat_eval.tasks[name].max_items) for name, task in tasks.items()}
    before = items.finished() if world.is_main else {}
    left = world.broadcast_object(
        [(name, item) for name in asked for item in asked[name] if item not in before.get(name, {})]
    )
    known = sum(len(indices) for indices in asked.values()) - len(left)
    if known:
        log.info("%s items were answered before; %s are left", f"{known:,}", f"{len(left):,}")
    mine = left[world.rank :: world.size]
    recorder = Recorder(items, world.size)
    recorder.expect(len(mine))
    questions = [Question.of(tasks[name], item, loaded.tokenizer) for name, item in mine]
    try:
        for question, record, tokens in _answers(settings, loaded, questions, device_batch_size):
            recorder.add([(question.task.name, record, tokens)])
    finally:  # what is finished is kept, whatever ended the loop
        recorder.flush()
    return merge_records(asked, before, world.gather_objects(recorder.records))


def _answers(
    settings: ChatEvalStage, loaded: LoadedModel, questions: Sequence[Question], device_batch_size: int
) -> Iterator[Answered]:
    yield from by_letter(loaded, [q for q in questions if q.task.metric == "choice"], device_batch_size)
    generated = [question for question in questions if question.task.metric != "choice"]
    yield from by_reply(loaded, generated, settings.chat_eval, device_batch_size)


def _score(task: Task, records: Sequence[Record]) -> Score:
    more: dict[str, Any] = {"truncated": sum(record["truncated"] for record in records)}
    if task.metric == "generate":
        more["cut_off"] = sum(record["cut_off"] for record in records)
    return score_records(
        task.name,
        task.metric or "",
        records,
        available=len(task),
        chance=task.chance,
        seconds=sum(record["seconds"] for record in records),
        more=more,
        category=task.category,
        group_sizes=task.group_sizes(),
    )
