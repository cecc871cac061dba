"""Tool calls inside plain text, as GSM8K writes them: `<<12+30=42>>`.

Clients that only know text see them so, and send them back so with the history; read again they are calls, and the
model sees the very conversation it had.
"""

import re
from collections.abc import Iterable, Sequence

from nanochat.data.conversation import Part
from nanochat.infer.tools import calculate
from nanochat.serve.events import Event, TextDelta, ToolCall

_CALL = re.compile(r"<<([^<>=]{1,256})=([^<>=]{0,64})>>")


def call_text(expression: str, result: str | None) -> str:
    """A tool call; without a result where there was none."""
    return f"<<{expression}={'' if result is None else result}>>"


def text_of(events: Iterable[Event]) -> str:
    """The text of events."""
    return "".join(
        event.text if isinstance(event, TextDelta) else call_text(event.expression, event.result)
        for event in events
        if isinstance(event, TextDelta | ToolCall)
    )


def as_text(content: str | Sequence[Part]) -> str:
    """An assistant message as plain text."""
    if isinstance(content, str):
        return content
    pieces = []
    for number, part in enumerate(content):
        if part["type"] == "text":
            pieces.append(part["text"])
        elif part["type"] == "python":
            following = content[number + 1] if number + 1 < len(content) else None
            answered = following is not None and following["type"] == "python_output"
            pieces.append(call_text(part["text"], following["text"] if following is not None and answered else None))
    return "".join(pieces)


def as_parts(text: str) -> str | list[Part]:
    """The assistant message that `as_text` shows so.

    Only where the calculator gives the very result that is stated is it a call; anything else stays text.
    """
    parts: list[Part] = []

    def add(piece: str) -> None:
        if piece and parts and parts[-1]["type"] == "text":
            parts[-1]["text"] += piece
        elif piece:
            parts.append({"type": "text", "text": piece})

    end = 0
    for match in _CALL.finditer(text):
        add(text[end : match.start()])
        end = match.end()
        expression, stated = match.groups()
        if calculate(expression) != (stated or None):
            add(match.group())
            continue
        parts.append({"type": "python", "text": expression})
        if stated:
            parts.append({"type": "python_output", "text": stated})
    add(text[end:])
    return text if all(part["type"] == "text" for part in parts) else parts
