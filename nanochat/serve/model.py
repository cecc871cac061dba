"""One loaded checkpoint that answers: conversation in, events out."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from threading import Event as Flag
from typing import Literal

from nanochat.data.conversation import Message, render_prompt
from nanochat.infer.checkpoint import LoadedModel
from nanochat.infer.engine import Engine
from nanochat.infer.generation import Generation
from nanochat.infer.sampling import SamplingParams
from nanochat.serve.errors import ContextFullError
from nanochat.serve.events import Event, Finish
from nanochat.serve.reading import Reading

MOST_SLOTS = 64
"""Rows that `auto` takes where memory is no matter: what a step costs is then shared by as many as it can."""
_SHARE = 0.25
"""Of the free memory, for keys and values."""


class ChatModel:
    """A checkpoint and the engine that runs it.

    The base model has never seen a conversation: it continues the last message as text, and tools are off.

    Args:
        name: what it is called.
        loaded: the checkpoint.
        slots: replies generated at the same time by a server; `auto`: as many as a part of the free memory holds.
        free_bytes: memory that is free now, where that is known.

    Attributes:
        users: replies being made or waiting; kept by the scheduler.
    """

    def __init__(
        self, name: str, loaded: LoadedModel, slots: int | Literal["auto"] = "auto", free_bytes: int | None = None
    ) -> None:
        self.name = name
        self.stage = loaded.manifest.stage
        self.manifest = loaded.manifest
        self.tokenizer = loaded.tokenizer
        self.loaded = loaded
        self.context_size: int = loaded.model.config.sequence_length
        self.completes = loaded.manifest.stage == "base"
        self.engine = Engine(loaded.model, loaded.tokenizer, tools=not self.completes)
        if slots == "auto":
            row = self.engine.decoder.cache(1, self.context_size).nbytes
            slots = MOST_SLOTS if free_bytes is None else max(1, min(MOST_SLOTS, int(_SHARE * free_bytes / row)))
        self.slots = slots
        self.users = 0

    @cached_property
    def fingerprint(self) -> str:
        """Changes whenever the same request with the same seed may be answered differently."""
        return f"fp_{self.manifest.digest[:12]}"

    @cached_property
    def generation(self) -> Generation:
        """The rows of a server, all of its replies together; belongs to the scheduler's thread."""
        return self.engine.start(self.slots)

    def restart(self) -> None:
        """Forget the rows of the server, after an error in the middle of a step."""
        self.__dict__.pop("generation", None)

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """Token ids the model goes on from. Special tokens typed into a message are plain text.

        Raises:
            ContextFullError: if they fill the context.
            DataError: if the messages are not a conversation that ends with the user.
        """
        if self.completes:
            return self.text_prompt(str(messages[-1]["content"]))
        return self.checked(render_prompt(self.tokenizer, {"messages": list(messages)}))

    def text_prompt(self, text: str) -> list[int]:
        """Token ids of a text to be continued.

        Raises:
            ContextFullError: if they fill the context.
        """
        return self.checked([self.tokenizer.bos, *self.tokenizer.encode(text)])

    def checked(self, prompt: list[int]) -> list[int]:
        """The prompt itself.

        Raises:
            ContextFullError: if it leaves no room for a single token.
        """
        if len(prompt) >= self.context_size:
            raise ContextFullError(
                f"the context is full: this conversation has {len(prompt)} tokens, {self.name} sees "
                f"{self.context_size}. Start a new conversation or shorten the message",
                len(prompt),
                self.context_size,
            )
        return prompt

    def reply(
        self, messages: Sequence[Message], params: SamplingParams, cancel: Flag, stop: Sequence[str] = ()
    ) -> Iterator[Event]:
        """Answer the last message, in this thread and for this caller alone.

        Args:
            messages: the conversation, ending with a user message.
            params: how to sample; `max_tokens` is cut to what the context has room for.
            cancel: set from anywhere, it ends the reply after the token being made.
            stop: strings that end the reply.

        Yields:
            Text and tool calls as they come, and last a `Done`.

        Raises:
            ContextFullError: before the first event, if the conversation fills the context.
            DataError: as `prompt` does.
        """
        return self.complete(self.prompt(messages), params, cancel, stop)

    def complete(
        self, prompt: Sequence[int], params: SamplingParams, cancel: Flag, stop: Sequence[str] = ()
    ) -> Iterator[Event]:
        """`reply` for token ids to go on from."""
        reading = self.reading(prompt, params, stop)
        params = reading.params
        generation = self.engine.start(1, len(prompt) + params.max_tokens, alone=True)
        generation.submit(prompt, params)
        finish: Finish = "length"
        while generation.active and not reading.stopped:
            for token in generation.step():
                yield from reading.push(token)
                finish = token.finish or "length"
            if generation.active and cancel.is_set():
                finish = "cancelled"
                break
        yield from reading.end(finish)

    def reading(self, prompt: Sequence[int], params: SamplingParams, stop: Sequence[str] = ()) -> Reading:
        """A reply to a prompt, of which nothing is there yet."""
        return Reading(self.tokenizer, self.context_size, len(prompt), params, stop)
