"""What a task is: items that become conversations, and how a reply is judged."""

import string
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from nanochat.config import TaskEntry
from nanochat.data.conversation import Conversation
from nanochat.errors import DataError

Split = Literal["train", "test"]
LETTERS = tuple(string.ascii_uppercase)


class Rows:
    """Rows of one or more parquet files of equal schema, read one at a time.

    Args:
        paths: the files, in order.
        columns: the columns that are wanted.

    Raises:
        DataError: if a file cannot be read or lacks a column.
    """

    def __init__(self, paths: Sequence[Path], columns: Sequence[str]) -> None:
        self.columns = columns
        self._tables = [self._read(path) for path in paths]
        self._starts = [0]
        for table in self._tables:
            self._starts.append(self._starts[-1] + table.num_rows)

    def _read(self, path: Path) -> pa.Table:
        try:
            names = pq.read_schema(path).names
            # The hub's conversion of MMLU's auxiliary_train wraps each row in a struct called `train`.
            table = pq.read_table(path) if names != ["train"] else pq.read_table(path).flatten()
        except (OSError, pa.ArrowInvalid) as error:
            raise DataError(
                f"{path} cannot be read as parquet ({error}); delete it and rerun snakemake to fetch it"
            ) from None
        table = table.rename_columns([name.removeprefix("train.") for name in table.column_names])
        missing = [name for name in self.columns if name not in table.column_names]
        if missing:
            raise DataError(f"{path} has no column {missing[0]}; expected {list(self.columns)}, found {names}")
        return table.select(list(self.columns)).combine_chunks()  # one chunk makes rows cheap to reach

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, index: int) -> dict[str, Any]:
        table, place = self._place(index)
        return {name: table[name][place].as_py() for name in self.columns}

    def value(self, index: int, column: str) -> Any:
        """One column of a row."""
        table, place = self._place(index)
        return table[column][place].as_py()

    def _place(self, index: int) -> tuple[pa.Table, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        number = next(number for number, start in enumerate(self._starts[1:]) if index < start)
        return self._tables[number], index - self._starts[number]


class Task(ABC):
    """A data set whose items are conversations.

    Attributes:
        name: in the catalogue.
        split: train or test.
        metric: `choice` (the likeliest letter is the answer), `generate` (the reply is checked), or None (training
            only).
        chance: share of right answers that guessing gives.
    """

    def __init__(self, name: str, entry: TaskEntry, split: Split, paths: Sequence[Path]) -> None:
        self.name = name
        self.split = split
        self.metric = entry.metric
        self.chance = entry.chance

    @abstractmethod
    def __len__(self) -> int:
        """Number of items."""

    @abstractmethod
    def conversation(self, index: int) -> Conversation:
        """An item, with the reference reply as its last message."""

    @abstractmethod
    def key(self, index: int) -> str:
        """Stable text that names an item, for splits by hash."""

    def group(self, index: int) -> str | None:
        """Group of an item within the task, such as MMLU's subject."""
        return None

    def category(self, group: str) -> str | None:
        """Category that a group belongs to, such as MMLU's STEM; None where the task has none, or not for this one."""
        return None

    def group_sizes(self) -> Mapping[str, int]:
        """Group → items; empty where items have no groups."""
        return Counter(group for index in range(len(self)) if (group := self.group(index)) is not None)

    def isolation(self) -> tuple[str, ...]:
        """Layers of the sandbox in which replies are judged here; none where nothing of a reply is run.

        Asked after an item was judged, and kept with its record.
        """
        return ()

    def gold(self, index: int) -> str:
        """The expected answer: a choice task's letter; what is compared, for people to read, of the others."""
        raise NotImplementedError(f"task {self.name} is for training only: it has no answers to check")

    def letters(self, index: int) -> tuple[str, ...]:
        """Answer letters of a choice item."""
        raise NotImplementedError(f"task {self.name} is not multiple choice")

    def reward(self, index: int, text: str) -> float:
        """1.0 where the reply answers the item rightly, else 0.0.

        Args:
            index: the item.
            text: the reply without special tokens; tool calls and their output stand in it as text.
        """
        raise NotImplementedError(f"task {self.name} has no replies to check")

    def rewards(self, indices: Sequence[int], texts: Sequence[str]) -> list[float]:
        """`reward` of many replies; several may be to the same item."""
        return [self.reward(index, text) for index, text in zip(indices, texts)]


def conversation_of(question: str, reply: Any) -> Conversation:
    """One question and its reply (a text or parts)."""
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": reply}]}


class ChoiceTask(Task):
    """Multiple choice by letter; a subclass says where question, choices and the right one stand.

    A choice is followed by its letter without a blank between, `- dog=B`, so that the letter in the question and the
    bare letter of the reply are the same token.
    """

    @abstractmethod
    def question(self, index: int) -> tuple[str, list[str], int]:
        """Question, choices, and which of them is right."""

    def conversation(self, index: int) -> Conversation:
        """The question with its choices, and the right letter."""
        question, choices, _ = self.question(index)
        lines = [f"- {choice}={letter}" for choice, letter in zip(choices, LETTERS)]
        prompt = "\n".join([question, *lines, "Answer with the letter only."])
        return conversation_of(prompt, self.gold(index))

    def key(self, index: int) -> str:
        """The question and its choices."""
        question, choices, _ = self.question(index)
        return "\n".join([question, *sorted(choices)])

    def gold(self, index: int) -> str:
        """The right letter."""
        return LETTERS[self.question(index)[2]]

    def letters(self, index: int) -> tuple[str, ...]:
        """One letter for each choice."""
        return LETTERS[: len(self.question(index)[1])]
