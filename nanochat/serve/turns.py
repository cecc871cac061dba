"""Turns of a column: adding, answering, going back. Each user message is followed by one assistant message."""

from collections.abc import Sequence

from nanochat.data.conversation import Message, Part
from nanochat.serve.conversations import Column

NO_ANSWER = "no answer"


def tidy(column: Column) -> None:
    """Make every user message be followed by an assistant message, and every one of those have a note.

    A crash or another program may have left it otherwise.
    """
    messages: list[Message] = []
    notes: list[str] = []
    given = iter(column.notes)
    for message in column.messages:
        if messages and message["role"] == messages[-1]["role"] == "user":
            messages.append(_empty())
            notes.append(NO_ANSWER)
        elif message["role"] == "assistant" and (not messages or messages[-1]["role"] == "assistant"):
            next(given, "")
            continue
        if message["role"] == "assistant":
            notes.append(next(given, ""))
        messages.append(message)
    if messages and messages[-1]["role"] == "user":
        messages.append(_empty())
        notes.append(NO_ANSWER)
    column.messages, column.notes = messages, notes


def turns(column: Column) -> int:
    """How many user messages there are."""
    return sum(message["role"] == "user" for message in column.messages)


def text_at(column: Column, turn: int) -> str | None:
    """The user message number `turn` (from 0); None where there is none."""
    texts = [str(message["content"]) for message in column.messages if message["role"] == "user"]
    return texts[turn] if 0 <= turn < len(texts) else None


def cut(column: Column, turn: int) -> None:
    """Forget user message number `turn` and all that follows."""
    column.messages = column.messages[: 2 * turn]
    column.notes = column.notes[:turn]
    column.context_used = 0


def ask(column: Column, text: str) -> None:
    """Add a user message."""
    column.messages.append(Message(role="user", content=text))


def forget_answer(column: Column) -> None:
    """Forget the last assistant message."""
    column.messages = column.messages[:-1]
    column.notes = column.notes[: turns(column) - 1]


def add_reply(column: Column, note: str) -> None:
    """Add an assistant message of which there is nothing yet."""
    column.messages.append(_empty())
    column.notes.append(note)


def set_reply(column: Column, parts: Sequence[Part], note: str) -> None:
    """Set the last assistant message."""
    column.messages[-1] = Message(role="assistant", content=list(parts)) if parts else _empty()
    column.notes[-1] = note


def asked(messages: Sequence[Message], system: str) -> list[Message]:
    """What a model is given: the messages, less the turns that were never answered, after the system prompt."""
    kept: list[Message] = [Message(role="system", content=system)] if system.strip() else []
    for number, message in enumerate(messages):
        following = messages[number + 1] if number + 1 < len(messages) else None
        unanswered = following is not None and _is_empty(following)
        if not _is_empty(message) and not (message["role"] == "user" and unanswered):
            kept.append(message)
    return kept


def _empty() -> Message:
    return Message(role="assistant", content=[Part(type="text", text="")])


def _is_empty(message: Message) -> bool:
    content = message["content"]
    if message["role"] != "assistant":
        return False
    return not content.strip() if isinstance(content, str) else not any(part["text"] for part in content)
