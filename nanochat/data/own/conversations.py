"""The stage `own_conversations`: the user's own conversations, checked and written in one form."""

import hashlib
import json
import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from nanochat.artifact import Manifest, Workspace
from nanochat.config.stages import OwnConversationsStage
from nanochat.data.conversation import Conversation
from nanochat.data.own.dialects import normalise
from nanochat.data.own.readers import entries, input_names, kind_of
from nanochat.data.own.tally import Tally
from nanochat.errors import DataError

log = logging.getLogger(__name__)

FILE = "conversations.jsonl"
_NAMED = 10


class _Faults:
    """The wrong lines: all are looked for before the first is reported."""

    def __init__(self, tally: Tally, *, stop: bool) -> None:
        self.tally = tally
        self.stop = stop
        self.count = 0
        self.named: list[str] = []

    def add(self, path: Path, row: int, reason: str, message: str) -> None:
        """Note a wrong line."""
        if not self.stop:
            self.tally.skip(path, row, reason, message)
            return
        self.count += 1
        if len(self.named) < _NAMED:
            self.named.append(f"{path}:{row}: {message}")

    def check(self) -> None:
        """Raise a DataError if there were any."""
        if self.count:
            more = f"\n… and {self.count - len(self.named):,} more" if self.count > len(self.named) else ""
            raise DataError(
                f"own.conversations: {self.count:,} of {self.tally.rows:,} conversations cannot be used:\n"
                + "\n".join(self.named)
                + f"{more}\nmend these lines, or set own.on_damage to skip to leave them out"
            )


def _conversations(path: Path, faults: _Faults) -> Iterator[Conversation]:
    """Conversations of one file; wrong lines go to `faults`."""
    if kind_of(path) != "json":
        raise DataError(f"{path}: expected conversations as .jsonl, .jsonl.gz or .jsonl.zst, one on each line")
    for entry in entries(path):
        faults.tally.rows += 1
        if entry.fault:
            faults.add(path, entry.row, entry.fault, entry.message)
            continue
        try:
            yield normalise(entry.value)
        except (DataError, RecursionError) as error:
            faults.add(path, entry.row, "not a conversation", str(error))


def _characters(content: Any) -> int:
    return len(content) if isinstance(content, str) else sum(len(part["text"]) for part in content)


def _write(files: Sequence[Path], faults: _Faults, file: IO[str]) -> dict[str, int]:
    seen: set[bytes] = set()
    counts = {"conversations": 0, "turns": 0, "characters": 0, "duplicates": 0}
    for path in files:
        faults.tally.begin(path.stat().st_size)
        try:
            for conversation in _conversations(path, faults):
                line = json.dumps(conversation, ensure_ascii=False, separators=(", ", ": "))
                key = hashlib.blake2b(line.encode(), digest_size=16).digest()
                if key in seen:
                    counts["duplicates"] += 1
                    continue
                seen.add(key)
                file.write(line + "\n")
                messages = conversation["messages"]
                counts["conversations"] += 1
                counts["turns"] += sum(message["role"] == "user" for message in messages)
                counts["characters"] += sum(_characters(message["content"]) for message in messages)
        except DataError as error:
            if faults.stop:
                raise
            faults.tally.broken(path, error)
    return counts


def run(settings: OwnConversationsStage, *, out: Path, files: Sequence[Path]) -> Manifest:
    """Check the user's conversations and write them to `out`: conversations.jsonl and manifest.json.

    Args:
        settings: whether wrong lines end the stage or are left out and counted.
        out: folder to make.
        files: jsonl, or json of one array, also .gz or .zst, in one of the forms of `dialects.normalise`.

    Returns:
        The manifest. Its metrics: conversations, turns (messages of the user), characters, duplicates (left out),
        skipped {reason: number}, damaged_files, problems.

    Raises:
        DataError: with file and line of the first ten wrong conversations; for a damaged file; if none is left, or more
            than half would be left out (each file by its bytes).
    """
    paths = sorted(set(files))
    if not paths:
        raise DataError("own.conversations: no file to read; name a file, a folder or a pattern in the config")
    with Workspace(out, "own_conversations", settings, input_names(paths)) as workspace:
        if workspace.finished():
            return workspace.promote()
        begin = time.perf_counter()
        tally = Tally()
        faults = _Faults(tally, stop=settings.own.on_damage == "stop")
        with (workspace.final / FILE).open("w", encoding="utf-8", newline="\n") as file:
            counts = _write(paths, faults, file)
        faults.check()
        tally.check_share("own.conversations")
        if not counts["conversations"]:
            raise DataError(f"own.conversations: {', '.join(map(str, paths[:3]))}: no conversation in there")
        seconds = time.perf_counter() - begin
        log.info(
            "own conversations: %s, %s copies left out", f"{counts['conversations']:,}", f"{counts['duplicates']:,}"
        )
        return workspace.finish(metrics={**counts, **tally.as_metrics()}, wall_seconds=seconds)
