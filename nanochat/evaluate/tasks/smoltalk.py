"""SmolTalk (arXiv 2502.02737): general dialogue, for training."""

from collections.abc import Sequence
from pathlib import Path

from nanochat.config import TaskEntry
from nanochat.data.conversation import Conversation
from nanochat.evaluate.tasks.base import Rows, Split, Task


class SmolTalk(Task):
    """Conversations of one or more turns, some with a system message.

    A row: `{"messages": [{"role": "user", "content": "Hi there"}, {"role": "assistant", "content": "Hello! How can I
    help you today?"}], "source": "everyday-conversations"}`.
    """

    def __init__(self, name: str, entry: TaskEntry, split: Split, paths: Sequence[Path]) -> None:
        super().__init__(name, entry, split, paths)
        self._rows = Rows(paths, ("messages",))

    def __len__(self) -> int:
        return len(self._rows)

    def conversation(self, index: int) -> Conversation:
        """The conversation as it is."""
        messages = self._rows[index]["messages"]
        return {"messages": [{"role": message["role"], "content": message["content"]} for message in messages]}

    def key(self, index: int) -> str:
        """What the user says first."""
        return next(m["content"] for m in self._rows[index]["messages"] if m["role"] == "user")
