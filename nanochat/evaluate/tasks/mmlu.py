"""MMLU (arXiv 2009.03300): four choices in 57 subjects."""

from collections.abc import Sequence
from functools import cache
from importlib import resources
from pathlib import Path

import yaml

from nanochat.config import TaskEntry
from nanochat.evaluate.tasks.base import ChoiceTask, Rows, Split


@cache
def subject_categories() -> dict[str, str]:
    """Subject → one of MMLU's four categories: STEM, humanities, social sciences, other."""
    text = resources.files("nanochat.evaluate.tasks").joinpath("mmlu_categories.yaml").read_text()
    return {subject: category for category, subjects in yaml.safe_load(text).items() for subject in subjects}


class Mmlu(ChoiceTask):
    """Multiple choice by index.

    A row: `{"question": "Find the degree for the given field extension Q(sqrt(2), sqrt(3), sqrt(18)) over Q.",
    "subject": "abstract_algebra", "choices": ["0", "4", "2", "6"], "answer": 1}`. The subject is empty in
    auxiliary_train.
    """

    def __init__(self, name: str, entry: TaskEntry, split: Split, paths: Sequence[Path]) -> None:
        super().__init__(name, entry, split, paths)
        self._rows = Rows(paths, ("question", "subject", "choices", "answer"))

    def __len__(self) -> int:
        return len(self._rows)

    def question(self, index: int) -> tuple[str, list[str], int]:
        """Question, choices, and which of them is right."""
        row = self._rows[index]
        return row["question"], row["choices"], int(row["answer"])

    def group(self, index: int) -> str | None:
        """The subject."""
        return self._rows.value(index, "subject") or None

    def category(self, group: str) -> str | None:
        """The subject's category; None for subjects that are not MMLU's."""
        return subject_categories().get(group)
