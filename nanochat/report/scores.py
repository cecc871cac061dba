"""Scores of the evaluations as they were recorded, with their errors and over what they are."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from nanochat.config import load_catalogue
from nanochat.evaluate.core_tasks import core_extent
from nanochat.evaluate.scores import binomial_error, extent
from nanochat.report.collect import CHECKPOINTS, Artifact, Run
from nanochat.report.numbers import count, fraction, number, with_error

# Aggregates of scores.json → (row of the table, spelling variants).
HEADLINES = {
    "core": ("CORE", ("core", "CORE")),
    "chat_core": ("ChatCORE", ("chat_core", "chatcore", "ChatCORE")),
    "chat_score": ("chat score", ("chat_score",)),
}
MEAN = "mean, centred"
"""Metric of a mean over tasks."""


@dataclass(frozen=True)
class Score:
    """One score of one model; whatever was not recorded is None.

    `part` says of what it is a part, such as `200 of 1,319` items or `12 of 22 tasks, at most 200 items each`; it is
    empty where nothing is left out. `record` is the score as it was recorded.
    """

    task: str
    value: float | None
    stderr: float | None
    items: float | None
    available: float | None
    chance: float | None
    centered: float | None
    above_chance: float | None
    metric: str | None
    part: str = ""
    record: Mapping[str, Any] = field(default_factory=dict)

    @property
    def figure(self) -> str:
        """`0.412 ± 0.016`; for places that say beside it what it is a part of."""
        return with_error(fraction(self.value), self.stderr)

    @property
    def text(self) -> str:
        """`0.412 ± 0.016 (200 of 1,319)`, or without the brackets where all items were asked."""
        return f"{self.figure} ({self.part})" if self.part else self.figure

    @property
    def is_mean(self) -> bool:
        """Whether this is a mean over tasks."""
        return self.metric == MEAN


def part_of(items: Any, available: Any) -> str:
    """`200 of 1,319`; empty where all items were asked, or it is not known how many there are."""
    used, whole = number(items), number(available)
    return f"{count(used)} of {count(whole)}" if used is not None and whole is not None and used < whole else ""


def _first(record: Mapping[str, Any], *names: str) -> float | None:
    return next((known for name in names if (known := number(record.get(name))) is not None), None)


def _score(record: Mapping[str, Any]) -> Score:
    value = _first(record, "value", "accuracy", "acc")
    items = _first(record, "items", "n")
    stderr = _first(record, "stderr", "standard_error")
    chance = _first(record, "chance", "true_chance")
    above = _first(record, "above_chance", "accuracy_minus_chance", "above_true_chance")
    if above is None and value is not None and chance is not None:
        above = value - chance
    if stderr is None and value is not None and items and 0 <= value <= 1:
        stderr = binomial_error(value, int(items))  # a share of right answers is all that these tasks score
    metric, available = record.get("metric"), _first(record, "available")
    return Score(
        task=str(record.get("task", record.get("name", record.get("label", "?")))),
        value=value,
        stderr=stderr,
        items=items,
        available=available,
        chance=chance,
        centered=_first(record, "centered", "centred"),
        above_chance=above,
        metric=metric if isinstance(metric, str) else None,
        part=part_of(items, available),
        record=record,
    )


def task_scores(artifact: Artifact) -> dict[str, Score]:
    """Task → score of an evaluation, in its order."""
    return {score.task: score for score in map(_score, artifact.scores)}


def core_scores(run: Run) -> dict[str, Score]:
    """CORE task → score, from the manifest's metrics completed by scores.json."""
    core = run.artifacts["base_eval"].metrics.get("core")
    tasks = core.get("tasks") if isinstance(core, dict) else None
    if isinstance(tasks, dict):
        tasks = [
            {"task": name, **(entry if isinstance(entry, dict) else {"value": entry})} for name, entry in tasks.items()
        ]
    records = {_score(entry).task: dict(entry) for entry in tasks or () if isinstance(entry, dict)}
    for entry in run.artifacts["base_eval"].scores:
        records[_score(entry).task] = records.get(_score(entry).task, {}) | entry
    return {task: _score(record) for task, record in records.items()}


