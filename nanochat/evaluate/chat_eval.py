"""The stage chat_eval: chat tasks by likeliest letter or by generation, with a record of every item."""

import logging
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nanochat.artifact import Manifest, Workspace
from nanochat.config import ChatTaskSettings, load_catalogue
from nanochat.config.stages import ChatEvalStage
from nanochat.data.conversation import render_prompt
from nanochat.data.tokenizer import Tokenizer
from nanochat.errors import ArtifactError, ConfigError
from nanochat.evaluate.scores import (
    FinishedTasks,
    Record,
    Score,
    mean_centred,
    score_records,
    write_records,
    write_scores,
)
from nanochat.evaluate.tasks import Task, load_task
from nanochat.infer.checkpoint import LoadedModel, load_checkpoint
from nanochat.infer.engine import Engine
from nanochat.infer.sampling import SamplingParams
from nanochat.infer.scoring import next_logits
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
    """Evaluate a chat model; an interrupted evaluation goes on with the tasks that are left.

    Writes scores.json and records.parquet. Metrics: `tasks` (task → score), and `chat_core` where all six tasks of
    ChatCORE were run, else `chat_score`, the mean centred score of the tasks that were.

    Args:
        settings: tasks and how many items of each.
        stage: of the checkpoint: mid, sft or rl.
        out: the evaluation's directory.
        model: checkpoint directory.
        data: data folder, laid out like the hub.
        world: the ranks; each takes every size-th item.
        device_batch_size: rows generated at a time, or full rows in one forward pass.

    Raises:
        ArtifactError, DataError: if an input is missing or damaged.
        ConfigError: if a task cannot be scored, or there is none.
    """
    chosen = settings.chat_eval.tasks
    if not chosen:
        raise ConfigError("chat_eval.tasks is empty; list at least one task, or leave chat evaluation out")
    tasks = {name: _scored_task(name, data) for name in chosen}
    catalogue = load_catalogue()
    files = {path: data / path for name in chosen for path in catalogue.tasks[name].test}
    with Workspace(out, "chat_eval", settings, {"model": model, **files}, rank=world.rank) as workspace:
        if world.broadcast_object(world.is_main and workspace.finished()):
            return world.broadcast_object(workspace.promote() if world.is_main else None)
        loaded = load_checkpoint(model, world.device, verify_files=False)  # the workspace has verified its inputs
        if loaded.manifest.stage != stage:
            raise ArtifactError(f"{model} is a checkpoint of stage {loaded.manifest.stage}, expected {stage}")
        finished = FinishedTasks(workspace.progress)
        scores, records = [], {}
        for name, task in tasks.items():
            done = world.broadcast_object(finished.load(name) if world.is_main else None)
            if done is None:
                done = _evaluate(settings, loaded, task, chosen[name], world, device_batch_size)
                if world.is_main:
                    finished.save(name, done)
            scores.append(_score(task, done))
            records[name] = done["records"]
            log.info("%s %.3f ± %.3f (%d items)", name, scores[-1].value, scores[-1].stderr, scores[-1].items)
        name, value, error = _headline(scores)
        manifest = None
        if world.is_main:
            write_scores(workspace.final, scores, {name: {"value": value, "stderr": error, "tasks": len(scores)}})
            write_records(workspace.final, records)
            manifest = workspace.finish(
                metrics={name: value, f"{name}_stderr": error, "tasks": {score.task: score.row() for score in scores}},
                hardware=hardware_info(world.device),
                wall_seconds=sum(score.seconds for score in scores),
                peak_memory_bytes=peak_memory_bytes(world.device),
                logs=("scores.json",),  # holds seconds; the records say the same without
            )
        return world.broadcast_object(manifest)


def _scored_task(name: str, data: Path) -> Task:
    task = load_task(name, "test", data)
    if task.metric is None:
        raise ConfigError(f"chat_eval.tasks: {name} is for training only, its replies cannot be scored; leave it out")
    return task


def _headline(scores: Sequence[Score]) -> tuple[str, float, float]:
    """Name, value and error of the aggregate: ChatCORE where all its tasks were run."""
    six = {name for name, entry in load_catalogue().tasks.items() if entry.in_chat_core}
    counted = [score for score in scores if score.task in six]
    if len(counted) == len(six):
        return ("chat_core", *mean_centred(counted))
    return ("chat_score", *mean_centred(scores))


