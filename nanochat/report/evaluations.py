"""Two evaluations side by side: the items both have, what differs in how they were made."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nanochat.artifact import Manifest, read_manifest
from nanochat.config import ChatTaskSettings
from nanochat.errors import ArtifactError
from nanochat.evaluate.paired import Pairs
from nanochat.evaluate.scores import Record, right_share

_COLUMNS = ("task", "item", "correct", "right", "samples", "prompt", "gold")
_SHOWN = 12  # settings that differ, one by one


@dataclass(frozen=True)
class Evaluation:
    """One evaluation, read.

    Attributes:
        manifest: of its directory.
        scores: task → its entry of scores.json.
        records: task → item → record.
    """

    manifest: Manifest
    scores: dict[str, dict[str, Any]]
    records: dict[str, dict[int, Record]]


@dataclass(frozen=True)
class Matched:
    """A task's items that both evaluations have, and their numbers in each of the two.

    Attributes:
        pairs: both models' values.
        items: item numbers, in the order of the pairs.
        first_items, second_items: items of either evaluation.
        available: items there are.
        unlike: items left out because their questions or answers differ.
    """

    pairs: Pairs
    items: list[int]
    first_items: int
    second_items: int
    available: int
    unlike: int


def read_evaluation(directory: Path) -> Evaluation:
    """Read the evaluation of a base or chat model.

    Raises:
        ArtifactError: if it is none, or its scores or records cannot be read.
    """
    manifest = read_manifest(directory, ("base_eval", "chat_eval"))
    try:
        content = json.loads((directory / "scores.json").read_text())
        scores = {row["task"]: row for row in content["scores"]}
        path = directory / "records.parquet"
        names = [name for name in _COLUMNS if name in pq.read_schema(path).names]
        rows = pq.read_table(path, columns=names).to_pylist()
        records: dict[str, dict[int, Record]] = {}
        for row in rows:
            records.setdefault(row["task"], {})[row["item"]] = {**row, "correct": bool(row["correct"])}
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowInvalid) as error:
        raise ArtifactError(
            f"{directory}: its scores and records cannot be read ({error}); evaluate the checkpoint anew"
        ) from None
    return Evaluation(manifest, scores, records)


def check_model(checkpoint: Path, evaluation: Path, manifest: Manifest) -> Manifest:
    """The manifest of a checkpoint, if the evaluation is of it.

    Raises:
        ArtifactError: if the evaluation is of other weights.
    """
    model = read_manifest(checkpoint, ("base", "mid", "sft", "rl"))
    if manifest.inputs.get("model") != model.digest:
        raise ArtifactError(
            f"{evaluation} is an evaluation of another model than {checkpoint} holds now; evaluate that one anew "
            f"(remove {evaluation} and run the same command)"
        )
    return model


def match(first: Evaluation, second: Evaluation) -> dict[str, Matched]:
    """Task → items that both evaluations have; tasks without any are left out.

    Items are the same if they have the same number in the same task and, where that was recorded, the same question
    and expected answer.
    """
    found = {}
    for task, mine in first.records.items():
        theirs = second.records.get(task, {})
        both = sorted(mine.keys() & theirs.keys())
        same = [item for item in both if _alike(mine[item], theirs[item])]
        if not same:
            continue
        score = first.scores.get(task, {})
        found[task] = Matched(
            pairs=Pairs(
                np.array([right_share(mine[item]) for item in same], dtype=np.float64),
                np.array([right_share(theirs[item]) for item in same], dtype=np.float64),
                float(score.get("baseline", score.get("chance", 0.0))),
            ),
            items=same,
            first_items=len(mine),
            second_items=len(theirs),
            available=int(score.get("available", len(mine))),
            unlike=len(both) - len(same),
        )
    return found


def _alike(first: Record, second: Record) -> bool:
    return all(
        first.get(name) is None or second.get(name) is None or first[name] == second[name]
        for name in ("prompt", "gold")
    )


def _flat(prefix: str, value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return {key: leaf for name, inner in value.items() for key, leaf in _flat(f"{prefix}{name}.", inner).items()}
    return {prefix.removesuffix("."): value}


def _settings(evaluation: Evaluation, tasks: set[str]) -> dict[str, Any]:
    """Settings of an evaluation, key by key; what an older version did not know has its default."""
    known: dict[str, Any] = {}
    if evaluation.manifest.stage == "chat_eval":
        defaults = ChatTaskSettings().model_dump(mode="json")
        known = _flat("", {"chat_eval": {"tasks": dict.fromkeys(tasks, defaults)}})
    return known | _flat("", evaluation.manifest.settings)


def differing_settings(first: Evaluation, second: Evaluation, tasks: set[str]) -> list[str]:
    """Settings of the two evaluations that differ, as sentences; those of tasks only one has are left out."""
    mine, theirs = _settings(first, tasks), _settings(second, tasks)
    notes = []
    for key in sorted(mine.keys() | theirs.keys()):
        _, _, after = key.partition("chat_eval.tasks.")
        if after and after.split(".")[0] not in tasks:
            continue
        a, b = (json.dumps(values[key]) if key in values else "not set" for values in (mine, theirs))
        if a != b:
            notes.append(f"`{key}` is {a} in the first evaluation, {b} in the second.")
    more = len(notes) - _SHOWN
    bundles = {evaluation.manifest.inputs.get("bundle") for evaluation in (first, second)}
    if len(bundles) > 1:
        notes.insert(0, "The two evaluations read different bundles; items are matched by their number and answer.")
    notes = [*notes[:_SHOWN], *([f"{more} further settings differ."] if more > 0 else [])]
    for task in sorted(tasks):
        for name in ("shots", "samples", "isolation"):
            a, b = first.scores.get(task, {}).get(name), second.scores.get(task, {}).get(name)
            if a != b:
                notes.append(f"{task}: {name} {_said(a)} in the first evaluation, {_said(b)} in the second.")
    return notes


def _said(value: Any) -> str:
    if value is None:
        return "not recorded"
    return " + ".join(map(str, value)) if isinstance(value, list) else str(value)
