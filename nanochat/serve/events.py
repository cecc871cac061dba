"""What a reply is made of while it is made, and how a stream of tokens becomes that."""

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from nanochat.data.conversation import Part
from nanochat.data.tokenizer import Tokenizer

Finish = Literal["stop", "length", "context", "cancelled"]


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
    """`stop`: the model ended; `length`: the asked length; `context`: the model's context; `cancelled`: the user."""
    tokens: int
    """Tokens the model sampled; forced tool output is not counted."""
    seconds: float
    """From the request to the end, the reading of the prompt included."""
    context_used: int
    """Tokens of prompt and reply."""
    context_size: int
    """Tokens the model can see."""

    @property
    def tokens_per_second(self) -> float:
        """Sampled tokens per second over the whole reply."""
        return self.tokens / self.seconds if self.seconds > 0 else 0.0


Event = TextDelta | ToolCall | Done


class Decoder:
    """Turns the (token, sampled) pairs of a generation into text and tool calls.

    Bytes that do not yet make a character are held back until the next token completes them. Control tokens in
    places where they mean nothing are shown by name: what a model does wrong should be seen, not hidden.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._names = {number: name for name, number in tokenizer.special.items()}
        self._state: Literal["text", "expression", "output"] = "text"
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = bytearray()
        self._expression: str | None = None

    def push(self, token: int, sampled: bool = True) -> Iterator[TextDelta | ToolCall]:
        """Take one token; yields what it completes.

        Args:
            token: its id.
            sampled: False where the engine forced it (a tool's output).
        """
        name = self._names.get(token)
        if name is None:
            piece = self._tokenizer.decode_bytes([token])
            if self._state != "text":
                self._held += piece
                return
            yield from self._unanswered()
            yield from self._text(self._utf8.decode(piece))
        elif name == "<|python_start|>" and self._state == "text":
            yield from self._flush()
            self._state = "expression"
        elif name == "<|python_end|>" and self._state == "expression":
            self._expression = self._take()
            self._state = "text"
        # Output that the model made up itself is not the calculator's, and not shown as if it were.
        elif name == "<|output_start|>" and self._expression is not None and not sampled:
            self._state = "output"
        elif name == "<|output_end|>" and self._state == "output":
            yield ToolCall(self._expression or "", self._take())
            self._expression, self._state = None, "text"
        elif name in ("<|assistant_end|>", "<|bos|>"):
            yield from self.finish()
        elif self._state == "text":
            yield from self._flush()
            yield TextDelta(name)
        else:
            self._held += name.encode()

    def finish(self) -> Iterator[TextDelta | ToolCall]:
        """Yield what is still held back: an incomplete character as U+FFFD, an unfinished tool call without result."""
        if self._state == "expression":
            self._expression = self._take()
        self._held.clear()
        self._state = "text"
        yield from self._flush()

    def _flush(self) -> Iterator[TextDelta | ToolCall]:
        yield from self._unanswered()
        yield from self._text(self._utf8.decode(b"", final=True))
        self._utf8.reset()

    def _unanswered(self) -> Iterator[ToolCall]:
        if self._expression is not None:
            yield ToolCall(self._expression, None)
            self._expression = None

    def _take(self) -> str:
        text = self._held.decode("utf-8", errors="replace")
        self._held.clear()
        return text

    @staticmethod
    def _text(text: str) -> Iterator[TextDelta]:
        if text:
            yield TextDelta(text)


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
