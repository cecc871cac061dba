"""One loaded checkpoint that answers: conversation in, events out."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from threading import Event as Flag

from nanochat.data.conversation import Message, render_prompt
from nanochat.errors import NanochatError
from nanochat.infer.checkpoint import LoadedModel
from nanochat.infer.engine import Engine
from nanochat.infer.sampling import SamplingParams
from nanochat.serve.events import Decoder, Done, Event, Finish


class ContextFullError(NanochatError):
    """The conversation leaves the model no room for an answer."""


class ChatModel:
    """A checkpoint and the engine that runs it.

    The base model has never seen a conversation: it continues the last message as text, and tools are off.
    """

    def __init__(self, stage: str, loaded: LoadedModel) -> None:
        self.stage = stage
        self.manifest = loaded.manifest
        self.tokenizer = loaded.tokenizer
        self.context_size: int = loaded.model.config.sequence_length
        self.completes = loaded.manifest.stage == "base"
        self.engine = Engine(loaded.model, loaded.tokenizer, tools=not self.completes)

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """Token ids the model goes on from. Special tokens typed into a message are plain text.

        Raises:
            ContextFullError: if they fill the context.
            DataError: if the messages are not a conversation that ends with the user.
        """
        if self.completes:
            ids = [self.tokenizer.bos, *self.tokenizer.encode(str(messages[-1]["content"]))]
        else:
            ids = render_prompt(self.tokenizer, {"messages": list(messages)})
        if len(ids) >= self.context_size:
            raise ContextFullError(
                f"the context is full: this conversation has {len(ids)} tokens, the {self.stage} model sees "
                f"{self.context_size}. Start a new conversation or shorten the message"
            )
        return ids

    def reply(self, messages: Sequence[Message], params: SamplingParams, cancel: Flag) -> Iterator[Event]:
        """Answer the last message.

        Args:
            messages: the conversation, ending with a user message.
            params: how to sample; `max_tokens` is cut to what the context has room for.
            cancel: set from anywhere, it ends the reply after the token being made.

        Yields:
            Text and tool calls as they come, and last a `Done`.

        Raises:
            ContextFullError: before the first event, if the conversation fills the context.
            DataError: as `prompt` does.
        """
        started = time.perf_counter()
        prompt = self.prompt(messages)
        stop = params.stop
        if stop is None:
            stop = frozenset((self.tokenizer.bos, self.tokenizer.special["<|assistant_end|>"]))
        room = self.context_size - len(prompt)
        params = replace(params, max_tokens=min(params.max_tokens, room), stop=stop)
        decoder = Decoder(self.tokenizer)
        produced = sampled = 0
        finish: Finish = "length"
        stream = self.engine.stream(prompt, params)
        try:
            for token, was_sampled in stream:
                produced += 1
                sampled += was_sampled
                if was_sampled and token in stop:
                    finish = "stop"
                    break
                yield from decoder.push(token, was_sampled)
                if cancel.is_set():
                    finish = "cancelled"
                    break
        finally:
            stream.close()
        yield from decoder.finish()
        if finish == "length" and produced >= room:
            finish = "context"
        seconds = time.perf_counter() - started
        yield Done(finish, sampled, seconds, len(prompt) + produced, self.context_size)
