"""Scores with their errors, and the record of every item behind them: scores.json and records.parquet."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Record = dict[str, Any]
"""What happened with one item; at least `item`, its number, and `correct`.

Where an item got several replies, `samples` is their number, `right` how many of them are right, and `correct` whether
the first one is. `group` is the item's group within its task, `isolation` the layers of the sandbox it was judged in.
"""


@dataclass(frozen=True)
class Score:
    """Accuracy on one task.

    Attributes:
        task, metric: name, and how answers were judged.
        value: share of the items answered rightly; of several replies to an item, the share of right ones counts.
        stderr: its standard error over items, see `item_error`.
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

    @property
    def subset(self) -> bool:
        """Whether fewer items were asked than there are."""
        return self.items < self.available

    @property
    def text(self) -> str:
        """`0.310 ± 0.020 (500 of 1,319 items)`, or `… (1,319 items)` where all were asked."""
        asked = f"{self.items:,} of {self.available:,}" if self.subset else f"{self.items:,}"
        return f"{self.value:.3f} ± {self.stderr:.3f} ({asked} items)"

    def row(self) -> dict[str, Any]:
        """As in scores.json."""
        row = asdict(self)
        return {**{key: value for key, value in row.items() if key != "more"}, "subset": self.subset, **row["more"]}


def binomial_error(share: float, count: int) -> float:
    """Standard error of a share of `count` independent items.

    None or all right would have an error of 0, as if the share were known exactly; there it is the one of the adjusted
    share (k + 2) / (n + 4) (Agresti and Coull, The American Statistician 52, 1998).
    """
    if share in (0.0, 1.0):
        share, count = (share * count + 2) / (count + 4), count + 4
    return math.sqrt(share * (1 - share) / count)


def item_error(values: Sequence[float]) -> float:
    """Standard error of the mean of independent items' values, each from 0 to 1.

    √(Σ (v − mean)²) / n, which is the binomial √(p (1 − p) / n) where items are right or wrong. The item is the unit:
    replies to the same item are alike, so counting them one by one would make the error too small. Where all values
    are equal it is `binomial_error`, the largest that values of this mean can have.
    """
    mean = math.fsum(values) / len(values)
    if min(values) == max(values):
        return binomial_error(mean, len(values))
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values)) / len(values)


def right_share(record: Record) -> float:
    """Share of an item's replies that are right."""
    return record["right"] / record["samples"] if record.get("samples") else float(bool(record["correct"]))


def pass_at_k(right: int, samples: int, k: int) -> float:
    """Estimate without bias of the probability that at least one of k replies is right (arXiv 2107.03374, equation 1).

    Args:
        right: right ones among the replies.
        samples: replies.
        k: at most `samples`.
    """
    if not 1 <= k <= samples:
        raise ValueError(f"pass_at_k: k = {k}, expected 1 to the number of samples, {samples}")
    return 1 - math.comb(samples - right, k) / math.comb(samples, k)


def _passes(records: Sequence[Record]) -> dict[str, Any]:
    """pass@k for k = 1, 2, 4, … and the number of samples; nothing where each item has one reply."""
    samples = min(record.get("samples") or 1 for record in records)
    if samples == 1:
        return {}
    steps = sorted({2**power for power in range(samples.bit_length())} | {samples})
    found = {}
    for k in steps:
        values = [pass_at_k(record["right"], record["samples"], k) for record in records]
        found[str(k)] = {"value": math.fsum(values) / len(values), "stderr": item_error(values)}
    return {"samples": samples, "pass_at_k": found}


def _mean(records: Sequence[Record], available: int | None = None) -> dict[str, Any]:
    values = [right_share(record) for record in records]
    figures = {"value": math.fsum(values) / len(values), "stderr": item_error(values), "items": len(values)}
    return figures if available is None else {**figures, "available": available, "subset": len(values) < available}


def _grouped(
    records: Sequence[Record], category: Callable[[str], str | None] | None, sizes: Mapping[str, int]
) -> dict[str, Any]:
    """`groups`, `categories` (of groups) and `macro`, the mean over groups; nothing where items have no groups."""
    by_group: dict[str, list[Record]] = {}
    for record in records:
        if record.get("group") is not None:
            by_group.setdefault(record["group"], []).append(record)
    if not by_group:
        return {}
    place = {group: category(group) if category else None for group in {*by_group, *sizes}}
    groups = {
        group: {"category": place[group], **_mean(by_group[group], sizes.get(group))} for group in sorted(by_group)
    }
    macro = {
        "value": math.fsum(entry["value"] for entry in groups.values()) / len(groups),
        "stderr": math.sqrt(math.fsum(entry["stderr"] ** 2 for entry in groups.values())) / len(groups),
        "groups": len(groups),
    }
    if sizes:
        macro |= {"groups_available": len(sizes), "subset": any(entry["subset"] for entry in groups.values())}
        macro["subset"] |= len(groups) < len(sizes)
    categories = {}
    for name in dict.fromkeys(known for group in groups if (known := place[group]) is not None):
        inside = [record for group, found in by_group.items() if place[group] == name for record in found]
        whole = sum(size for group, size in sizes.items() if place[group] == name) if sizes else None
        categories[name] = _mean(inside, whole)
    return {"groups": groups, "categories": categories, "macro": macro}


