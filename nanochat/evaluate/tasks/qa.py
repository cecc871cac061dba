"""Closed-book questions with a short answer."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path

from nanochat.config import TaskEntry
from nanochat.data.conversation import Conversation
from nanochat.evaluate.tasks.base import Rows, Split, Task, conversation_of


def normalised(text: str) -> str:
    """Text without capitals, punctuation and doubled blanks."""
    kept = "".join(c for c in text.casefold() if not unicodedata.category(c).startswith("P"))
    return " ".join(kept.split())


class Qa(Task):
    """Facts asked for.

    A row: `{"question": "Where does Anna live?", "answer": "Ashford"}`. The user says `Question: …` and the assistant
    `Answer: Ashford`: the layout that base models know from text, which also keeps a blank before the answer, so that
    it is the same tokens as in running text. A reply is right when it is the answer and nothing else, capitals,
    punctuation and the leading `Answer:` aside. So a reply that lists every town is wrong.
    """

    def __init__(self, name: str, entry: TaskEntry, split: Split, paths: Sequence[Path]) -> None:
        super().__init__(name, entry, split, paths)
        self._rows = Rows(paths, ("question", "answer"))

    def __len__(self) -> int:
        return len(self._rows)

    def conversation(self, index: int) -> Conversation:
        """The question and its short answer."""
        row = self._rows[index]
        return conversation_of(f"Question: {row['question']}", f"Answer: {row['answer']}")

    def key(self, index: int) -> str:
        """The question."""
        return self._rows[index]["question"]

    def gold(self, index: int) -> str:
        """The answer."""
        return self._rows[index]["answer"]

    def reward(self, index: int, text: str) -> float:
        """Whether the whole reply is the answer."""
        return float(normalised(text.strip().removeprefix("Answer:")) == normalised(self.gold(index)))
