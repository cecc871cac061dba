"""What a reply is made of while it is made: text, tool calls, an end."""

from dataclasses import dataclass
from typing import Literal

from nanochat.data.conversation import Part

Finish = Literal["stop", "length", "context", "cancelled", "timeout"]


@dataclass(frozen=True)
class TextDelta:
    """The next piece of text; always whole characters."""

    text: str


@dataclass(frozen=True)
class ToolCall:
    """A sum the model handed to the calculator."""

    expression: str
    result: str | None
    """What the calculator answered; None where the expression cannot be calculated or was broken off."""


@dataclass(frozen=True)
class Done:
    """The end of a reply."""

    finish: Finish
    """`stop`: the model ended, or wrote a stop string; `length`: the asked length; `context`: the model's context;
    `cancelled`: the user; `timeout`: it took longer than the server allows."""
    tokens: int
    """Tokens the model sampled; forced tool output is not counted."""
    produced: int
    """Tokens of the reply, forced ones and the end token among them."""
    seconds: float
    """From the request to the end, waiting and the reading of the prompt included."""
    first_token_seconds: float
    """From the request to the first token."""
    context_used: int
    """Tokens of prompt and reply."""
    context_size: int
    """Tokens the model can see."""

    @property
    def tokens_per_second(self) -> float:
        """Sampled tokens per second over the whole reply."""
        return self.tokens / self.seconds if self.seconds > 0 else 0.0


Event = TextDelta | ToolCall | Done


def append(parts: list[Part], event: Event) -> list[Part]:
    """The parts of an assistant message after one more event of its reply.

    The parts render to the tokens the model saw, so that a conversation goes on where it was.
    """
    if isinstance(event, TextDelta):
        text = event.text
        if parts and parts[-1]["type"] == "text":
            text = parts[-1]["text"] + text
            parts = parts[:-1]
        return [*parts, {"type": "text", "text": text}]
    if isinstance(event, ToolCall):
        parts = [*parts, {"type": "python", "text": event.expression}]
        return parts if event.result is None else [*parts, {"type": "python_output", "text": event.result}]
    # A message has at least one part, also where the model ended at once.
    return parts or [{"type": "text", "text": ""}]
