"""Conversations about who the model is, for training."""

import json
from collections.abc import Sequence
from pathlib import Path

from nanochat.config import TaskEntry
from nanochat.data.conversation import Conversation, validate
from nanochat.errors import DataError
from nanochat.evaluate.tasks.base import Split, Task


class Identity(Task):
    """A JSON array of messages per line.

    A line: `[{"role": "user", "content": "hey, what's nanochat"}, {"role": "assistant", "content": "Hey! I'm
    nanochat, …"}]`.
    """

    def __init__(self, name: str, entry: TaskEntry, split: Split, paths: Sequence[Path]) -> None:
        super().__init__(name, entry, split, paths)
        self._conversations = [conversation for path in paths for conversation in _read(path)]

    def __len__(self) -> int:
        return len(self._conversations)

    def conversation(self, index: int) -> Conversation:
        """The conversation as it is."""
        return self._conversations[index]

    def key(self, index: int) -> str:
        """All that is said, since many conversations begin alike."""
        return "\n".join(str(message["content"]) for message in self._conversations[index]["messages"])


def _read(path: Path) -> list[Conversation]:
    conversations = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}); delete it and rerun snakemake to fetch it") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path} line {number}"
        try:
            conversation: Conversation = {"messages": json.loads(line)}
        except json.JSONDecodeError as error:
            raise DataError(f"{where} is not JSON ({error}); expected an array of messages") from None
        validate(conversation, where)
        conversations.append(conversation)
    return conversations