def _evaluate(
    settings: ChatEvalStage,
    loaded: LoadedModel,
    task: Task,
    how: ChatTaskSettings,
    world: World,
    device_batch_size: int,
) -> dict[str, Any]:
    start = time.monotonic()
    count = len(task) if how.max_items is None else min(how.max_items, len(task))
    # Files are often sorted by subject: a cap takes a fixed random sample, the same for every model.
    order = random.Random(1337).sample(range(len(task)), count)
    mine = sorted(order)[world.rank :: world.size]
    if task.metric == "choice":
        found = evaluate_choice(loaded, task, mine, device_batch_size)
    else:
        found = evaluate_generate(loaded, task, mine, how, settings, device_batch_size)
    records = [record for part in world.gather_objects(found) for record in part]
    return {"records": sorted(records, key=lambda record: record["item"]), "seconds": time.monotonic() - start}


def fit_prompt(prompt: Sequence[int], room: int) -> list[int]:
    """A prompt of at most `room` tokens: its first token (`<|bos|>`) and its end, where the question's end stands."""
    return list(prompt) if len(prompt) <= room else [prompt[0], *prompt[len(prompt) - room + 1 :]]


def _letter_tokens(tokenizer: Tokenizer, letters: Sequence[str]) -> list[int]:
    ids = [tokenizer.encode(letter) for letter in letters]
    for letter, tokens in zip(letters, ids):
        if len(tokens) != 1:
            raise ArtifactError(
                f"the tokenizer writes the answer letter {letter} as {len(tokens)} tokens, expected 1; train it anew"
            )
    return [tokens[0] for tokens in ids]


def evaluate_choice(loaded: LoadedModel, task: Task, indices: Sequence[int], device_batch_size: int) -> list[Record]:
    """Records of choice items: the answer is the likeliest of the item's letters right after `<|assistant_start|>`."""
    if not indices:
        return []
    context = loaded.model.config.sequence_length
    prompts = [render_prompt(loaded.tokenizer, task.conversation(index)) for index in indices]
    letters = [task.letters(index) for index in indices]
    every = max(letters, key=len)  # the letters of an item are the first ones of the alphabet
    tokens = _letter_tokens(loaded.tokenizer, every)
    logits = next_logits(loaded.model, [fit_prompt(prompt, context) for prompt in prompts], device_batch_size, tokens)
    records = []
    for index, prompt, own, row in zip(indices, prompts, letters, logits):
        reply, gold = own[int(row[: len(own)].argmax())], task.gold(index)
        records.append(_record(loaded, task, index, prompt, reply, gold, reply == gold, len(prompt) > context))
    return records


def evaluate_generate(
    loaded: LoadedModel,
    task: Task,
    indices: Sequence[int],
    how: ChatTaskSettings,
    settings: ChatEvalStage,
    device_batch_size: int,
) -> list[Record]:
    """Records of generate items: one reply each, judged by the task; a prompt that leaves no room to reply is cut."""
    context = loaded.model.config.sequence_length
    room = context - min(how.max_new_tokens, context // 2)
    prompts = [render_prompt(loaded.tokenizer, task.conversation(index)) for index in indices]
    params = [
        SamplingParams(
            max_tokens=how.max_new_tokens,
            temperature=settings.chat_eval.temperature,
            seed=settings.chat_eval.seed * 1_000_003 + index,
        )
        for index in indices
    ]
    engine = Engine(loaded.model, loaded.tokenizer, slots=device_batch_size)
    done = engine.generate([fit_prompt(prompt, room) for prompt in prompts], params)
    replies = [loaded.tokenizer.decode(completion.ids, skip_special=True) for completion in done]
    rewards = task.rewards(indices, replies)
    return [
        _record(
            loaded, task, index, prompt, loaded.tokenizer.decode(completion.ids), task.gold(index), reward == 1.0,
            len(prompt) > room, completion.finish, len(completion.ids),
        )
        for index, prompt, completion, reward in zip(indices, prompts, done, rewards)
    ]  # fmt: skip


def _record(
    loaded: LoadedModel,
    task: Task,
    index: int,
    prompt: Sequence[int],
    reply: str,
    gold: str,
    correct: bool,
    truncated: bool,
    finish: str | None = None,
    tokens: int | None = None,
) -> Record:
    return {
        "item": index,
        "group": task.group(index),
        "prompt": loaded.tokenizer.decode(prompt, skip_special=True),
        "reply": reply,
        "gold": gold,
        "correct": correct,
        "truncated": truncated,
        "finish": finish,
        "tokens": tokens,
    }


def _score(task: Task, done: dict[str, Any]) -> Score:
    records = done["records"]
    more: dict[str, Any] = {"truncated": sum(record["truncated"] for record in records)}
    if task.metric == "generate":
        more["cut_off"] = sum(record["finish"] == "length" for record in records)
    return score_records(
        task.name,
        task.metric or "",
        records,
        available=len(task),
        chance=task.chance,
        seconds=done["seconds"],
        more=more,
    )
