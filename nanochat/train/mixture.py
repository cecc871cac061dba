"""The conversations of midtraining and SFT: a mixture of tasks, rendered once and kept beside the step checkpoints."""

import json
import logging
import os
import random
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nanochat.config import OWN, FinetuneSettings, load_catalogue, task_entry
from nanochat.data.conversation import Conversation, render_batch
from nanochat.data.splits import held_out
from nanochat.data.tokenizer import Tokenizer
from nanochat.errors import DataError
from nanochat.evaluate.tasks import load_task
from nanochat.evaluate.tasks.base import Task

log = logging.getLogger(__name__)

Rendered = tuple[np.ndarray, np.ndarray]
"""(tokens,) ids and (tokens,) mask of one conversation."""
VALIDATION_SALT = "validation"
"""Splits validation items off the training split; SFT and RL share it, so that the larger share holds the smaller."""
_CHUNK = 2000


@dataclass(frozen=True)
class TaskFolders:
    """Where the files of tasks lie.

    Attributes:
        data: data folder, laid out like the hub, for the tasks of the catalogue.
        own: folder of the user's own conversations and persona, `<own>/<name>/`.
    """

    data: Path
    own: Path | None = None

    def files(self, names: Iterable[str]) -> dict[str, Path]:
        """Files of the training splits of tasks, by the names they have as inputs of a stage."""
        files = {}
        for name in names:
            kind, folder = ("data", self.data) if name in load_catalogue().tasks else (OWN, self._folder(name))
            files |= {f"{kind}/{path}": folder / path for path in task_entry(name).train}
        return files

    def load(self, name: str) -> Task:
        """The training split of a task.

        Raises:
            DataError: if a file is missing or damaged.
        """
        return load_task(name, "train", self._folder(name))

    def _folder(self, name: str) -> Path:
        if name in load_catalogue().tasks:
            return self.data
        if self.own is None:
            raise DataError(f"task {name} is not in the catalogue; expected the folder of the user's own conversations")
        return self.own


def split_items(task: Task, fraction: float) -> tuple[list[int], list[int]]:
    """Items of a task to train on and, by the hash of their keys, to validate on."""
    train: list[int] = []
    validation: list[int] = []
    for index in range(len(task)):
        (validation if held_out(task.key(index), fraction, VALIDATION_SALT) else train).append(index)
    return train, validation


