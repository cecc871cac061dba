"""One reply being read: its tokens become events, the last of which says how it ended."""

import time
from collections.abc import Sequence
from dataclasses import replace

from nanochat.data.tokenizer import Tokenizer
from nanochat.infer.requests import Token
from nanochat.infer.sampling import SamplingParams
from nanochat.serve.events import Done, Event, Finish
from nanochat.serve.reader import ReplyReader


class Reading:
    """A reply, from the moment it is asked for.

    Args:
        tokenizer: of the model.
        context_size: tokens the model sees.
        prompt: length in tokens of what is replied to; less than the context.
        params: how it is to be sampled.
        stop: strings that end it.

    Attributes:
        params: with `max_tokens` cut to what the context has room for.
        done: the end, once it is there.
    """

    def __init__(
        self, tokenizer: Tokenizer, context_size: int, prompt: int, params: SamplingParams, stop: Sequence[str]
    ) -> None:
        self._context, self._prompt, self._room = context_size, prompt, context_size - prompt
        self.params = replace(params, max_tokens=min(params.max_tokens, self._room))
        self.done: Done | None = None
        self._reader = ReplyReader(tokenizer, stop)
        self._produced = self._sampled = 0
        self._began, self._first = time.perf_counter(), 0.0

    @property
    def stopped(self) -> bool:
        """Whether a stop string has been written; further tokens are ignored."""
        return self._reader.stopped

    def push(self, token: Token) -> list[Event]:
        """Take the next token; what it completes."""
        if self.stopped:
            return []
        if not self._produced:
            self._first = time.perf_counter() - self._began
        self._produced += 1
        self._sampled += token.sampled
        return [*self._reader.push(token)]

    def end(self, finish: Finish) -> list[Event]:
        """What was held back, and a `Done`.

        Args:
            finish: why the tokens ended; a stop string comes before that, and so does a full context.
        """
        events: list[Event] = [*self._reader.finish()]
        if self.stopped:
            finish = "stop"
        elif finish == "length" and self._produced >= self._room:
            finish = "context"
        self.done = Done(
            finish,
            self._sampled,
            self._produced,
            time.perf_counter() - self._began,
            self._first,
            self._prompt + self._produced,
            self._context,
        )
        return [*events, self.done]

    def take_tokens(self) -> tuple[Token, ...]:
        """Sampled tokens whose text has been handed out since the last call; end tokens are not among them."""
        return self._reader.take_tokens()
