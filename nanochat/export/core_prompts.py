"""CORE's prompts for lm-evaluation-harness: each task as finished texts and a task file beside them.

The harness's own versions of these tasks have other prompts and examples, so their accuracies say nothing about ours.
With these it is asked exactly what nanochat.evaluate.core asks. What still differs: the harness takes the sum of a
choice's log-likelihoods from where the context ends (blanks at its end count as the choice's), ours is a mean over the
tokens that are not common to all choices.
"""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from nanochat.artifact import write_atomically
from nanochat.data.tokenizer import Tokenizer
from nanochat.evaluate.core import CoreTask, read_bundle, texts_of
from nanochat.model.checkpoint import load_config

log = logging.getLogger(__name__)

PREFIX = "core_"
"""Of the tasks' names, so that they are not taken for the harness's own."""

# Fields are named without braces: as templates, texts would lose the blanks at their ends.
_HOW: dict[str, dict[str, Any]] = {
    "multiple_choice": {
        "output_type": "multiple_choice",
        "doc_to_text": "context",
        "doc_to_choice": "choices",
        "doc_to_target": "gold",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    },
    # Several inputs: the number of the right one stands for the text, the contexts for the choices.
    "schema": {
        "output_type": "multiple_choice",
        "doc_to_text": "gold",
        "doc_to_choice": "contexts",
        "doc_to_target": "continuation",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    },
    "language_modeling": {
        "output_type": "loglikelihood",
        "doc_to_text": "context",
        "doc_to_target": "continuation",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    },
}


def run(
    *, bundle: Path, out: Path, tasks: Sequence[str] = (), max_items: int | None = None, model: Path | None = None
) -> list[str]:
    """Write `<task>.jsonl` and `<task>.yaml` for tasks of a bundle.

    Args:
        bundle: evaluation bundle.
        out: folder; files of these names in it are replaced.
        tasks: labels; none takes all.
        max_items: items per task at most, the first ones of the official order, as in base_eval.
        model: checkpoint directory; with it, each line says how many tokens its prompts have and whether they are
            longer than the context, where the harness keeps one token more than we do.

    Returns:
        The names of the tasks for the harness.

    Raises:
        DataError: if the bundle is damaged or has no such task.
        ArtifactError: if the model is not a checkpoint directory.
    """
    tokenizer = Tokenizer.load(model) if model else None
    context = load_config(model).sequence_length if model else None
    names = []
    for task in read_bundle(bundle, tasks):
        rows = [prompt(task, index) for index in range(len(task.items))[:max_items]]
        if tokenizer and context:
            rows = [row | _lengths(row, tokenizer, context) for row in rows]
        lines = out / f"{task.label}.jsonl"
        write_atomically(lines, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        name = f"{PREFIX}{task.label}"
        write_atomically(out / f"{task.label}.yaml", yaml.safe_dump(_task_file(name, task, lines), sort_keys=False))
        names.append(name)
        log.info("%s: %d of %d items, %d shots", name, len(rows), len(task.items), task.shots)
    return names


def prompt(task: CoreTask, index: int) -> dict[str, Any]:
    """One line: the texts of an item, solved examples included, and the right answer."""
    options, item = texts_of(task, index), task.items[index]
    if task.kind == "multiple_choice":
        return {
            "item": index,
            "context": options[0][0],
            "choices": [continuation for _, continuation in options],
            "gold": item["gold"],
        }
    if task.kind == "schema":
        return {
            "item": index,
            "contexts": [context for context, _ in options],
            "continuation": options[0][1],
            "gold": item["gold"],
        }
    return {"item": index, "context": options[0][0], "continuation": options[0][1]}


def _lengths(row: dict[str, Any], tokenizer: Tokenizer, context: int) -> dict[str, Any]:
    texts = [
        before + after
        for before in row.get("contexts", [row.get("context")])
        for after in row.get("choices", [row.get("continuation")])
    ]
    tokens = [1 + len(ids) for ids in tokenizer.encode_batch(texts)]
    return {"tokens": tokens, "truncated": max(tokens) > context}


def _task_file(name: str, task: CoreTask, lines: Path) -> dict[str, Any]:
    return {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(lines.absolute())}},
        "test_split": "test",
        "num_fewshot": 0,
        "target_delimiter": "",
        **_HOW[task.kind],
        "metadata": {"version": 1.0, "shots_in_the_prompt": task.shots},
    }
