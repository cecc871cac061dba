"""What an evaluation has finished so far, item by item, on disk: a killed evaluation goes on with what is left."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nanochat.artifact import write_atomically
from nanochat.evaluate.scores import Record


class ItemLog:
    """Records of finished items; each rank appends to a file of its own.

    What is added at once is one line: after a kill it is there as a whole or not at all. The number of ranks may differ
    from start to start.
    """

    def __init__(self, folder: Path, rank: int) -> None:
        self._folder = folder
        self._path = folder / f"items-{rank}.jsonl"

    def finished(self) -> dict[str, dict[int, Record]]:
        """Task → item → record, of all ranks so far; where an item was done twice, the first one counts.

        Lines that were torn by a kill, or are of another shape, are ignored: their items are done again.
        """
        found: dict[str, dict[int, Record]] = {}
        for path in sorted(self._folder.glob("items-*.jsonl")):
            for line in path.read_bytes().splitlines():
                for task, record in _records(line):
                    found.setdefault(task, {}).setdefault(record["item"], record)
        return found

    def add(self, task_records: Mapping[str, Sequence[Record]]) -> None:
        """Append records, and return when they are on the disk.

        Args:
            task_records: task → records, each of which can be written as JSON and holds its item's number as `item`.
        """
        line = json.dumps({task: list(records) for task, records in task_records.items()}) + "\n"
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab+") as file:
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":  # torn by a kill: the next line stands on its own
                    line = "\n" + line
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())


def _records(line: bytes) -> Iterator[tuple[str, Record]]:
    """(task, record) of a line; nothing of one that is not as `ItemLog.add` writes it."""
    try:
        content = json.loads(line)
    except ValueError:
        return
    if not isinstance(content, dict):
        return
    pairs = [(task, records) for task, records in content.items() if isinstance(records, list)]
    found = [(task, record) for task, records in pairs for record in records]
    if len(pairs) == len(content) and all(isinstance(r, dict) and type(r.get("item")) is int for _, r in found):
        yield from found


class FinishedParts:
    """The parts of an interrupted evaluation that have no items and are done already, one JSON file each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, part: str) -> dict[str, Any] | None:
        """What `save` was given, or None where the part is still to do."""
        try:
            return json.loads(self._path(part).read_text())
        except (FileNotFoundError, ValueError):
            return None

    def save(self, part: str, content: Mapping[str, Any]) -> None:
        """Keep a finished part, atomically."""
        write_atomically(self._path(part), json.dumps(content))

    def _path(self, part: str) -> Path:
        return self._folder / f"part-{part}.json"
