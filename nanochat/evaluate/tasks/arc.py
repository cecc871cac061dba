"""AI2's reasoning challenge (arXiv 1803.05457), and data sets of its form."""

from collections.abc import Sequence
from pathlib import Path

from nanochat.config import TaskEntry
from nanochat.errors import DataError
from nanochat.evaluate.tasks.base import ChoiceTask, Rows, Split


class Arc(ChoiceTask):
    """Multiple choice with labels.

    A row: `{"id": "ARC-Challenge_1123", "question": "An exothermic reaction could best be demonstrated with a",
    "choices": {"text": ["car engine.", "refrigerator.", "frying pan.", "glass bottle."],
    "label": ["A", "B", "C", "D"]}, "answerKey": "A"}`. Labels are digits in some rows, and there are three to five.
    """

    def __init__(self, name: str, entry: TaskEntry, split: Split, paths: Sequence[Path]) -> None:
        super().__init__(name, entry, split, paths)
        self._rows = Rows(paths, ("id", "question", "choices", "answerKey"))

    def __len__(self) -> int:
        return len(self._rows)

    def question(self, index: int) -> tuple[str, list[str], int]:
        """Question, choices, and which of them is right."""
        row = self._rows[index]
        labels = row["choices"]["label"]
        if row["answerKey"] not in labels:
            raise DataError(f"{self.name}: {row['id']} has answerKey {row['answerKey']!r}, expected one of {labels}")
        return row["question"], row["choices"]["text"], labels.index(row["answerKey"])
