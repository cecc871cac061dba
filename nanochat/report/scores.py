"""Scores with their errors: the table over stages, what each stage changed, the CORE tasks."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from nanochat.config import load_catalogue
from nanochat.report.collect import CHECKPOINTS, Artifact, Run
from nanochat.report.numbers import MISSING, change, count, fraction, items_of, number, with_error
from nanochat.report.tables import markdown

# Aggregates of scores.json → (row of the table, spelling variants).
_HEADLINES = {
    "core": ("CORE", ("core", "CORE")),
    "chat_core": ("ChatCORE", ("chat_core", "chatcore", "ChatCORE")),
    "chat_score": ("chat score", ("chat_score",)),
}

_SCORED_BY = {"choice": "likeliest letter", "generate": "checked answer"}


@dataclass(frozen=True)
class Score:
    """One score of one model; whatever was not recorded is None."""

    task: str
    value: float | None
    stderr: float | None
    items: float | None
    available: float | None
    chance: float | None
    centered: float | None
    above_chance: float | None
    metric: str | None

    @property
    def text(self) -> str:
        """`0.412 ± 0.016`."""
        return with_error(fraction(self.value), self.stderr)


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
        stderr = math.sqrt(value * (1 - value) / items)  # a share of right answers is all that these tasks score
    metric = record.get("metric")
    return Score(
        task=str(record.get("task", record.get("name", record.get("label", "?")))),
        value=value,
        stderr=stderr,
        items=items,
        available=_first(record, "available"),
        chance=chance,
        centered=_first(record, "centered", "centred"),
        above_chance=above,
        metric=metric if isinstance(metric, str) else None,
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


def _mean_score(name: str, value: float, recorded_error: float | None, parts: list[Score]) -> Score:
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
        metric="mean, centred",
    )


def headlines(run: Run, stage: str) -> dict[str, Score]:
    """Aggregates of a checkpoint's evaluation: CORE of the base model, ChatCORE or chat score of the chat models."""
    artifact = run.artifacts[f"{stage}_eval"]
    parts = list((core_scores(run) if stage == "base" else task_scores(artifact)).values())
    found = {}
    for key, (name, spellings) in _HEADLINES.items():
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
            found[name] = _mean_score(name, value, error, counted)
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


def _rows(scores: Mapping[str, Mapping[str, Score]]) -> list[str]:
    names = list(dict.fromkeys(name for column in scores.values() for name in column))
    first = [name for name, _ in _HEADLINES.values()]
    return sorted(names, key=lambda name: first.index(name) if name in first else len(first))


def score_table(run: Run) -> str:
    """BASE, MID, SFT and RL side by side with standard errors, chance and how many items were asked."""
    scores = stage_scores(run)
    rows = []
    for name in _rows(scores):
        known = [column[name] for column in scores.values() if name in column]
        chance = next((score.chance for score in known if score.chance is not None), None)
        items = dict.fromkeys(items_of(score.items, score.available) for score in known)
        heading = f"**{name}**" if known[0].metric == "mean, centred" else name
        row = {
            "Task": heading,
            "Scored by": _SCORED_BY.get(known[0].metric or "", known[0].metric or MISSING),
            "Chance": fraction(chance, 2),
        }
        row |= {stage.upper(): column[name].text if name in column else MISSING for stage, column in scores.items()}
        rows.append(row | {"Items": "; ".join(items)})
    if all(row["Scored by"] == MISSING for row in rows):
        rows = [{key: text for key, text in row.items() if key != "Scored by"} for row in rows]
    return markdown(rows, ("Task", "Scored by"))


def absent_stages(run: Run) -> list[str]:
    """Sentences on the columns of the score table that are empty, and why."""
    notes = []
    for stage in CHECKPOINTS:
        evaluation, checkpoint = run.artifacts[f"{stage}_eval"], run.artifacts[stage]
        if evaluation.manifest is None:
            why = (
                checkpoint.note
                if checkpoint.manifest is None
                else f"the checkpoint is there, {evaluation.title} is {evaluation.note}"
            )
            notes.append(f"{stage.upper()}: {why}.")
    return notes


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


def _difference(before: Score, after: Score, pairs: pd.Series) -> tuple[float, float | None] | None:
    """Difference of two scores and its standard error: of the paired items where they are known, else independent."""
    if before.value is None or after.value is None:
        return None
    if len(pairs) > 1 and len(pairs) == after.items == before.items:
        return after.value - before.value, float(pairs.std(ddof=1) / math.sqrt(len(pairs)))
    if before.stderr is None or after.stderr is None:
        return after.value - before.value, None
    return after.value - before.value, math.hypot(before.stderr, after.stderr)


def change_table(run: Run) -> str:
    """What each chat stage changed against the evaluated stage before it; beyond two standard errors in bold."""
    scores = {stage: column for stage, column in stage_scores(run).items() if column}
    stages = list(scores)
    steps = [(a, b) for a, b in itertools.pairwise(stages) if set(scores[a]) & set(scores[b])]
    correct = {
        stage: records(run.artifacts[f"{stage}_eval"], ("task", "item", "correct"))
        for stage in {name for pair in steps for name in pair}
    }
    rows: dict[str, dict[str, str]] = {}
    for before, after in steps:
        both = correct[before].merge(correct[after], on=["task", "item"], suffixes=("_before", "_after"))
        for name in _rows({before: scores[before], after: scores[after]}):
            if name not in scores[before] or name not in scores[after]:
                continue
            pairs = both.loc[both["task"] == name]
            moved = pairs["correct_after"].astype(float) - pairs["correct_before"].astype(float)
            found = _difference(scores[before][name], scores[after][name], moved)
            if found:
                value, error = found
                text = with_error(change(value), error)
                column = f"{before.upper()} → {after.upper()}"
                clear = error is not None and abs(value) > 2 * error
                rows.setdefault(name, {"Task": name})[column] = f"**{text}**" if clear else text
    columns = ["Task", *(f"{before.upper()} → {after.upper()}" for before, after in steps)]
    return markdown([{column: row.get(column, MISSING) for column in columns} for row in rows.values()], ("Task",))


def core_table(run: Run) -> str:
    """CORE's tasks: accuracy, the official centred value and, beside it, accuracy minus the true chance level."""
    rows = [
        {
            "Task": score.task,
            "Accuracy": score.text,
            "True chance": fraction(score.chance),
            "Accuracy − chance": with_error(change(score.above_chance), score.stderr),
            "Centred (official)": fraction(score.centered),
            "Items": items_of(score.items, score.available),
        }
        for score in core_scores(run).values()
    ]
    return markdown(rows, ("Task",))


def capped(run: Run) -> list[str]:
    """Evaluations that asked fewer items than there are, as sentences."""
    notes = []
    for stage in CHECKPOINTS:
        scores = core_scores(run) if stage == "base" else task_scores(run.artifacts[f"{stage}_eval"])
        parts = [
            f"{score.task} {items_of(score.items, score.available)}"
            for score in scores.values()
            if score.items is not None and score.available is not None and score.items < score.available
        ]
        if parts:
            whole = f"{count(len(parts))} of {count(len(scores))} tasks asked fewer items than there are"
            notes.append(f"{run.artifacts[f'{stage}_eval'].title}: {whole} ({', '.join(parts)}).")
    return notes
