"""CORE (DCLM, arXiv 2406.11794): few-shot tasks for base models, in the format of the public evaluation bundle.

A bundle folder holds core.yaml (the tasks), eval_meta_data.csv (random baselines, in percent) and eval_data/*.jsonl:

    multiple_choice    {"query": "Question: …", "choices": ["…", "…"], "gold": 2}
    schema             {"context_options": ["…", "…"], "continuation": "feared violence.", "gold": 0}
    language_modeling  {"context": "The native language of … is", "continuation": "French"}
"""

import csv
import hashlib
import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from nanochat.data.encoding import BulkEncoder
from nanochat.data.tokenizer import Tokenizer
from nanochat.errors import ArtifactError, DataError
from nanochat.infer.scoring import Span, SpanLoss
from nanochat.infer.trees import common_prefix, crop

_FIELDS = {
    "multiple_choice": ("query", "choices", "gold"),
    "schema": ("context_options", "continuation", "gold"),
    "language_modeling": ("context", "continuation"),
}
_OPTIONS = {"multiple_choice": "choices", "schema": "context_options"}

_AT_ONCE = 256
"""Items that are rendered together."""

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
        return sum(1 / len(item[_OPTIONS[self.kind]]) for item in self.items) / len(self.items)

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


def _fault(kind: str, item: Any) -> str:
    """What makes an item one that no answer would be right for, or every one; empty where nothing does."""
    missing = [name for name in _FIELDS[kind] if not isinstance(item, dict) or name not in item]
    if missing:
        return f"has no {missing[0]!r}, which {kind} items need"
    if kind != "multiple_choice" and not str(item["continuation"]).strip():
        return "has an empty 'continuation'"
    if kind != "language_modeling":
        count, gold = len(item[_OPTIONS[kind]]), item["gold"]
        if type(gold) is not int or not 0 <= gold < count:
            return f"has {count} options and gold = {gold!r}, expected the number of one of them, from 0 on"
    return ""


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
                    fault = _fault(kind, items[-1])
                    if fault:
                        raise DataError(
                            f"{path} line {number} {fault}; mend it, or delete {bundle} and rerun snakemake"
                        )
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
        digest: 16 hexadecimal digits that tell other texts apart, whatever the tokenizer.
        fallback: whether context and continuation had to be encoded apart, since together the tokenizer merges across
            their border.
    """

    spans: tuple[Span, ...]
    digest: str
    fallback: bool = False

    def facts(self, context: int) -> dict[str, Any]:
        """What a record says of the prompt.

        `prompt` is the digest, by which two evaluations can be seen to have asked the same; `context_tokens` is how
        many tokens stand before the judged part of each option; `truncated` is whether one is longer than the context.
        """
        return {
            "context_tokens": [crop(span, context).start for span in self.spans],
            "prompt": self.digest,
            "truncated": any(len(span.tokens) > context for span in self.spans),
            "fallback": self.fallback,
        }


def _digest(options: Sequence[tuple[str, str]]) -> str:
    digest = hashlib.sha256()
    for part in (text for option in options for text in option):
        content = part.encode("utf-8", "surrogatepass")
        digest.update(len(content).to_bytes(8, "little") + content)
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


def rendered_items(task: CoreTask, indices: Sequence[int], tokenizer: Tokenizer) -> Iterator[Rendered]:
    """Items as token sequences, one after the other: those of a whole task may be too many to be held.

    The judged part of multiple choice begins after the longest common prefix of the choices' tokens, that of a schema
    at their longest common suffix, that of language modeling where the context without trailing blanks ends.
    """
    encoder = BulkEncoder(tokenizer, np.dtype(np.int64))  # remembers solved examples, which come again and again
    for start in range(0, len(indices), _AT_ONCE):
        texts = [texts_of(task, index) for index in indices[start : start + _AT_ONCE]]
        joined = iter(_encode(encoder, tokenizer, [context + more for options in texts for context, more in options]))
        sequences = [[next(joined) for _ in options] for options in texts]
        if task.kind == "language_modeling":
            befores = _encode(encoder, tokenizer, [options[0][0].rstrip() for options in texts])
            for options, (whole,), before in zip(texts, sequences, befores, strict=True):
                yield _continuing(options, whole, before, tokenizer)
            continue
        for options, tokens in zip(texts, sequences, strict=True):
            if task.kind == "multiple_choice":
                yield _after(options, tokens, common_prefix(tokens))
            else:
                yield _ending(options, tokens, common_prefix([option[::-1] for option in tokens]))


def render_items(task: CoreTask, indices: Sequence[int], tokenizer: Tokenizer) -> list[Rendered]:
    """`rendered_items` in a list."""
    return list(rendered_items(task, indices, tokenizer))


def _encode(encoder: BulkEncoder, tokenizer: Tokenizer, texts: Sequence[str]) -> list[np.ndarray]:
    """Ids of texts, with `<|bos|>` in front."""
    try:
        part = pa.array(texts, pa.large_string())
    except UnicodeEncodeError:  # half of a surrogate pair, as broken JSON may hold
        return [np.array([tokenizer.bos, *ids]) for ids in tokenizer.encode_batch(texts)]
    return [found for ids, lengths in encoder.encode([part]) for found in np.split(ids, np.cumsum(lengths)[:-1])]


def _span(tokens: np.ndarray, start: int) -> Span:
    return Span(tuple(tokens.tolist()), start)


def _after(texts: Sequence[tuple[str, str]], options: Sequence[np.ndarray], start: int) -> Rendered:
    # At least one token of each choice is judged, also where one choice is the beginning of another.
    return Rendered(tuple(_span(tokens, min(start, len(tokens) - 1)) for tokens in options), _digest(texts))


def _ending(texts: Sequence[tuple[str, str]], options: Sequence[np.ndarray], count: int) -> Rendered:
    return Rendered(tuple(_span(ids, max(1, len(ids) - max(1, count))) for ids in options), _digest(texts))


def _continuing(
    texts: Sequence[tuple[str, str]], whole: np.ndarray, before: np.ndarray, tokenizer: Tokenizer
) -> Rendered:
    if len(before) < len(whole) and (whole[: len(before)] == before).all():
        return Rendered((_span(whole, len(before)),), _digest(texts))
    [(context, more)] = texts
    rest = tokenizer.encode((context + more)[len(context.rstrip()) :])
    return Rendered((_span(np.append(before, rest), len(before)),), _digest(texts), fallback=True)


def judge(task: CoreTask, index: int, losses: Sequence[SpanLoss], facts: Mapping[str, Any]) -> dict[str, Any]:
    """The record of one item: the options' losses, what was picked and whether it is right.

    Args:
        task: the item's.
        index: its number.
        losses: of its options.
        facts: of its prompt, see `Rendered.facts`.

    Raises:
        ArtifactError: if a loss is not a number: the first option would seem to be the answer.
    """
    item = task.items[index]
    if not all(math.isfinite(loss.total) for loss in losses):
        raise ArtifactError(
            f"{task.label}, item {index}: the model's losses are {', '.join(f'{loss.total:g}' for loss in losses)}, "
            "expected finite numbers: its weights are broken or its training diverged; see metrics.jsonl of the "
            "checkpoint, and train it again with lower learning rates"
        )
    record: dict[str, Any] = {"item": index}
    if task.kind == "language_modeling":
        record |= {"gold": _writable(item["continuation"]), "picked": None, "correct": losses[0].greedy}
    else:
        # Some items offer the same text twice: one of them wins, not the rounding of where they stood in a batch.
        options = item["choices" if task.kind == "multiple_choice" else "context_options"]
        losses = [losses[options.index(option)] for option in options]
        means = [loss.mean for loss in losses]
        picked = means.index(min(means))
        record |= {"gold": str(item["gold"]), "picked": str(picked), "correct": picked == item["gold"]}
    return record | {
        "loss_sums": [round(loss.total, 5) for loss in losses],  # the digits that do not depend on the batch
        "loss_tokens": [loss.tokens for loss in losses],
        **facts,
    }


def _writable(text: str) -> str:
    """A text without halves of surrogate pairs, which no file of records can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")
