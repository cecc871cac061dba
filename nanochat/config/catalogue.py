"""The catalogue: every data set the product knows, by name, with its files, licence and kind (catalogue.yaml)."""

import difflib
from functools import cache
from importlib import resources
from typing import Literal, TypeVar

import yaml
from pydantic import Field

from nanochat.config.base import Settings

T = TypeVar("T")


class Corpus(Settings):
    """Pretraining text in numbered parquet shards; the last one is the validation text."""

    repo: str
    """Data set id, `owner/name`."""
    revision: str = "main"
    """Commit or branch the files are taken from."""
    shards: int | None = None
    """Number of shards in all; none: what config.world.train_shards + 1 says."""
    shard_chars: int = 250_000_000
    """Characters in one shard, about."""
    licence: str
    """Licence as its publisher states it."""
    sample_prompts: tuple[str, ...] = ()
    """Prompts that suit the text, for samples.md; none takes beginnings of validation documents."""

    def path(self, index: int) -> str:
        """Path of shard `index` below the data folder."""
        return f"datasets/{self.repo}/shard_{index:05d}.parquet"


class TaskEntry(Settings):
    """A data set of items that become conversations."""

    kind: Literal["arc", "mmlu", "gsm8k", "humaneval", "qa", "smoltalk", "identity", "spelling_bee", "simple_spelling"]
    """Schema of its files, and with it the class in evaluate/tasks that reads them."""
    metric: Literal["choice", "generate"] | None = None
    """How answers are scored: most likely letter, checked generated text, or not at all (training only)."""
    chance: float = 0.0
    """Accuracy of guessing."""
    train: tuple[str, ...] = ()
    """Files of the training split, below the data folder."""
    test: tuple[str, ...] = ()
    """Files of the test split, below the data folder."""
    size: int | None = None
    """Items per epoch where the task is generated from a word list."""
    revision: str = "main"
    """Commit or branch of the data set."""
    licence: str
    """Licence as its publisher states it."""
    in_chat_core: bool = False
    """One of the six tasks of ChatCORE."""


class Catalogue(Settings):
    """All corpora, tasks and plain files."""

    corpora: dict[str, Corpus]
    tasks: dict[str, TaskEntry]
    urls: dict[str, str] = Field(default={})
    """Path below the data folder → address, for files that are not on the hub (`eval_bundle` is a zip)."""

    def corpus(self, name: str) -> Corpus:
        """The corpus called `name`; raises ValueError with the nearest known name."""
        return self._get(self.corpora, name, "data.corpus")

    def task(self, name: str, where: str) -> TaskEntry:
        """The task called `name`; `where` is the config key to name in the ValueError."""
        return self._get(self.tasks, name, where)

    @staticmethod
    def _get(entries: dict[str, T], name: str, where: str) -> T:
        if name not in entries:
            close = difflib.get_close_matches(name, entries, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(entries)}"
            raise ValueError(f"{where}: {name} is not in the catalogue; {hint}")
        return entries[name]


@cache
def load_catalogue() -> Catalogue:
    """Read the catalogue that ships with the package."""
    text = resources.files("nanochat.config").joinpath("catalogue.yaml").read_text()
    return Catalogue.model_validate(yaml.safe_load(text))
