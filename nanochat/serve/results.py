"""What the Python interface gives back."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from nanochat.data.conversation import Message, Part
from nanochat.serve.events import Finish, ToolCall

T = TypeVar("T")


@dataclass(frozen=True)
class TokenLogprob:
    """A token and how likely the model finds it in its place.

    Attributes:
        id: the token.
        text: what it stands for; bytes that are no character by themselves as U+FFFD.
        logprob: its log-probability at temperature 1 and before any filter, in nats.
    """

    id: int
    text: str
    logprob: float


@dataclass(frozen=True)
class Completion:
    """What a model wrote.

    Attributes:
        text: it, up to the stop string that ended it; tool calls as `<<12+30=42>>`.
        finish: `stop`: the model ended, or wrote a stop string; `length`: `max_tokens`; `context`: the context is full.
        tokens: how many the model sampled.
        seed: the same request with this seed gives the same text.
        logprobs: of the sampled tokens of the text; None unless asked for.
    """

    text: str
    finish: Finish
    tokens: int
    seed: int
    logprobs: tuple[TokenLogprob, ...] | None

    @property
    def logprob(self) -> float | None:
        """Of all tokens of the text together; None unless asked for."""
        return None if self.logprobs is None else math.fsum(token.logprob for token in self.logprobs)


@dataclass(frozen=True)
class Answer(Completion):
    """What a model answered.

    Attributes:
        parts: text, calls of the calculator (`python`) and their results (`python_output`), in turn.
        messages: the conversation with this answer at its end: add a message and ask on.
    """

    parts: tuple[Part, ...]
    messages: list[Message]

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The sums it handed to the calculator."""
        following = (*self.parts[1:], None)
        return tuple(
            ToolCall(part["text"], after["text"] if after is not None and after["type"] == "python_output" else None)
            for part, after in zip(self.parts, following)
            if part["type"] == "python"
        )


@dataclass(frozen=True)
class Score:
    """How likely a model finds a given continuation.

    Attributes:
        logprobs: each token of it.
        greedy: whether each is the model's most likely token in its place.
    """

    logprobs: tuple[TokenLogprob, ...]
    greedy: bool

    @property
    def total(self) -> float:
        """Log-probability of the whole continuation, in nats."""
        return math.fsum(token.logprob for token in self.logprobs)

    @property
    def tokens(self) -> int:
        """Its length in tokens."""
        return len(self.logprobs)

    @property
    def mean(self) -> float:
        """Log-probability per token."""
        return self.total / self.tokens


class Stream(Generic[T]):
    """Text that comes piece by piece; all of it is written only if it is read to the end.

    Iterating gives each piece once. `close`, or leaving a `with` block, ends the writing.
    """

    def __init__(self, pieces: "Iterator[str | T]") -> None:
        self._pieces = pieces
        self._result: T | None = None

    def __iter__(self) -> Iterator[str]:
        for piece in self._pieces:
            if isinstance(piece, str):
                yield piece
            else:
                self._result = piece

    def __enter__(self) -> "Stream[T]":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def result(self) -> T:
        """The whole; what has not been read yet is read first.

        Raises:
            RuntimeError: if the stream was closed before its end.
        """
        for _ in self:
            pass
        if self._result is None:
            raise RuntimeError("the stream was closed before its end; there is no result")
        return self._result

    def close(self) -> None:
        """End the writing."""
        close = getattr(self._pieces, "close", None)
        if close is not None:
            close()
