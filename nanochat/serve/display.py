"""How a conversation looks in the window: Gradio messages, status line."""

import html
from collections.abc import Sequence
from typing import Any

from nanochat.data.conversation import Message
from nanochat.serve.events import Done, Finish

TOOL_TITLE = "Calculator"

_WHY: dict[Finish, str] = {
    "stop": "",
    "length": "length limit reached",
    "context": "context full: start a new conversation",
    "cancelled": "stopped",
}


def as_lines(expression: str, result: str | None) -> str:
    """A tool call on one line."""
    return f"{expression} = {result}" if result is not None else f"{expression} (cannot be calculated)"


def bubbles(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages as the chat component takes them: each tool call is one of its own, with a title.

    The component shows text as markup even with Markdown off, so what people and models write is escaped.
    """
    shown: list[dict[str, Any]] = []
    for message in messages:
        content = message["content"]
        if isinstance(content, str):
            shown.append({"role": message["role"], "content": _as_text(content)})
            continue
        for number, part in enumerate(content):
            if part["type"] == "text":
                shown.append({"role": "assistant", "content": _as_text(part["text"])})
            elif part["type"] == "python":
                following = content[number + 1] if number + 1 < len(content) else None
                answered = following is not None and following["type"] == "python_output"
                result = following["text"] if following is not None and answered else None
                line = as_lines(part["text"], result)
                shown.append({"role": "assistant", "content": _as_text(line), "metadata": {"title": TOOL_TITLE}})
    return shown


def _as_text(text: str) -> str:
    return html.escape(text, quote=False)


def turn_at(messages: Sequence[Message], index: int) -> int:
    """Number (from 0) of the user message at or before `index` of the bubbles of `messages`."""
    return sum(bubble["role"] == "user" for bubble in bubbles(messages)[: index + 1]) - 1


def status(stage: str, done: Done, seed: int) -> str:
    """One line of text about a finished reply."""
    pieces = [
        stage,
        f"{done.tokens} tokens",
        f"{done.tokens_per_second:.0f} tokens/s",
        f"context {done.context_used} of {done.context_size}",
        f"seed {seed}",
        _WHY[done.finish],
    ]
    return " · ".join(filter(None, pieces))
