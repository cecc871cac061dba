"""Scores with their errors, and the record of every item behind them: scores.json and records.parquet."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from nanochat.artifact import write_atomically

Record = dict[str, Any]
"""What happened with one item; at least `item`, its number, and `correct`."""


@dataclass(frozen=True)
class Score:
    """Accuracy on one task.

    Attributes:
        task, metric: name, and how answers were judged.
        value: share of the items answered rightly.
        stderr: its standard error, √(p (1 − p) / n).
        items, available: items asked, and items there are.
        chance: share that guessing gets right.
        centered: (value − baseline) / (1 − baseline), the baseline being `chance` unless the metric defines its own.
        seconds: wall time.
        more: further figures, kept beside the others in scores.json.
    """

    task: str
    metric: str
    value: float
    stderr: float
    items: int
    available: int
    chance: float
    centered: float
    seconds: float
    more: Mapping[str, Any] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """As in scores.json."""
        row = asdict(self)
        return {**{key: value for key, value in row.items() if key != "more"}, **row["more"]}


def binomial_error(share: float, count: int) -> float:
    """Standard error of a share of `count` independent items.

    None or all right would have an error of 0, as if the share were known exactly; there it is the one of the adjusted
    share (k + 2) / (n + 4) (Agresti and Coull, The American Statistician 52, 1998).
    """
    if share in (0.0, 1.0):
        share, count = (share * count + 2) / (count + 4), count + 4
    return math.sqrt(share * (1 - share) / count)


def centred(value: float, baseline: float) -> float:
    """0 at the baseline, 1 at perfection."""
    return (value - baseline) / (1 - baseline)


def score_records(
    task: str,
    metric: str,
    records: Sequence[Record],
    *,
    available: int,
    chance: float,
    seconds: float,
    baseline: float | None = None,
    more: Mapping[str, Any] | None = None,
) -> Score:
    """The score that a task's records amount to.

    Args:
        task: as in `Score`, and so `metric`, `available`, `chance` and `seconds`.
        metric: how answers were judged.
        records: at least one.
        available: items there are.
        chance: share that guessing gets right.
        seconds: wall time.
        baseline: of the centred value, where it is not `chance`.
        more: further figures.
    """
    value = sum(bool(record["correct"]) for record in records) / len(records)
    return Score(
        task=task,
        metric=metric,
        value=value,
        stderr=binomial_error(value, len(records)),
        items=len(records),
        available=available,
        chance=chance,
        centered=centred(value, chance if baseline is None else baseline),
        seconds=seconds,
        more={"above_chance": value - chance, **(more or {})},
    )


def mean_centred(scores: Sequence[Score]) -> tuple[float, float]:
    """Mean of the centred scores and its standard error, the tasks being independent.

    A centred score is (value − b) / (1 − b), so its error is stderr · (1 − centred) / (1 − value); for a perfect
    score both differences are zero, and b is taken to be the chance level.
    """
    errors = [s.stderr * ((1 - s.centered) / (1 - s.value) if s.value < 1 else 1 / (1 - s.chance)) for s in scores]
    mean = sum(score.centered for score in scores) / len(scores)
    return mean, math.sqrt(sum(error**2 for error in errors)) / len(scores)


def write_scores(directory: Path, scores: Iterable[Score], summary: Mapping[str, Any]) -> None:
    """Write scores.json: `{"scores": [...], "summary": {...}}`."""
    content = {"scores": [score.row() for score in scores], "summary": dict(summary)}
    (directory / "scores.json").write_text(json.dumps(content, indent=2) + "\n")


def write_records(directory: Path, records: Mapping[str, Sequence[Record]]) -> None:
    """Write records.parquet: one row per item, with the task's name first."""
    rows = [{"task": task, **record} for task, items in records.items() for record in items]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    table = pa.table({name: [row.get(name) for row in rows] for name in columns})
    pq.write_table(table, directory / "records.parquet", compression="zstd")


class FinishedTasks:
    """The tasks of an interrupted evaluation that are done already, one JSON file each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, task: str) -> dict[str, Any] | None:
        """What `save` was given, or None where the task is still to do."""
        path = self._folder / f"task-{task}.json"
        try:
            return json.loads(path.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return None

    def save(self, task: str, content: Mapping[str, Any]) -> None:
        """Keep a finished task, atomically."""
        write_atomically(self._folder / f"task-{task}.json", json.dumps(content))
