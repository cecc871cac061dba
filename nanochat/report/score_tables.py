"""Tables of scores: over stages, what each stage changed, categories, pass@k, the CORE tasks.

Every function returns a Markdown table, or an empty string where there is nothing to show. A score over a part of the
items says so in its own cell: `0.412 ± 0.016 (200 of 1,319)`.
"""

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from nanochat.evaluate.scores import HEADLINES
from nanochat.report.collect import CHECKPOINTS, Run
from nanochat.report.numbers import MISSING, change, count, fraction, items_of, number, with_error
from nanochat.report.scores import (
    Score,
    part_of,
    right_shares,
    stage_scores,
    task_scores,
)
from nanochat.report.tables import markdown

_SCORED_BY = {"choice": "likeliest letter", "generate": "checked answer"}
_MOST_GROUPS = 12  # groups of a task without categories that still make a small table


def _rows(scores: Mapping[str, Mapping[str, Score]]) -> list[str]:
    names = list(dict.fromkeys(name for column in scores.values() for name in column))
    first = list(HEADLINES.values())
    return sorted(names, key=lambda name: first.index(name) if name in first else len(first))


def _known(scores: Mapping[str, Mapping[str, Score]], name: str) -> list[Score]:
    return [column[name] for column in scores.values() if name in column]


def _heading(name: str, known: list[Score]) -> str:
    """A row's name; of a mean over tasks with what all stages' means leave out."""
    if not known[0].is_mean:
        return name
    parts = {score.part for score in known}
    return f"**{name}, {known[0].part}**" if len(parts) == 1 and known[0].part else f"**{name}**"


def _cell(score: Score, known: list[Score]) -> str:
    """A score with what it is a part of, unless its row's name says that already."""
    said = score.is_mean and len({other.part for other in known}) == 1
    return score.figure if said else score.text


def _scored_by(known: list[Score]) -> str:
    """How replies were judged and, where their code was run, in which sandbox."""
    metric = known[0].metric or ""
    words = _SCORED_BY.get(metric, metric or MISSING)
    layers = [score.record.get("isolation") for score in known]
    said = dict.fromkeys(" + ".join(map(str, found)) or "none" for found in layers if isinstance(found, list))
    return f"{words}; sandbox: {' / '.join(said)}" if said else words


def score_table(run: Run) -> str:
    """BASE, MID, SFT and RL side by side with standard errors, chance and how many items there are."""
    scores = stage_scores(run)
    rows = []
    for name in _rows(scores):
        known = _known(scores, name)
        chance = next((score.chance for score in known if score.chance is not None), None)
        sizes = dict.fromkeys(count(s.items if s.available is None else s.available) for s in known)
        row = {
            "Task": _heading(name, known),
            "Scored by": _scored_by(known),
            "Chance": fraction(chance, 2),
        }
        row |= {stage.upper(): _cell(s[name], known) if name in s else MISSING for stage, s in scores.items()}
        rows.append(row | {"Items there are": "; ".join(sizes)})
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


def _difference(before: Score, after: Score, pairs: pd.Series) -> tuple[float, float | None] | None:
    """Difference of two scores and its standard error: of the paired items where they are known, else independent.

    Where all pairs differ alike, as where both are always wrong, theirs would be 0: there it is that of independent
    scores, the largest it can be.
    """
    if before.value is None or after.value is None:
        return None
    if pairs.nunique() > 1 and len(pairs) == after.items == before.items:
        return after.value - before.value, float(pairs.std(ddof=1) / math.sqrt(len(pairs)))
    if before.stderr is None or after.stderr is None:
        return after.value - before.value, None
    return after.value - before.value, math.hypot(before.stderr, after.stderr)


def change_table(run: Run) -> str:
    """What each chat stage changed against the evaluated stage before it; beyond two standard errors in bold."""
    scores = {stage: column for stage, column in stage_scores(run).items() if column}
    stages = list(scores)
    steps = [(a, b) for a, b in itertools.pairwise(stages) if set(scores[a]) & set(scores[b])]
    shares = {
        stage: right_shares(run.artifacts[f"{stage}_eval"]) for stage in {name for pair in steps for name in pair}
    }
    rows: dict[str, dict[str, str]] = {}
    for before, after in steps:
        both = shares[before].merge(shares[after], on=["task", "item"], suffixes=("_before", "_after"))
        for name in _rows({before: scores[before], after: scores[after]}):
            if name not in scores[before] or name not in scores[after]:
                continue
            pairs = both.loc[both["task"] == name]
            found = _difference(scores[before][name], scores[after][name], pairs["share_after"] - pairs["share_before"])
            if found:
                value, error = found
                text = with_error(change(value), error)
                if error is not None and abs(value) > 2 * error:
                    text = f"**{text}**"
                parts = dict.fromkeys(part for s in (before, after) if (part := scores[s][name].part))
                known = _known(scores, name)
                heading = _heading(name, known).replace("**", "")
                if parts and heading == name:
                    text += f" ({'; '.join(parts)})"
                column = f"{before.upper()} → {after.upper()}"
                rows.setdefault(name, {"Task": heading})[column] = text
    columns = ["Task", *(f"{before.upper()} → {after.upper()}" for before, after in steps)]
    return markdown([{column: row.get(column, MISSING) for column in columns} for row in rows.values()], ("Task",))