@dataclass(frozen=True)
class Mixture:
    """Rendered conversations of all tasks.

    Attributes:
        ids, mask: (tokens,) of all conversations, one after the other.
        offsets: (conversations + 1,) int64.
        parts: `train/<task>` and `validation/<task>` → (first conversation, number of them).
        shown: (task, item) of a few held-out items, for samples.md.
    """

    ids: np.ndarray
    mask: np.ndarray
    offsets: np.ndarray
    parts: dict[str, tuple[int, int]]
    shown: list[tuple[str, int]]

    def _get(self, index: int) -> Rendered:
        part = slice(int(self.offsets[index]), int(self.offsets[index + 1]))
        return self.ids[part], self.mask[part]

    def training(self, settings: FinetuneSettings, seed: int) -> list[Rendered]:
        """Conversations of one pass, each task as often as `passes` says; a broken share is drawn by seed."""
        chosen: list[Rendered] = []
        for name, epochs in self.passes(settings).items():
            first, count = self.parts[f"train/{name}"]
            whole, rest = divmod(epochs, 1.0)
            items = [*range(first, first + count)] * int(whole)
            generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
            items += (first + np.sort(generator.permutation(count)[: round(rest * count)])).tolist()
            chosen += [self._get(index) for index in items]
        return chosen

    def passes(self, settings: FinetuneSettings) -> dict[str, float]:
        """How often each task's conversations are in one pass over the mixture."""
        weights = {name: entry.weight for name, entry in settings.mixture.items() if entry.weight is not None}
        if not weights:
            return {name: entry.epochs for name, entry in settings.mixture.items()}
        # Passes that one unit of weight gives; the task that is used up first decides how much that is.
        of_unit = {name: weight / self._tokens(f"train/{name}") for name, weight in weights.items()}
        units, least = min((settings.mixture[name].epochs / share, name) for name, share in of_unit.items())
        passes = {name: units * share for name, share in of_unit.items()}
        count = sum(round(number * self.parts[f"train/{name}"][1]) for name, number in passes.items())
        log.info("weights: a pass holds %d conversations, as many as %s has with its epochs", count, least)
        return passes

    def _tokens(self, part: str) -> int:
        first, count = self.parts[part]
        return int(self.offsets[first + count] - self.offsets[first])

    def validation(self) -> dict[str, list[Rendered]]:
        """Held-out conversations by task; tasks without any are left out."""
        return {
            name.removeprefix("validation/"): [self._get(index) for index in range(first, first + count)]
            for name, (first, count) in self.parts.items()
            if name.startswith("validation/") and count
        }

    def save(self, path: Path) -> None:
        """Write to `path` under a temporary name and rename."""
        temporary = path.with_suffix(".tmp.npz")
        about = json.dumps({"parts": self.parts, "shown": self.shown})
        np.savez(temporary, ids=self.ids, mask=self.mask, offsets=self.offsets, about=np.array(about))
        os.replace(temporary, path)

    @classmethod
    def load(cls, path: Path) -> "Mixture":
        """Read what `save` wrote."""
        with np.load(path) as arrays:
            about = json.loads(str(arrays["about"]))
            parts = {name: (first, count) for name, (first, count) in about["parts"].items()}
            shown = [(name, index) for name, index in about["shown"]]
            return cls(arrays["ids"], arrays["mask"], arrays["offsets"], parts, shown)


def build(settings: FinetuneSettings, folders: TaskFolders, tokenizer: Tokenizer) -> Mixture:
    """Render the conversations of a mixture.

    Raises:
        DataError: if the mixture is empty, a task has no items to train on, or a conversation is malformed.
    """
    if not settings.mixture:
        raise DataError("the mixture is empty: nothing to train on; name at least one task of the catalogue in it")
    ids: list[np.ndarray] = []
    mask: list[np.ndarray] = []
    parts: dict[str, tuple[int, int]] = {}
    shown: list[tuple[str, int]] = []
    for name, entry in settings.mixture.items():
        task = folders.load(name)
        train, validation = split_items(task, settings.val_fraction)
        if not train:
            raise DataError(f"task {name} has {len(task)} items and none of them to train on; expected at least one")
        shown += [(name, index) for index in validation[:1]]
        # Files are often sorted: a cap takes a fixed random sample.
        if entry.max_items is not None and entry.max_items < len(train):
            train = sorted(random.Random(1337).sample(train, entry.max_items))
        for part, items in (("train", train), ("validation", validation)):
            parts[f"{part}/{name}"] = (len(ids), len(items))
            for tokens, learned in _render(task, name, items, tokenizer):
                ids.append(tokens)
                mask.append(learned)
        log.info("%s: %d conversations, %d held out", name, *(parts[f"{p}/{name}"][1] for p in ("train", "validation")))
    offsets = np.zeros(len(ids) + 1, dtype=np.int64)
    np.cumsum([len(tokens) for tokens in ids], out=offsets[1:])
    return Mixture(np.concatenate(ids), np.concatenate(mask), offsets, parts, shown)


def _render(task: Task, name: str, items: list[int], tokenizer: Tokenizer) -> Iterator[Rendered]:
    for start in range(0, len(items), _CHUNK):
        conversations = [task.conversation(index) for index in items[start : start + _CHUNK]]
        for ids, mask in render_batch(tokenizer, conversations, where=name):
            yield np.asarray(ids, dtype=np.int32), np.asarray(mask, dtype=np.int8)


def shown_conversations(mixture: Mixture, folders: TaskFolders) -> list[tuple[str, Conversation]]:
    """The held-out items that samples.md shows."""
    return [(name, folders.load(name).conversation(index)) for name, index in mixture.shown]
