"""Conversations kept on disk: one JSON file each, in one folder, written whole or not at all."""

import json
import logging
import re
import secrets
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nanochat.artifact import write_atomically
from nanochat.data.conversation import Message, Part
from nanochat.errors import DataError

log = logging.getLogger(__name__)

SHARED = "shared"
"""Owner of conversations where all visitors are one person."""
NEW_TITLE = "New chat"
TITLE_CHARACTERS = 60
_VERSION = 1
_ID = re.compile(r"[0-9a-f]{16}")
_PARTS = ("text", "python", "python_output")


@dataclass
class Column:
    """One side of a conversation: what was said with one model at a time."""

    model: str
    """Name of the checkpoint that answers next."""
    messages: list[Message] = field(default_factory=list)
    """User and assistant in turns, without a system message."""
    notes: list[str] = field(default_factory=list)
    """A line about each assistant message (who wrote it, how fast, with which seed, why it ended); may be shorter."""
    context_used: int = 0
    """Tokens of the context that are filled after the last message; 0 where that is not known."""
    context_size: int = 0
    """Tokens the model sees; 0 where that is not known."""


@dataclass
class Conversation:
    """One column, or two side by side whose user messages are the same."""

    id: str
    title: str
    created: float
    """Seconds since 1970."""
    updated: float
    """Seconds since 1970."""
    system: str
    owner: str
    columns: list[Column]

    @classmethod
    def new(cls, owner: str, models: list[str], system: str = "") -> "Conversation":
        """An empty conversation with one column for each of `models`. It is on disk once it is saved."""
        now = time.time()
        return cls(secrets.token_hex(8), NEW_TITLE, now, now, system, owner, [Column(model) for model in models])


@dataclass(frozen=True)
class Summary:
    """What a list of conversations shows."""

    id: str
    title: str
    updated: float


def title_of(text: str) -> str:
    """A title from a first message: its beginning on one line."""
    line = " ".join(text.split())
    return (line if len(line) <= TITLE_CHARACTERS else line[: TITLE_CHARACTERS - 1].rstrip() + "…") or NEW_TITLE


class Store:
    """The conversations in a folder.

    A file is written under another name and renamed, so that a kill leaves the old one or the new one. What cannot
    be read is set aside (`<id>.json.damaged`) and logged. Several processes may use one folder: of two writers of the
    same conversation the last one wins. May be called from any thread.

    Args:
        folder: made at the first save, readable for its owner only.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        # What was read of each file, and its (mtime, size) then: a list of thousands costs one stat each.
        self._seen: dict[str, tuple[tuple[int, int], str, Summary]] = {}

    def list(self, owner: str) -> "list[Summary]":
        """What `owner` has, the one changed last first."""
        with self._lock:
            present: dict[str, tuple[tuple[int, int], str, Summary]] = {}
            for path in self.folder.glob("*.json"):
                # Another's file is not ours to set aside, should the folder be one that others use too.
                known = self._look(path) if _ID.fullmatch(path.stem) else None
                if known is not None:
                    present[path.stem] = known
            self._seen = present
        summaries = [summary for _, theirs, summary in present.values() if theirs == owner]
        return sorted(summaries, key=lambda summary: (-summary.updated, summary.id))

    def load(self, id: str, owner: str) -> Conversation | None:
        """The conversation `id` of `owner`; None where there is none, it is another's, or it cannot be read."""
        if not isinstance(id, str) or not _ID.fullmatch(id):
            return None
        conversation = self._read(self.folder / f"{id}.json")
        return conversation if conversation is not None and conversation.owner == owner else None

    def save(self, conversation: Conversation) -> None:
        """Write a conversation; a kill during it leaves what was there before.

        Raises:
            DataError: for an id that is none of this store's, or if the folder cannot be written.
        """
        if not _ID.fullmatch(conversation.id):
            raise DataError(f"conversation id {conversation.id!r}: expected 16 hexadecimal digits")
        # ASCII: half a surrogate pair, which a browser may send, cannot be written as UTF-8.
        text = json.dumps({"version": _VERSION, **asdict(conversation)}, ensure_ascii=True, indent=1)
        path = self.folder / f"{conversation.id}.json"
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomically(path, text, mode=0o600)
        except OSError as error:
            raise DataError(
                f"cannot write the conversation to {path}: {error.strerror}; make room or choose another folder "
                "(chat.conversations)"
            ) from None

    def delete(self, id: str, owner: str) -> None:
        """Delete the conversation `id` if it is `owner`'s.

        Raises:
            DataError: if the folder cannot be written.
        """
        if self.load(id, owner) is None:
            return
        path = self.folder / f"{id}.json"
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise DataError(
                f"cannot delete the conversation {path}: {error.strerror}; make its folder writable or choose another "
                "(chat.conversations)"
            ) from None

    def _look(self, path: Path) -> "tuple[tuple[int, int], str, Summary] | None":
        try:
            state = path.stat()
        except OSError:  # deleted since the folder was listed
            return None
        stamp = state.st_mtime_ns, state.st_size
        known = self._seen.get(path.stem)
        if known is not None and known[0] == stamp:
            return known
        conversation = self._read(path)
        if conversation is None:
            return None
        return stamp, conversation.owner, Summary(conversation.id, conversation.title, conversation.updated)

    def _read(self, path: Path) -> Conversation | None:
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("cannot read the conversation %s: %s", path, error.strerror)
            return None
        try:
            conversation = _parse(json.loads(data))
            if conversation.id != path.stem:
                raise ValueError(f"its id is {conversation.id!r}")
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            aside = path.with_name(path.name + ".damaged")
            log.warning("the conversation %s is damaged (%r); set aside as %s", path, error, aside.name)
            try:
                path.replace(aside)
            except OSError as problem:
                log.warning("cannot set it aside: %s", problem.strerror)
            return None
        return conversation


def _parse(value: Any) -> Conversation:
    """Raises ValueError, KeyError, TypeError or OverflowError where `value` is no conversation."""
    if value["version"] != _VERSION:
        raise ValueError(f"version {value['version']!r}, expected {_VERSION}")
    columns = [_column(column) for column in value["columns"]]
    if not 1 <= len(columns) <= 2:
        raise ValueError(f"{len(columns)} columns, expected one or two")
    return Conversation(
        id=_text(value["id"]),
        title=_text(value["title"]),
        created=float(value["created"]),
        updated=float(value["updated"]),
        system=_text(value["system"]),
        owner=_text(value["owner"]),
        columns=columns,
    )


def _column(value: Any) -> Column:
    messages = [_message(message) for message in value["messages"]]
    notes = [_text(note) for note in value["notes"]]
    return Column(_text(value["model"]), messages, notes, int(value["context_used"]), int(value["context_size"]))


def _message(value: Any) -> Message:
    role, content = value["role"], value["content"]
    if role not in ("user", "assistant"):
        raise ValueError(f"role {role!r}")
    if isinstance(content, str) or role == "user":
        return Message(role=role, content=_text(content))
    return Message(role=role, content=[_part(part) for part in content])


def _part(value: Any) -> Part:
    if value["type"] not in _PARTS:
        raise ValueError(f"part of type {value['type']!r}")
    return Part(type=value["type"], text=_text(value["text"]))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, found {value!r:.80}")
    return value
