"""CORE (DCLM, arXiv 2406.11794): few-shot tasks for base models, in the format of the public evaluation bundle.

A bundle folder holds core.yaml (the tasks), eval_meta_data.csv (random baselines, in percent) and eval_data/*.jsonl:

    multiple_choice    {"query": "Question: …", "choices": ["…", "…"], "gold": 2}
    schema             {"context_options": ["…", "…"], "continuation": "feared violence.", "gold": 0}
    language_modeling  {"context": "The native language of … is", "continuation": "French"}
"""

import csv
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from nanochat.data.tokenizer import Tokenizer
from nanochat.errors import DataError
from nanochat.infer.scoring import Span, SpanLoss, span_losses
from nanochat.model.gpt import GPT

OFFICIAL_TASKS = 22
"""Tasks of the whole CORE."""
_FIELDS = {
    "multiple_choice": ("query", "choices", "gold"),
    "schema": ("context_options", "continuation", "gold"),
    "language_modeling": ("context", "continuation"),
}

Item = dict[str, Any]


@dataclass(frozen=True)
class CoreTask:
    """One task of a bundle.

    Attributes:
        label, kind: name, and one of multiple_choice, schema, language_modeling.
        shots: solved examples before each item.
        delimiter: between context and continuation.
        baseline: the official random baseline, as a share; None where the bundle states none.
        items: all items, in the official (seeded) order.
    """

    label: str
    kind: str
    shots: int
    delimiter: str
    baseline: float | None
    items: tuple[Item, ...]

    @property
    def chance(self) -> float:
        """Share that guessing gets right, from the items themselves: the mean of 1 / number of options."""
        if self.kind == "language_modeling":
            return 0.0
        options = "choices" if self.kind == "multiple_choice" else "context_options"
        return sum(1 / len(item[options]) for item in self.items) / len(self.items)

    def examples(self, index: int) -> list[Item]:
        """The solved examples before an item: drawn from the whole task, so that capping items changes none of them."""
        count = min(self.shots, len(self.items) - 1)
        others = [place for place in range(len(self.items)) if place != index]
        return [self.items[place] for place in random.Random(1234 + index).sample(others, count)]


def read_bundle(bundle: Path, labels: Sequence[str] = ()) -> list[CoreTask]:
    """Read the tasks of a bundle, in its order; `labels` picks some.

    Raises:
        DataError: if a file is missing or damaged, or a label is unknown.
    """
    try:
        listed = yaml.safe_load((bundle / "core.yaml").read_text())["icl_tasks"]
        known = {entry["label"]: entry for entry in listed}
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise DataError(
            f"{bundle}/core.yaml cannot be read as a list of icl_tasks ({error!r}); delete {bundle} and rerun snakemake"
        ) from None
    for label in labels:
        if label not in known:
            raise DataError(f"base_eval.tasks: {label} is not in {bundle}/core.yaml; it has {', '.join(known)}")
    baselines = _read_baselines(bundle / "eval_meta_data.csv")
    return [_read_task(bundle, known[label], baselines) for label in known if not labels or label in labels]


def _read_baselines(path: Path) -> dict[str, float]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return {row["Eval Task"]: float(row["Random baseline"]) / 100 for row in csv.DictReader(file)}
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"{path} cannot be read ({error!r}); delete {path.parent} and rerun snakemake") from None


def _read_task(bundle: Path, entry: Mapping[str, Any], baselines: Mapping[str, float]) -> CoreTask:
    path = bundle / "eval_data" / entry["dataset_uri"]
    kind = entry["icl_task_type"]
    if kind not in _FIELDS:
        raise DataError(f"{bundle}/core.yaml: {entry['label']} is of type {kind}, expected one of {', '.join(_FIELDS)}")
    items = []
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    items.append(json.loads(line))
                    missing = [name for name in _FIELDS[kind] if name not in items[-1]]
                    if missing:
                        raise DataError(f"{path} line {number} has no {missing[0]!r}, which {kind} items need")
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}); delete {bundle} and rerun snakemake") from None
    if not items:
        raise DataError(f"{path} holds no items; delete {bundle} and rerun snakemake")
    random.Random(1337).shuffle(items)
    return CoreTask(
        label=entry["label"],
        kind=kind,
        shots=entry["num_fewshot"][0],
        delimiter=entry.get("continuation_delimiter", " "),
        baseline=baselines.get(entry["label"]),
        items=tuple(items),
    )


@dataclass(frozen=True)
class Rendered:
    """An item as token sequences: one per choice.

    Attributes:
        spans: sequences and where their judged part begins.
        fallback: whether context and continuation had to be encoded apart, since together the tokenizer merges across
            their border.
    """

    spans: tuple[Span, ...]
    fallback: bool = False