def _centred_error(score: Score) -> float | None:
    """Standard error on the centred scale; the scale is 1 / (1 − the baseline that the centred value was made with)."""
    if score.stderr is None or score.value is None or score.centered is None:
        return None
    if score.value == 1:
        return 0.0 if score.stderr == 0 else None
    return score.stderr * (1 - score.centered) / (1 - score.value)


def _part_of_mean(key: str, parts: list[Score]) -> str:
    """What a mean over tasks leaves out."""
    known = {p.task: (p.items, p.items if p.available is None else p.available) for p in parts if p.items is not None}
    return core_extent(known) if key == "core" and known else extent(list(known.values()))


def _mean_score(key: str, name: str, value: float, recorded_error: float | None, parts: list[Score]) -> Score:
    """An aggregate of centred task scores, with the error of their mean where it was not recorded."""
    errors = [_centred_error(part) for part in parts]
    stderr = recorded_error
    if stderr is None and parts and all(error is not None for error in errors):
        stderr = math.sqrt(sum(error**2 for error in errors if error is not None)) / len(parts)
    used = [part.items for part in parts if part.items is not None]
    whole = [part.available for part in parts if part.available is not None]
    return Score(
        task=name,
        value=value,
        stderr=stderr,
        items=sum(used) if used else None,
        available=sum(whole) if len(whole) == len(parts) and whole else None,
        chance=0.0,
        centered=value,
        above_chance=value,
        metric=MEAN,
        part=_part_of_mean(key, parts),
    )


def headlines(run: Run, stage: str) -> dict[str, Score]:
    """Aggregates of a checkpoint's evaluation: CORE of the base model, ChatCORE or chat score of the chat models."""
    artifact = run.artifacts[f"{stage}_eval"]
    parts = list((core_scores(run) if stage == "base" else task_scores(artifact)).values())
    found = {}
    for key, (name, spellings) in HEADLINES.items():
        for spelling in spellings:
            entry = artifact.summary.get(spelling, artifact.metrics.get(spelling))
            record = entry if isinstance(entry, dict) else {"value": entry}
            value = _first(record, "value", "score")
            if value is None:
                continue
            error = _first(record, "stderr")
            if error is None:
                error = _first(artifact.summary, f"{spelling}_stderr")
            counted = [part for part in parts if _counts(key, part.task)]
            found[name] = _mean_score(key, name, value, error, counted)
            break
    return found


def _counts(headline: str, task: str) -> bool:
    """Whether a task is part of an aggregate: ChatCORE has its six, the others take all there are."""
    entry = load_catalogue().tasks.get(task)
    return headline != "chat_core" or (entry is not None and entry.in_chat_core)


def stage_scores(run: Run) -> dict[str, dict[str, Score]]:
    """Stage → row → score: aggregates first, then the chat tasks. CORE's own tasks have a table of their own."""
    chat_tasks = {task for stage in CHECKPOINTS[1:] for task in task_scores(run.artifacts[f"{stage}_eval"])}
    scores = {}
    for stage in CHECKPOINTS:
        tasks = task_scores(run.artifacts[f"{stage}_eval"])
        scores[stage] = headlines(run, stage) | {name: tasks[name] for name in tasks if name in chat_tasks}
    return scores


def records(artifact: Artifact, columns: Sequence[str]) -> pd.DataFrame:
    """These columns of records.parquet, one row per evaluated item; empty where there are no such records."""
    path: Path = artifact.directory / "records.parquet"
    empty = pd.DataFrame(columns=list(columns))
    if not path.is_file():
        return empty
    try:
        return pd.read_parquet(path, columns=list(columns))
    except Exception:  # records of another form are a refinement less, not an error
        return empty


def right_shares(artifact: Artifact) -> pd.DataFrame:
    """Columns task, item and share, the share of an item's replies that are right; empty without records."""
    several = records(artifact, ("task", "item", "correct", "right", "samples"))
    table = several if len(several) else records(artifact, ("task", "item", "correct"))
    share = table["correct"].astype(float)
    if len(several):
        share = (several["right"] / several["samples"]).fillna(share)
    return pd.DataFrame({"task": table["task"], "item": table["item"], "share": share})
