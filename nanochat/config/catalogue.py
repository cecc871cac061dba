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
    """Commit that the files are taken from; of a branch, the commit of the first fetch is recorded and kept to."""
    shards: int | None = None
    """Number of shards in all; none: what config.world.train_shards + 1 says."""
    shard_chars: int = 250_000_000
    """Characters in one shard, about."""
    shard_bytes: int | None = None
    """Bytes of one shard's file, about; none where it is made here."""
    licence: str
    """Licence as its publisher states it."""
    about: str = ""
    """What it is and what it is for, in one sentence."""
    sample_prompts: tuple[str, ...] = ()
    """Prompts that suit the text, for samples.md; none takes beginnings of validation documents."""

    def path(self, index: int) -> str:
        """Path of shard `index` below the data folder."""
        return f"datasets/{self.repo}/shard_{index:05d}.parquet"


class TaskEntry(Settings):
    """A data set of items that become conversations."""

    kind: Literal[
        "arc",
        "mmlu",
        "gsm8k",
        "humaneval",
        "qa",
        "smoltalk",
        "identity",
        "conversations",
        "spelling_bee",
        "simple_spelling",
    ]
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
    bytes: dict[Literal["train", "test"], int] = Field(default={})
    """Split → size of its files together, about; none where they are made here or listed in `urls`."""
    revision: str = "main"
    """Commit of the data set; of a branch, the commit of the first fetch is recorded and kept to."""
    licence: str
    """Licence as its publisher states it."""
    about: str = ""
    """What it is and what it is for, in one sentence."""
    in_chat_core: bool = False
    """One of the six tasks of ChatCORE."""


class PlainFile(Settings):
    """A file at an address of its own, outside of the hub."""

    address: str
    """Where it is."""
    bytes: int
    """Size, about."""
    unpacked_bytes: int = 0
    """Size of what an archive unpacks to, about."""
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """Digest; none trusts the first fetch, records its digest, and says so when a later one differs."""
    licence: str
    """Licence as its publisher states it."""
    about: str
    """What it is and what it is for, in one sentence."""


class Catalogue(Settings):
    """All corpora, tasks and plain files."""

    corpora: dict[str, Corpus]
    tasks: dict[str, TaskEntry]
    urls: dict[str, PlainFile] = Field(default={})
    """Path below the data folder → file that is not on the hub (`eval_bundle` is a zip)."""

    def corpus(self, name: str, where: str = "data.corpus") -> Corpus:
        """The corpus called `name`; `where` is the config key to name in the ValueError."""
        return self._get(self.corpora, name, where)

    def task(self, name: str, where: str) -> TaskEntry:
        """The task called `name`; `where` is the config key to name in the ValueError."""
        return self._get(self.tasks, name, where)

    def revision_of(self, path: str) -> str:
        """Commit or branch of the data set that `datasets/<owner>/<name>/<file>` belongs to; `main` if unknown."""
        repository = "/".join(path.split("/")[1:3])
        for corpus in self.corpora.values():
            if corpus.repo == repository:
                return corpus.revision
        for task in self.tasks.values():
            if any(file.startswith(f"datasets/{repository}/") for file in (*task.train, *task.test)):
                return task.revision
        return "main"

    def bytes_of(self, path: str) -> int | None:
        """About the bytes that a file below the data folder takes, unpacked ones included; None if unknown."""
        if path in self.urls:
            return self.urls[path].bytes + self.urls[path].unpacked_bytes
        for corpus in self.corpora.values():
            if path.startswith(f"datasets/{corpus.repo}/"):
                return corpus.shard_bytes
        for task in self.tasks.values():
            for split, files in (("train", task.train), ("test", task.test)):
                if path in files and split in task.bytes:
                    return task.bytes[split] // len(files)
        return None

    @staticmethod
    def _get(entries: dict[str, T], name: str, where: str) -> T:
        if name not in entries:
            close = difflib.get_close_matches(name, entries, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(entries)}"
            raise ValueError(f"{where}: {name} is not in the catalogue; {hint}")
        return entries[name]


def is_of_world(path: str) -> bool:
    """Whether the embedded world has a file of this path."""
    return path.startswith("datasets/world/") or path in ("files/words.txt", "files/identity_conversations.jsonl")


@cache
def load_catalogue() -> Catalogue:
    """Read the catalogue that ships with the package."""
    text = resources.files("nanochat.config").joinpath("catalogue.yaml").read_text()
    return Catalogue.model_validate(yaml.safe_load(text))
