"""How the Python interface is asked to write, and the replies being written."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypedDict

from nanochat.config import ChatSettings
from nanochat.data.conversation import Message, Part
from nanochat.data.tokenizer import Tokenizer
from nanochat.infer.requests import Token
from nanochat.infer.sampling import SamplingParams
from nanochat.serve.events import Event, append
from nanochat.serve.model import ChatModel
from nanochat.serve.notation import as_text
from nanochat.serve.reading import Reading
from nanochat.serve.results import Answer, Completion, TokenLogprob

_SEEDS = 1 << 31


class Sampling(TypedDict, total=False):
    """How to sample; what is left out is as in the chat's settings."""

    max_tokens: int
    """Length limit; less where the context ends before."""
    temperature: float
    """0 takes the likeliest token."""
    top_k: int | None
    """Only the k likeliest tokens."""
    top_p: float | None
    """Of these, the likeliest that together hold this probability."""
    min_p: float | None
    """Of these, those at least this share as likely as the likeliest."""
    seed: int | None
    """Of the random numbers; None draws a new one, which the result names."""
    stop: str | Sequence[str]
    """Text that ends the writing and is not part of it."""
    logprobs: bool
    """Whether log-probabilities of the tokens are wanted."""


@dataclass(frozen=True)
class Asked:
    """A `Sampling` made complete.

    Attributes:
        params: of the first reply.
        stop: strings that end a reply.
        apart: whether replies have seeds of their own: seed, seed + 1, …
    """

    params: SamplingParams
    stop: tuple[str, ...]
    apart: bool

    @classmethod
    def of(cls, sampling: Sampling, *, apart: bool = False) -> "Asked":
        """What is left out is as in the chat's settings.

        Args:
            sampling: what was given.
            apart: whether replies are samples of the same prompt.

        Raises:
            ValueError: for a value out of range.
            TypeError: for an unknown name.
        """
        settings = ChatSettings()
        given = dict(sampling)
        unknown = sorted(given.keys() - Sampling.__annotations__.keys())
        if unknown:
            raise TypeError(f"unknown {', '.join(unknown)}; expected some of {', '.join(Sampling.__annotations__)}")
        stop = given.pop("stop", ())
        strings = (stop,) if isinstance(stop, str) else tuple(stop)
        if not all(strings):
            raise ValueError("stop: expected texts of at least one character")
        if given.get("seed") is None:
            given["seed"] = secrets.randbelow(_SEEDS)
        known = {
            "max_tokens": settings.max_new_tokens,
            "temperature": settings.temperature,
            "top_k": settings.top_k,
            "top_p": settings.top_p,
        }
        return cls(SamplingParams(**{**known, **given}), strings, apart)

    def reply(self, model: ChatModel, prompt: Sequence[int], number: int = 0) -> "Reply":
        """The reply number `number`, of which nothing is written yet."""
        params = replace(self.params, seed=self.params.seed + number * self.apart)
        return Reply(model.tokenizer, prompt, model.reading(prompt, params, self.stop))


class Reply:
    """One reply while it is written.

    Args:
        tokenizer: of the model.
        prompt: what it goes on from.
        reading: of its tokens.
    """

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int], reading: Reading) -> None:
        self.prompt, self.reading = prompt, reading
        self._tokenizer = tokenizer
        self._parts: list[Part] = []
        self._tokens: list[Token] = []

    @property
    def params(self) -> SamplingParams:
        """How it is sampled."""
        return self.reading.params

    def push(self, token: Token) -> list[Event]:
        """Take the next token; what it completes, at the end a `Done`."""
        events = self.reading.push(token)
        if token.finish is not None or self.reading.stopped:
            events += self.reading.end(token.finish or "stop")
        self._tokens += self.reading.take_tokens()
        for event in events:
            self._parts = append(self._parts, event)
        return events

    def completion(self) -> Completion:
        """What was written."""
        done = self.reading.done
        if done is None:
            raise AssertionError("a reply is written to its end")
        return Completion(as_text(self._parts), done.finish, done.tokens, self.params.seed, self._logprobs())

    def answer(self, conversation: Sequence[Message]) -> Answer:
        """What was written, as an answer to this conversation."""
        done = self.completion()
        messages = [*conversation, Message(role="assistant", content=self._parts)]
        return Answer(done.text, done.finish, done.tokens, done.seed, done.logprobs, tuple(self._parts), messages)

    def _logprobs(self) -> tuple[TokenLogprob, ...] | None:
        if not self.params.logprobs:
            return None
        return tuple(judged_token(self._tokenizer, token.id, token.logprob) for token in self._tokens)


def judged_token(tokenizer: Tokenizer, token: int, logprob: float) -> TokenLogprob:
    """A token with its text."""
    return TokenLogprob(token, tokenizer.decode([token]), logprob)