def _entry(record: Any) -> str:
    """`0.412 ± 0.016 (50 of 3,018)` of a group, a category or a pass@k."""
    if not isinstance(record, dict) or number(record.get("value")) is None:
        return MISSING
    text = with_error(fraction(record["value"]), record.get("stderr"))
    part = part_of(record.get("items"), record.get("available"))
    return f"{text} ({part})" if part else text


def _groups(score: Score) -> Iterator[tuple[str, str]]:
    """(name, cell) of a task's categories, or of its groups where it has few and no categories; then the two means."""
    groups, categories = (score.record.get(key) for key in ("groups", "categories"))
    if not isinstance(groups, dict) or not groups:
        return
    if isinstance(categories, dict) and categories:
        shown: dict[str, Any] = categories
    elif len(groups) <= _MOST_GROUPS:
        shown = groups
    else:
        return
    yield from ((name, _entry(record)) for name, record in shown.items())
    yield "all items (micro average)", score.text
    macro = score.record.get("macro")
    if isinstance(macro, dict):
        some = part_of(macro.get("groups"), macro.get("groups_available"))
        left_out = [f"{some} groups"] if some else []
        left_out += [f"{score.part} items"] if score.part else []
        text = _entry(macro)
        yield "mean of the groups (macro average)", f"{text} ({', '.join(left_out)})" if left_out else text


def group_table(run: Run) -> str:
    """Scores of the categories within a task, such as MMLU's four, by stage."""
    return _by_stage(run, "Category", _groups)


def _passes(score: Score) -> Iterator[tuple[str, str]]:
    passes = score.record.get("pass_at_k")
    if isinstance(passes, dict):
        for k, record in passes.items():
            text = _entry(record)
            yield f"pass@{k}", f"{text} ({score.part})" if score.part and text != MISSING else text


def pass_table(run: Run) -> str:
    """pass@k of the tasks whose items got several replies, by stage."""
    return _by_stage(run, "Measure", _passes)


def _by_stage(run: Run, what: str, parts: Any) -> str:
    found: dict[tuple[str, str], dict[str, str]] = {}
    stages = []
    for stage in CHECKPOINTS[1:]:
        for task, score in task_scores(run.artifacts[f"{stage}_eval"]).items():
            for name, cell in parts(score):
                found.setdefault((task, name), {})[stage] = cell
                if stage not in stages:
                    stages.append(stage)
    rows = [
        {"Task": task, what: name} | {stage.upper(): cells.get(stage, MISSING) for stage in stages}
        for (task, name), cells in found.items()
    ]
    return markdown(rows, ("Task", what))


def core_table(run: Run) -> str:
    """CORE's tasks: accuracy, the official centred value and, beside it, accuracy minus the true chance level."""
    rows = [
        {
            "Task": score.task,
            "Accuracy": score.figure,
            "True chance": fraction(score.chance),
            "Accuracy − chance": with_error(change(score.above_chance), score.stderr),
            "Centred (official)": fraction(score.centered),
            "Items": items_of(score.items, score.available),
        }
        for score in task_scores(run.artifacts["base_eval"]).values()
    ]
    return markdown(rows, ("Task",))


def capped(run: Run) -> list[str]:
    """Evaluations that asked fewer items than there are, as sentences."""
    notes = []
    for stage in CHECKPOINTS:
        scores = task_scores(run.artifacts[f"{stage}_eval"])
        parts = [f"{score.task} {score.part}" for score in scores.values() if score.part]
        if parts:
            whole = f"{count(len(parts))} of {count(len(scores))} tasks asked fewer items than there are"
            notes.append(f"{run.artifacts[f'{stage}_eval'].title}: {whole} ({', '.join(parts)}).")
    return notes
