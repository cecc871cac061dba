"""Tasks: one file per kind of data set; `load_task` finds the class by the catalogue's `kind`."""

from pathlib import Path

from nanochat.config import load_catalogue, task_entry
from nanochat.errors import DataError
from nanochat.evaluate.tasks.arc import Arc
from nanochat.evaluate.tasks.base import ChoiceTask, Split, Task
from nanochat.evaluate.tasks.conversations import Conversations
from nanochat.evaluate.tasks.gsm8k import Gsm8k
from nanochat.evaluate.tasks.humaneval import HumanEval
from nanochat.evaluate.tasks.mmlu import Mmlu
from nanochat.evaluate.tasks.qa import Qa
from nanochat.evaluate.tasks.smoltalk import SmolTalk
from nanochat.evaluate.tasks.spelling import SimpleSpelling, SpellingBee

__all__ = ["KINDS", "ChoiceTask", "Split", "Task", "load_task"]

KINDS: dict[str, type[Task]] = {
    "arc": Arc,
    "mmlu": Mmlu,
    "gsm8k": Gsm8k,
    "humaneval": HumanEval,
    "qa": Qa,
    "smoltalk": SmolTalk,
    "identity": Conversations,
    "conversations": Conversations,
    "spelling_bee": SpellingBee,
    "simple_spelling": SimpleSpelling,
}


def load_task(name: str, split: Split, root: Path) -> Task:
    """Open a task of the catalogue.

    Args:
        name: in the catalogue, or a folder of the user's own conversations below `root`.
        split: train or test.
        root: the data folder, laid out like the hub; or the folder of own conversations.

    Raises:
        DataError: if the task has no such split, or a file is missing or damaged.
        ValueError: if the catalogue does not know the name.
    """
    entry = task_entry(name) if (root / name).is_dir() else load_catalogue().task(name, "task")
    paths = [root / path for path in getattr(entry, split)]
    if not paths:
        raise DataError(f"task {name} has no {split} split; use it for {'test' if split == 'train' else 'train'} only")
    for path in paths:
        if not path.is_file():
            raise DataError(f"task {name}: {path} does not exist; rerun snakemake to fetch it")
    return KINDS[entry.kind](name, entry, split, paths)
