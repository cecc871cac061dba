"""GSM8K (arXiv 2110.14168): word problems whose solutions mark each calculation."""

import re
from collections.abc import Sequence
from pathlib import Path

from nanochat.config import TaskEntry
from nanochat.data.conversation import Conversation, Part
from nanochat.errors import DataError
from nanochat.evaluate.tasks.base import Rows, Split, Task, conversation_of

_MARK = re.compile(r"<<(.*?)>>")
_FINAL = re.compile(r"####\s*\$?\s*(-?[\d,]*\.?\d+)")


def final_number(text: str) -> float | None:
    """The number after the last `####`; commas, a dollar sign and trailing zeros make no difference."""
    found = _FINAL.findall(text)
    return float(found[-1].replace(",", "")) if found else None


def solution_parts(answer: str) -> list[Part]:
    """A solution with its calculations as tool calls.

    `48/2 = <<48/2=24>>24 clips` becomes text `48/2 = `, python `48/2`, python_output `24`, text `24 clips`.
    """
    parts: list[Part] = []
    for place, piece in enumerate(_MARK.split(answer)):
        if place % 2 == 0:
            if piece:
                parts.append(Part(type="text", text=piece))
            continue
        expression, _, result = piece.partition("=")
        parts += [Part(type="python", text=expression), Part(type="python_output", text=result)]
    return parts


class Gsm8k(Task):
    r"""Word problems, answered in steps with the calculator.

    A row: `{"question": "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in
    May. How many clips did Natalia sell altogether in April and May?", "answer": "Natalia sold 48/2 = <<48/2=24>>24
    clips in May.\nNatalia sold 48+24 = <<48+24=72>>72 clips altogether in April and May.\n#### 72"}`.
    """

    def __init__(self, name: str, entry: TaskEntry, split: Split, paths: Sequence[Path]) -> None:
        super().__init__(name, entry, split, paths)
        self._rows = Rows(paths, ("question", "answer"))

    def __len__(self) -> int:
        return len(self._rows)

    def conversation(self, index: int) -> Conversation:
        """The problem and its solution in parts."""
        row = self._rows[index]
        return conversation_of(row["question"], solution_parts(row["answer"]))

    def key(self, index: int) -> str:
        """The problem."""
        return self._rows[index]["question"]

    def gold(self, index: int) -> str:
        """The final number, as written."""
        found = _FINAL.findall(self._rows[index]["answer"])
        if not found:
            raise DataError(f"{self.name}: item {index} has no `#### number` in its answer")
        return found[-1]

    def reward(self, index: int, text: str) -> float:
        """Whether the number after the reply's last `####` is the right one."""
        return float(final_number(text) == float(self.gold(index).replace(",", "")))