def _isolation(records: Sequence[Record]) -> dict[str, list[str]]:
    """The layers of the sandbox that were in force for every item; nothing where none was judged in one."""
    if not any(record.get("isolation") for record in records):
        return {}
    first, *others = [record.get("isolation") or [] for record in records]
    return {"isolation": [layer for layer in first if all(layer in layers for layers in others)]}


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
    category: Callable[[str], str | None] | None = None,
    group_sizes: Mapping[str, int] | None = None,
) -> Score:
    """The score that a task's records amount to.

    Beside the value over all items (the micro average) `more` gets, where the records have them: `samples` and
    `pass_at_k`; `groups`, `categories` and `macro`, the mean over groups; `isolation`.

    Args:
        task: as in `Score`, and so `metric`, `available`, `chance` and `seconds`.
        metric: how answers were judged.
        records: at least one.
        available: items there are.
        chance: share that guessing gets right.
        seconds: wall time.
        baseline: of the centred value, where it is not `chance`.
        more: further figures.
        category: category of a group, such as STEM of `college_physics`.
        group_sizes: group → items there are.
    """
    values = [right_share(record) for record in records]
    value = math.fsum(values) / len(values)
    return Score(
        task=task,
        metric=metric,
        value=value,
        stderr=item_error(values),
        items=len(records),
        available=available,
        chance=chance,
        centered=centred(value, chance if baseline is None else baseline),
        seconds=seconds,
        more={
            "above_chance": value - chance,
            **(more or {}),
            **_passes(records),
            **_grouped(records, category, group_sizes or {}),
            **_isolation(records),
        },
    )


def extent(items: Sequence[tuple[float, float]], of: int | None = None) -> str:
    """In what a mean over tasks falls short of all items of all tasks; empty where it does not.

    `12 of 22 tasks, at most 200 items each`, or, where no one limit explains the numbers,
    `3 of 6 tasks over a part of their items`.

    Args:
        items: per task, items asked and items there are.
        of: tasks there are, where that is fixed.
    """
    parts = [f"{len(items)} of {of} tasks"] if of is not None and len(items) < of else []
    cut = [asked for asked, available in items if asked < available]
    if cut and min(cut) == max(asked for asked, _ in items):
        parts.append(f"at most {cut[0]:,.0f} items each")
    elif cut:
        parts.append(f"{len(cut)} of {'them' if parts else f'{len(items)} tasks'} over a part of their items")
    return ", ".join(parts)


def mean_centred(scores: Sequence[Score]) -> tuple[float, float]:
    """Mean of the centred scores and its standard error, the tasks being independent.

    A centred score is (value − b) / (1 − b), so its error is stderr / (1 − b), b being the baseline of the score, or
    its chance level where it has none.
    """
    errors = [score.stderr / (1 - score.more.get("baseline", score.chance)) for score in scores]
    mean = math.fsum(score.centered for score in scores) / len(scores)
    return mean, math.sqrt(math.fsum(error**2 for error in errors)) / len(scores)


HEADLINES = {"core": "CORE", "chat_core": "ChatCORE", "chat_score": "chat score"}
"""Means over tasks: their name in the summary of scores.json, and in words."""


def mean_summary(scores: Sequence[Score], left_out: str) -> dict[str, Any]:
    """A mean of centred scores as scores.json has it, under its name, one of `HEADLINES`.

    Args:
        scores: of the tasks it is over, at least one.
        left_out: in what it falls short of all items of all tasks, see `extent`; empty where it does not.
    """
    value, error = mean_centred(scores)
    return {
        "value": value,
        "stderr": error,
        "tasks": len(scores),
        "subset": bool(left_out),
        "extent": left_out,
    }


def summary_text(summary: Mapping[str, Any]) -> str:
    """`0.214 ± 0.012 (12 of 22 tasks)` of a `mean_summary`."""
    part = f" ({summary['extent']})" if summary["extent"] else ""
    return f"{summary['value']:.3f} ± {summary['stderr']:.3f}{part}"


def write_scores(directory: Path, scores: Iterable[Score], summary: Mapping[str, Any]) -> None:
    """Write scores.json: `{"scores": [...], "summary": {...}}`."""
    content = {"scores": [score.row() for score in scores], "summary": dict(summary)}
    (directory / "scores.json").write_text(json.dumps(content, indent=2) + "\n")


def write_records(directory: Path, records: Mapping[str, Sequence[Record]]) -> None:
    """Write records.parquet: one row per item, with the task's name first.

    `seconds` are left out: times are not part of what was found, so that the records of two runs are equal.
    """
    rows = [{"task": task, **record} for task, items in records.items() for record in items]
    columns = [name for name in dict.fromkeys(name for row in rows for name in row) if name != "seconds"]
    table = pa.table({name: [row.get(name) for row in rows] for name in columns})
    pq.write_table(table, directory / "records.parquet", compression="zstd")
