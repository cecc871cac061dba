"""The stage compare: two checkpoints on the items both were evaluated on, as a table and a plot."""

import csv
import io
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanochat.artifact import Manifest, Workspace, read_manifest
from nanochat.config import load_catalogue
from nanochat.config.stages import CompareStage
from nanochat.errors import ArtifactError
from nanochat.evaluate.core_tasks import core_extent
from nanochat.evaluate.paired import Difference, compare, compare_means
from nanochat.evaluate.scores import extent
from nanochat.report.evaluations import Matched, check_model, differing_settings, match, read_evaluation
from nanochat.report.figures import STYLE, save
from nanochat.report.numbers import MISSING, change, count, fraction
from nanochat.report.tables import markdown

log = logging.getLogger(__name__)

_FEW = 30  # items below which percentiles of the bootstrap are too close together


@dataclass(frozen=True)
class Row:
    """One line of the comparison: a task, or the mean over tasks.

    Attributes:
        name: of the task or the mean.
        difference: what was found.
        part: of what the items are a part; empty where all there are were compared.
        is_mean: whether this is the mean over tasks.
    """

    name: str
    difference: Difference
    part: str
    is_mean: bool = False


def run(
    settings: CompareStage, *, out: Path, first: Path, second: Path, first_evaluation: Path, second_evaluation: Path
) -> Manifest:
    """Compare two checkpoints by the records of their evaluations.

    Writes compare.md, compare.csv and compare.svg. Metrics: `rows`, one for each task and one for the mean.

    Args:
        settings: resamples and seed.
        out: the comparison's directory.
        first: checkpoint directory.
        second: the one whose score is on the left of the minus sign.
        first_evaluation: evaluation of the first.
        second_evaluation: evaluation of the second.

    Raises:
        ArtifactError: if both are the same model, an evaluation is of another model or of another kind, or there are no
            items that both have.
    """
    inputs = {"first": first_evaluation, "second": second_evaluation}
    with Workspace(out, "compare", settings, inputs) as workspace:
        # Asked before an earlier result is taken: an evaluation can outlive the checkpoint that it is of.
        manifests = [read_manifest(place, ("base_eval", "chat_eval")) for place in inputs.values()]
        models = [check_model(*one) for one in zip((first, second), inputs.values(), manifests)]
        if models[0].digest == models[1].digest:
            raise ArtifactError(f"{first} and {second} hold the same model; name two different checkpoints")
        kinds = [manifest.stage for manifest in manifests]
        if kinds[0] != kinds[1]:
            raise ArtifactError(
                f"{first_evaluation} is a {kinds[0]}, {second_evaluation} a {kinds[1]}: they ask other things; compare "
                "two base or two chat checkpoints"
            )
        if workspace.finished():
            return workspace.promote()
        evaluations = read_evaluation(first_evaluation), read_evaluation(second_evaluation)
        matched = match(*evaluations)
        if not matched:
            raise ArtifactError(_nothing_in_common(inputs, [evaluation.records for evaluation in evaluations]))
        options = {"resamples": settings.compare.resamples, "seed": settings.compare.seed}
        rows = _rows(kinds[0], matched, options)
        notes = [*_item_notes(matched, evaluations[0].records, evaluations[1].records)]
        notes += differing_settings(*evaluations, set(matched))
        _write(workspace.final, rows, notes, (first, second), settings)
        for row in rows:
            log.info("%s: %s", row.name, _sentence(row))
        return workspace.finish(metrics={"rows": [_record(row) for row in rows], "notes": notes}, logs=())


def _nothing_in_common(places: Mapping[str, Path], records: Sequence[Mapping[str, Any]]) -> str:
    first, second = places.values()
    shared = ", ".join(sorted(records[0].keys() & records[1].keys()))
    if shared:
        return (
            f"{first} and {second} have {shared} in common, but no item with the same question and answer: their data "
            "differ, or another version of this program asked; remove one of them and evaluate its checkpoint anew"
        )
    tasks = " and ".join(", ".join(found) for found in records)
    return f"{first} and {second} have no items in common (tasks {tasks}); evaluate both checkpoints on the same tasks"


def _rows(kind: str, matched: Mapping[str, Matched], options: Mapping[str, int]) -> list[Row]:
    pairs = {task: one.pairs for task, one in matched.items()}
    six = {name for name, entry in load_catalogue().tasks.items() if entry.in_chat_core}
    if kind == "chat_eval" and six <= pairs.keys():
        name, counted = "ChatCORE", {task: pairs[task] for task in pairs if task in six}
    else:
        name, counted = "CORE" if kind == "base_eval" else "mean centred", pairs
    items = {task: (len(matched[task].items), matched[task].available) for task in counted}
    part = core_extent(items) if kind == "base_eval" else extent(list(items.values()))
    rows = [Row(name, compare_means(counted, **options), part, is_mean=True)]
    for task, difference in compare(pairs, **options).items():
        used, available = difference.items, matched[task].available
        rows.append(Row(task, difference, f"{used:,} of {available:,}" if used < available else ""))
    return rows


