"""Scores of the evaluations as scores.json has them, with their errors and over what they are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from nanochat.config import load_catalogue
from nanochat.evaluate.scores import HEADLINES
from nanochat.report.collect import CHECKPOINTS, Artifact, Run
from nanochat.report.numbers import count, fraction, number, with_error

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


def left_out_of(mean: Mapping[str, Any]) -> str:
    """In what a mean over tasks, as scores.json has it, falls short of all items of all tasks."""
    return str(mean.get("extent", "over which items is not recorded"))


def _score(record: Mapping[str, Any]) -> Score:
    metric = record.get("metric")
    names = ("value", "stderr", "items", "available", "chance", "centered", "above_chance")
    return Score(
        task=str(record.get("task", "?")),
        metric=metric if isinstance(metric, str) else None,
        part=part_of(record.get("items"), record.get("available")),
        record=record,
        **{name: number(record.get(name)) for name in names},
    )


def task_scores(artifact: Artifact) -> dict[str, Score]:
    """Task → score of an evaluation, in its order."""
    return {score.task: score for score in map(_score, artifact.scores)}


def _mean_score(name: str, record: Mapping[str, Any], parts: Sequence[Score]) -> Score:
    """An aggregate of centred task scores; `parts` are the tasks it is over."""
    value = number(record.get("value"))
    used = [part.items for part in parts if part.items is not None]
    whole = [part.available for part in parts if part.available is not None]
    return Score(
        task=name,
        value=value,
        stderr=number(record.get("stderr")),
        items=sum(used) if used else None,
        available=sum(whole) if len(whole) == len(parts) and whole else None,
        chance=0.0,
        centered=value,
        above_chance=value,
        metric=MEAN,
        part=left_out_of(record),
        record=record,
    )


def headlines(artifact: Artifact) -> dict[str, Score]:
    """Aggregates of an evaluation: CORE of the base model, ChatCORE or chat score of the chat models."""
    parts = task_scores(artifact).values()
    return {
        name: _mean_score(name, record, [part for part in parts if _counts(key, part.task)])
        for key, name in HEADLINES.items()
        if isinstance(record := artifact.summary.get(key), dict) and number(record.get("value")) is not None
    }


def _counts(headline: str, task: str) -> bool:
    """Whether a task is part of an aggregate: ChatCORE has its six, the others take all there are."""
    entry = load_catalogue().tasks.get(task)
    return headline != "chat_core" or (entry is not None and entry.in_chat_core)


def stage_scores(run: Run) -> dict[str, dict[str, Score]]:
    """Stage → row → score: aggregates first, then the chat tasks. CORE's own tasks have a table of their own."""
    chat_tasks = {task for stage in CHECKPOINTS[1:] for task in task_scores(run.artifacts[f"{stage}_eval"])}
    scores = {}
    for stage in CHECKPOINTS:
        evaluation = run.artifacts[f"{stage}_eval"]
        tasks = task_scores(evaluation)
        scores[stage] = headlines(evaluation) | {name: tasks[name] for name in tasks if name in chat_tasks}
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
