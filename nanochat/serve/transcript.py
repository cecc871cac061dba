"""A conversation written to a file: to be read, or to be trained on."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from nanochat.data.conversation import Message, Part, validate
from nanochat.errors import DataError
from nanochat.serve.notation import as_text

_WHO = {"system": "System", "user": "You"}


def markdown(title: str, messages: Sequence[Message], model: str) -> str:
    """A conversation to be read; tool calls as `<<12+30=42>>`.

    Args:
        title: its heading.
        messages: a system prompt may come first.
        model: who answered.
    """
    turns = [f"**{_WHO.get(m['role'], model)}**\n\n{as_text(m['content']).strip()}\n" for m in messages]
    return "\n".join([f"# {title}\n", *turns])


def training_line(messages: Sequence[Message]) -> str:
    """A conversation as one line of the files that `own.conversations` reads.

    Raises:
        DataError: if the messages are no conversation, as where there are none.
    """
    conversation = {"messages": [Message(role=m["role"], content=_plain(m["content"])) for m in messages]}
    validate(conversation)
    return json.dumps(conversation, ensure_ascii=False) + "\n"


def _plain(content: str | list[Part]) -> str | list[Part]:
    """A lone part of text as that text, the form people write."""
    if isinstance(content, str) or len(content) != 1 or content[0]["type"] != "text":
        return content
    return content[0]["text"] if content[0]["text"].strip() else content


def save(path: Path, title: str, messages: Sequence[Message], model: str) -> str:
    """Write a conversation to a new `.md` file, or append it to a `.jsonl` file; returns what was done.

    Raises:
        DataError: for another suffix, where there is nothing to save, where a `.md` file exists, or if it cannot be
            written.
    """
    if path.suffix not in (".md", ".jsonl"):
        raise DataError(f"{path}: expected a name that ends with .md (to be read) or .jsonl (to be trained on)")
    if not messages:
        raise DataError(f"{path}: there is nothing to save yet")
    try:
        if path.suffix == ".md":
            with path.open("x", encoding="utf-8", errors="replace") as file:
                file.write(markdown(title, messages, model))
            return f"saved to {path}"
        line = training_line(messages).encode("utf-8", "replace")
        with path.open("ab+") as file:
            size = file.seek(0, os.SEEK_END)
            if size:
                file.seek(-1, os.SEEK_END)
                line = line if file.read(1) == b"\n" else b"\n" + line
            file.write(line)
        return f"{'appended' if size else 'saved'} to {path}, a line that own.conversations can train on"
    except FileExistsError:
        raise DataError(f"{path} exists already and is left as it is; choose another name") from None
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror}; choose another place") from None
