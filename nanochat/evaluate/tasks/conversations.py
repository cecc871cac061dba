"""Conversations from a jsonl file, for training: the user's own, a persona's, those about who the model is."""

import array
import json
import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nanochat.config import TaskEntry
from nanochat.data.conversation import Conversation, validate
from nanochat.errors import DataError
from nanochat.evaluate.tasks.base import Split, Task


class Conversations(Task):
    """A conversation per line: an array of messages, or an object that holds them under `messages`.

    A line: `[{"role": "user", "content": "hey, what's nanochat"}, {"role": "assistant", "content": "Hey! I'm
    nanochat, …"}]`. Only the places of the lines are kept in memory; a line is parsed when it is asked for.

    Raises:
        DataError: with file and line, for what is no conversation.
    """

    def __init__(self, name: str, entry: TaskEntry, split: Split, paths: Sequence[Path]) -> None:
        super().__init__(name, entry, split, paths)
        self._files = [_Lines(path) for path in paths]
        self._starts = [0]
        for file in self._files:
            self._starts.append(self._starts[-1] + len(file))

    def __len__(self) -> int:
        return self._starts[-1]

    def conversation(self, index: int) -> Conversation:
        """The conversation as it is."""
        if not 0 <= index < len(self):
            raise IndexError(f"conversation {index} of {len(self)}")
        file = next(number for number, start in enumerate(self._starts[1:]) if index < start)
        return _parse(self._files[file][index - self._starts[file]])

    def key(self, index: int) -> str:
        """All that is said, since many conversations begin alike."""
        return "\n".join(str(message["content"]) for message in self.conversation(index)["messages"])


class _Lines:
    """Lines of a file that are not blank, memory-mapped; each is checked once, at the beginning."""

    def __init__(self, path: Path) -> None:
        self._starts = array.array("q")
        self._ends = array.array("q")
        try:
            with path.open("rb") as file:
                empty = not file.read(1)
                self._content = b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error}); delete it and rerun snakemake to make it") from None
        number = end = 0
        while end < len(self._content):
            number, start = number + 1, end
            end = self._content.find(b"\n", start) + 1 or len(self._content)
            line = self._content[start:end]
            if line.strip():
                self._check(line, f"{path} line {number}")
                self._starts.append(start)
                self._ends.append(end)

    @staticmethod
    def _check(line: bytes, where: str) -> None:
        try:
            conversation = _parse(line)
        except UnicodeDecodeError as error:
            raise DataError(f"{where} is not UTF-8 ({error}); delete the file and rerun snakemake to make it") from None
        except json.JSONDecodeError as error:
            raise DataError(f"{where} is not JSON ({error}); expected an array of messages") from None
        validate(conversation, where)

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, index: int) -> bytes:
        return self._content[self._starts[index] : self._ends[index]]


def _parse(line: bytes) -> Conversation:
    entry: Any = json.loads(line.decode())
    return entry if isinstance(entry, dict) else {"messages": entry}