def texts_of(task: CoreTask, index: int) -> list[tuple[str, str]]:
    """(context, continuation) of each option of an item, solved examples included; the joined text is what counts."""
    item, delimiter = task.items[index], task.delimiter
    if task.kind == "multiple_choice":
        shots = "".join(f"{s['query']}{delimiter}{s['choices'][s['gold']]}\n\n" for s in task.examples(index))
        return [(f"{shots}{item['query']}{delimiter}", choice) for choice in item["choices"]]
    if task.kind == "schema":
        shots = "".join(
            f"{s['context_options'][s['gold']]}{delimiter}{s['continuation']}\n\n" for s in task.examples(index)
        )
        return [(f"{shots}{context}{delimiter}", item["continuation"]) for context in item["context_options"]]
    shots = "".join(f"{s['context'].strip()}{delimiter}{s['continuation']}\n\n" for s in task.examples(index))
    return [(f"{shots}{item['context'].strip()}{delimiter}", item["continuation"])]


def render_items(task: CoreTask, indices: Sequence[int], tokenizer: Tokenizer) -> list[Rendered]:
    """Items as token sequences.

    The judged part of multiple choice begins after the longest common prefix of the choices' tokens, that of a schema
    at their longest common suffix, that of language modeling where the context without trailing blanks ends.
    """
    texts = [texts_of(task, index) for index in indices]
    joined = iter(tokenizer.encode_batch([context + more for options in texts for context, more in options]))
    sequences = [[(tokenizer.bos, *next(joined)) for _ in options] for options in texts]
    if task.kind == "multiple_choice":
        return [_after(options, _common(options)) for options in sequences]
    if task.kind == "schema":
        return [_ending(options, _common([option[::-1] for option in options])) for options in sequences]
    contexts = tokenizer.encode_batch([options[0][0].rstrip() for options in texts])
    rendered = []
    for (whole,), ids, ((context, more),) in zip(sequences, contexts, texts):
        before = (tokenizer.bos, *ids)
        if whole[: len(before)] == before and len(whole) > len(before):
            rendered.append(Rendered((Span(whole, len(before)),)))
        else:
            rest = tokenizer.encode((context + more)[len(context.rstrip()) :])
            rendered.append(Rendered((Span((*before, *rest), len(before)),), fallback=True))
    return rendered


def _common(sequences: Sequence[Sequence[int]]) -> int:
    """Length of the longest common prefix."""
    count = 0
    for column in zip(*sequences):
        if len(set(column)) > 1:
            break
        count += 1
    return count


def _after(options: Sequence[tuple[int, ...]], start: int) -> Rendered:
    # At least one token of each choice is judged, also where one choice is the beginning of another.
    return Rendered(tuple(Span(tokens, min(start, len(tokens) - 1)) for tokens in options))


def _ending(options: Sequence[tuple[int, ...]], count: int) -> Rendered:
    return Rendered(tuple(Span(tokens, max(1, len(tokens) - max(1, count))) for tokens in options))


def judge(task: CoreTask, index: int, rendered: Rendered, losses: Sequence[SpanLoss], context: int) -> dict[str, Any]:
    """The record of one item: the options' losses, what was picked and whether it is right."""
    item = task.items[index]
    record: dict[str, Any] = {"item": index}
    if task.kind == "language_modeling":
        record |= {"gold": item["continuation"], "picked": None, "correct": losses[0].greedy}
    else:
        means = [loss.mean for loss in losses]
        picked = means.index(min(means))
        record |= {"gold": str(item["gold"]), "picked": str(picked), "correct": picked == item["gold"]}
    return record | {
        "loss_sums": [round(loss.total, 5) for loss in losses],  # the digits that do not depend on the batch
        "loss_tokens": [loss.tokens for loss in losses],
        "truncated": any(len(span.tokens) > context for span in rendered.spans),
        "fallback": rendered.fallback,
    }


def evaluate_items(
    model: GPT, tokenizer: Tokenizer, task: CoreTask, indices: Sequence[int], device_batch_size: int
) -> list[dict[str, Any]]:
    """Records of some items of a task: one forward pass for each option, in batches by length over all items."""
    rendered = render_items(task, indices, tokenizer)
    losses = iter(span_losses(model, [span for item in rendered for span in item.spans], device_batch_size))
    context = model.config.sequence_length
    return [
        judge(task, index, item, [next(losses) for _ in item.spans], context) for index, item in zip(indices, rendered)
    ]
