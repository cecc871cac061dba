"""CORE (DCLM, arXiv 2406.11794): few-shot tasks for base models, in the format of the public evaluation bundle.

A bundle folder holds core.yaml (the tasks), eval_meta_data.csv (random baselines, in percent) and eval_data/*.jsonl:

    multiple_choice    {"query": "Question: …", "choices": ["…", "…"], "gold": 2}
    schema             {"context_options": ["…", "…"], "continuation": "feared violence.", "gold": 0}
    language_modeling  {"context": "The native language of … is", "continuation": "French"}
"""

import csv
import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from nanochat.data.encoding import BulkEncoder
from nanochat.data.tokenizer import Tokenizer
from nanochat.errors import DataError
from nanochat.infer.scoring import Span, SpanLoss
from nanochat.infer.trees import common_prefix, crop

OFFICIAL_TASKS = 22
"""Tasks of the whole CORE."""
_FIELDS = {
    "multiple_choice": ("query", "choices", "gold"),
    "schema": ("context_options", "continuation", "gold"),
    "language_modeling": ("context", "continuation"),
}

_AT_ONCE = 1024
"""Texts that are encoded together."""

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
        others = random.Random(1234 + index).sample(range(len(self.items) - 1), count)
        return [self.items[place + (place >= index)] for place in others]


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

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that tell other tokens apart."""
        digest = hashlib.sha256()
        for span in self.spans:
            digest.update(np.array([span.start, *span.tokens], dtype="<i4").tobytes() + b";")
        return digest.hexdigest()[:16]


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
    joined = iter(_encode(tokenizer, [context + more for options in texts for context, more in options]))
    sequences = [[next(joined) for _ in options] for options in texts]
    if task.kind == "multiple_choice":
        return [_after(options, common_prefix(options)) for options in sequences]
    if task.kind == "schema":
        return [_ending(options, common_prefix([option[::-1] for option in options])) for options in sequences]
    contexts = _encode(tokenizer, [options[0][0].rstrip() for options in texts])
    rendered = []
    for (whole,), before, ((context, more),) in zip(sequences, contexts, texts):
        if len(before) < len(whole) and (whole[: len(before)] == before).all():
            rendered.append(Rendered((_span(whole, len(before)),)))
        else:
            rest = tokenizer.encode((context + more)[len(context.rstrip()) :])
            rendered.append(Rendered((_span(np.append(before, rest), len(before)),), fallback=True))
    return rendered


def _encode(tokenizer: Tokenizer, texts: Sequence[str]) -> list[np.ndarray]:
    """Ids of texts, with `<|bos|>` in front; solved examples come again and again, and are encoded once."""
    found: list[np.ndarray] = []
    encoder = BulkEncoder(tokenizer, np.dtype(np.int64))
    try:
        parts = [
            pa.array(texts[start : start + _AT_ONCE], pa.large_string()) for start in range(0, len(texts), _AT_ONCE)
        ]
    except UnicodeEncodeError:  # half of a surrogate pair, as broken JSON may hold
        return [np.array([tokenizer.bos, *ids]) for ids in tokenizer.encode_batch(texts)]
    for ids, lengths in encoder.encode(parts):
        found += np.split(ids, np.cumsum(lengths)[:-1])
    return found


def _span(tokens: np.ndarray, start: int) -> Span:
    return Span(tuple(tokens.tolist()), start)


def _after(options: Sequence[np.ndarray], start: int) -> Rendered:
    # At least one token of each choice is judged, also where one choice is the beginning of another.
    return Rendered(tuple(_span(tokens, min(start, len(tokens) - 1)) for tokens in options))


def _ending(options: Sequence[np.ndarray], count: int) -> Rendered:
    return Rendered(tuple(_span(tokens, max(1, len(tokens) - max(1, count))) for tokens in options))


def judge(task: CoreTask, index: int, rendered: Rendered, losses: Sequence[SpanLoss], context: int) -> dict[str, Any]:
    """The record of one item: the options' losses, what was picked and whether it is right.

    `prompt` is a digest of the tokens of all options, so that two evaluations can be seen to have asked the same;
    `context_tokens` is how many tokens stood before the judged part of each option.
    """
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
        "context_tokens": [crop(span, context).start for span in rendered.spans],
        "prompt": rendered.digest,
        "truncated": any(len(span.tokens) > context for span in rendered.spans),
        "fallback": rendered.fallback,
    }
