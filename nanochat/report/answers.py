"""The same questions, answered by each chat stage: what training changed, in the model's own words."""

import re
import textwrap
from collections.abc import Iterator

import pandas as pd

from nanochat.report.collect import CHECKPOINTS, Run
from nanochat.report.numbers import number
from nanochat.report.scores import records

_COLUMNS = ("task", "item", "prompt", "reply", "gold", "correct")
_TASKS = 6  # tasks shown
_CHARACTERS = 400  # of a prompt or reply
_WIDTH = 88


def before_and_after(run: Run) -> list[tuple[str, str]]:
    """One question per task with the answer of every chat stage, as (task, fenced text).

    The question is the task's first one that the first stage got wrong and the last one right; where there is none,
    the first one that both answered. Empty where fewer than two stages kept their answers.
    """
    answers = {}
    for stage in CHECKPOINTS[1:]:
        table = records(run.artifacts[f"{stage}_eval"], _COLUMNS)
        if len(table):
            answers[stage] = table.assign(correct=pd.to_numeric(table["correct"], errors="coerce"), right="")
            several = records(run.artifacts[f"{stage}_eval"], ("right", "samples"))
            if len(several):
                counts = [f" ({right:.0f} of {n:.0f} right)" if n > 1 else "" for right, n in several.to_numpy()]
                answers[stage]["right"] = counts
    if len(answers) < 2:
        return []
    first, *_, last = answers.values()
    both = first.merge(last, on=["task", "item"], suffixes=("_before", "_after"))
    shown = []
    for task, rows in list(both.groupby("task", sort=False))[:_TASKS]:
        turned = rows[(rows["correct_before"] < 1) & (rows["correct_after"] == 1)]
        item = (turned if len(turned) else rows)["item"].iloc[0]
        found = {stage: table[(table["task"] == task) & (table["item"] == item)] for stage, table in answers.items()}
        shown.append(
            (str(task), _fenced("\n".join(_story({stage: rows for stage, rows in found.items() if len(rows)}))))
        )
    return shown


def _story(found: dict[str, pd.DataFrame]) -> Iterator[str]:
    question = next(iter(found.values())).iloc[0]
    yield from _labelled("question", question["prompt"])
    if question["gold"] is not None and str(question["gold"]).strip():
        yield from _labelled("expected", question["gold"])
    for stage, rows in found.items():
        answer = rows.iloc[0]
        verdict = "right" if number(float(answer["correct"])) == 1 else "wrong"
        yield from _labelled(f"{stage}, {verdict}{answer['right']}", answer["reply"])


def _labelled(label: str, text: object) -> Iterator[str]:
    words = str(text).strip()
    cut = words if len(words) <= _CHARACTERS else f"{words[:_CHARACTERS]} …"
    lines = [piece for line in cut.splitlines() for piece in textwrap.wrap(line, _WIDTH)] or ["(nothing)"]
    yield f"{label + ':':<12} {lines[0]}"
    yield from (f"{'':<12} {line}" for line in lines[1:])


def _fenced(text: str) -> str:
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"