def _item_notes(matched: Mapping[str, Matched], first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """Sentences on tasks and items that only one evaluation has, and on tasks with few items."""
    notes = []
    for which, tasks in (("first", first.keys() - second.keys()), ("second", second.keys() - first.keys())):
        if tasks:
            notes.append(f"Only the {which} evaluation has {', '.join(sorted(tasks))}.")
    for task in sorted((first.keys() & second.keys()) - matched.keys()):
        notes.append(f"{task}: no item is in both evaluations with the same question.")
    for task, one in matched.items():
        if one.unlike:
            notes.append(f"{task}: left out because question or answer differ between the two: {count(one.unlike)}.")
        if one.first_items != len(one.items) or one.second_items != len(one.items):
            notes.append(
                f"{task}: the first evaluation has {count(one.first_items)} items, the second "
                f"{count(one.second_items)}; the {count(len(one.items))} they share are compared."
            )
    alike = [task for task, one in matched.items() if len(set(one.pairs.second - one.pairs.first)) == 1]
    if alike:
        notes.append(
            "All items differ alike, so the interval has no width; it does not say how sure the difference is: "
            f"{', '.join(alike)}."
        )
    few = [f"{task} ({len(one.items)})" for task, one in matched.items() if len(one.items) < _FEW]
    if few:
        notes.append(f"With fewer than {_FEW} items the intervals are too narrow: {', '.join(few)}.")
    return notes


def _record(row: Row) -> dict[str, Any]:
    found = row.difference
    return {
        "task": row.name,
        "mean": row.is_mean,
        "first": found.first,
        "second": found.second,
        "difference": found.value,
        "low": found.low,
        "high": found.high,
        "p": found.p,
        "mcnemar": found.mcnemar,
        "items": found.items,
        "subset": bool(row.part),
        "part": row.part,
    }


def _sentence(row: Row) -> str:
    found = row.difference
    part = f" ({row.part})" if row.part else ""
    return (
        f"{fraction(found.first)} and {fraction(found.second)}{part}, difference {change(found.value)}, "
        f"95 % from {change(found.low)} to {change(found.high)}, p = {_p(found.p)}"
    )


def _p(value: float | None) -> str:
    if value is None:
        return MISSING
    return f"{value:.3f}" if value >= 0.001 else f"{value:.0e}" if value >= 1e-300 else "0"


def _write(
    folder: Path, rows: Sequence[Row], notes: Sequence[str], checkpoints: tuple[Path, Path], settings: CompareStage
) -> None:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(_record(rows[0])), lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(_record, rows))
    (folder / "compare.csv").write_text(buffer.getvalue())
    alt = _draw(rows, folder / "compare.svg", checkpoints)
    (folder / "compare.md").write_text(_page(rows, notes, checkpoints, settings, alt))


def _page(
    rows: Sequence[Row], notes: Sequence[str], checkpoints: tuple[Path, Path], settings: CompareStage, alt: str
) -> str:
    table = []
    for row in rows:
        found = row.difference
        clear = found.low > 0 or found.high < 0
        difference = f"**{change(found.value)}**" if clear else change(found.value)
        table.append(
            {
                "Task": f"**{row.name}{f', {row.part}' if row.part else ''}**" if row.is_mean else row.name,
                "First": fraction(found.first),
                "Second": fraction(found.second),
                "Difference": difference,
                "95 % interval": f"{change(found.low)} to {change(found.high)}",
                "p": _p(found.p),
                "p, McNemar": _p(found.mcnemar),
                "Items": count(found.items) if row.is_mean or not row.part else row.part,
            }
        )
    lines = [
        f"# {checkpoints[1]} against {checkpoints[0]}",
        f"First: `{checkpoints[0]}`. Second: `{checkpoints[1]}`. Differences are second minus first, on the items that "
        "both were evaluated on; **bold** where the 95 % interval leaves out 0. Tasks are shares of right answers, the "
        "mean is of centred scores (0 is guessing, 1 is all right).",
        markdown(table, ("Task",)),
        f"![{alt}](compare.svg)",
        f"Intervals and p are of a paired bootstrap over items, within each task, {count(settings.compare.resamples)} "
        f"resamples, seed {settings.compare.seed}. McNemar's exact test needs items that are right or wrong. Nothing "
        "is corrected for looking at several tasks: of twenty equal ones, one lies outside its interval by chance.",
    ]
    if notes:
        lines += ["## Notes", "\n".join(f"- {note}" for note in notes)]
    return "\n\n".join(lines) + "\n"


def _draw(rows: Sequence[Row], path: Path, checkpoints: tuple[Path, Path]) -> str:
    """Differences with their intervals, one line each; returns what the figure shows, in words."""
    import matplotlib as mpl
    from matplotlib.figure import Figure as Canvas

    with mpl.rc_context(STYLE):
        labels = [f"{row.name}\n{row.part}" if row.part else row.name for row in rows]
        height = 0.45 if any(row.part for row in rows) else 0.34
        canvas = Canvas(figsize=(8.0, 1.0 + height * len(rows)), layout="constrained")
        axes = canvas.subplots()
        axes.axvline(0, color="black", linewidth=0.8)
        for place, row in enumerate(rows):
            found = row.difference
            axes.plot([found.low, found.high], [place, place], color="#0072B2", linewidth=2.5 if row.is_mean else 1.3)
            axes.plot([found.value], [place], "D" if row.is_mean else "o", color="#0072B2", markersize=5)
        axes.set_yticks(range(len(rows)), labels)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlabel(f"{checkpoints[1]} minus {checkpoints[0]}, bars: 95 % interval")
        save(canvas, path)
    return "Differences: " + "; ".join(f"{row.name} {_sentence(row)}" for row in rows) + "."
