"""A conversation with one of the models: send, retry, undo, edit. The window and the terminal are views of it."""

from collections.abc import Iterator, Sequence
from threading import Event as Flag

from nanochat.data.conversation import Message, Part
from nanochat.infer.sampling import SamplingParams
from nanochat.serve.events import Event, append
from nanochat.serve.registry import Registry


class ChatSession:
    """The messages so far, and how they are answered. The session belongs to one thread; the registry is shared.

    Args:
        registry: the models.
        stage: which of them answers; it can be changed between messages.
        params: how to sample.
        system: put before the first message; empty means none.
        messages: a conversation to go on with, user and assistant in turns.
    """

    def __init__(
        self,
        registry: Registry,
        stage: str,
        params: SamplingParams,
        system: str = "",
        messages: Sequence[Message] = (),
    ) -> None:
        self.registry = registry
        self.stage = stage
        self.params = params
        self.system = system
        self.messages: list[Message] = list(messages)

    @property
    def turns(self) -> int:
        """Number of user messages."""
        return sum(message["role"] == "user" for message in self.messages)

    def send(self, text: str, cancel: Flag) -> Iterator[Event]:
        """Say `text` and stream the answer; at every event, `messages` holds the answer so far.

        Nothing is added to the conversation if the answer cannot begin.

        Raises:
            ContextFullError: if there is no room for an answer.
            ArtifactError: if the stage has no checkpoint, or a damaged one.
        """
        before = self.messages
        asked: Message = {"role": "user", "content": text}
        first: list[Message] = [{"role": "system", "content": self.system}] if self.system.strip() else []
        parts: list[Part] = []
        for event in self.registry.get(self.stage).reply([*first, *before, asked], self.params, cancel):
            parts = append(parts, event)
            self.messages = [*before, asked, {"role": "assistant", "content": parts}]
            yield event

    def rewind(self, turn: int) -> str:
        """Forget user message number `turn` (from 0) and all after it; returns its text.

        Raises:
            IndexError: if there is no such turn.
        """
        places = [place for place, message in enumerate(self.messages) if message["role"] == "user"]
        place = places[turn]
        text = str(self.messages[place]["content"])
        self.messages = self.messages[:place]
        return text
