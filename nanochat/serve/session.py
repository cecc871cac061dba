"""A conversation with one of the models, kept on disk: send, retry, undo, go on with an earlier one."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from threading import Event as Flag

from nanochat.data.conversation import Message, Part
from nanochat.errors import DataError
from nanochat.infer.sampling import SamplingParams
from nanochat.serve.conversations import NEW_TITLE, SHARED, Column, Conversation, Store, Summary, title_of
from nanochat.serve.display import status
from nanochat.serve.events import Done, Event, append
from nanochat.serve.registry import Registry
from nanochat.serve.turns import add_reply, ask, asked, cut, set_reply, text_at, tidy, turns

BROKEN_OFF = "broken off"
"""Note of an answer whose end nobody saw."""


@dataclass
class ChatSession:
    """One person's chat. It belongs to one thread; registry and store may be shared.

    Attributes:
        registry: the models.
        conversation: what is talked about; one column.
        params: how to sample.
        store: where conversations are kept after every answer; None keeps nothing.
        stop: strings that end an answer.
    """

    registry: Registry
    conversation: Conversation
    params: SamplingParams
    store: Store | None = None
    stop: tuple[str, ...] = field(default=())

    @classmethod
    def begin(
        cls,
        registry: Registry,
        model: str,
        params: SamplingParams,
        *,
        system: str = "",
        store: Store | None = None,
    ) -> "ChatSession":
        """A new conversation.

        Args:
            registry: the models.
            model: name or stage of the one that answers.
            params: how to sample.
            system: put before the first message; blank means none.
            store: where it is kept once there is an answer.

        Raises:
            UnknownModelError: if there is no such checkpoint.
        """
        name = registry.resolve(model).name
        return cls(registry, Conversation.new(SHARED, [name], system), params, store)

    @property
    def _column(self) -> Column:
        return self.conversation.columns[0]

    @property
    def model(self) -> str:
        """Name of the checkpoint that answers next."""
        return self._column.model

    @property
    def system(self) -> str:
        """System prompt of this conversation; empty where there is none."""
        return self.conversation.system

    @system.setter
    def system(self, text: str) -> None:
        self.conversation.system = text

    @property
    def messages(self) -> list[Message]:
        """User and assistant in turns."""
        return self._column.messages

    @property
    def turns(self) -> int:
        """Number of user messages."""
        return turns(self._column)

    def choose(self, name: str) -> str:
        """Let another model answer from now on; returns its full name. It is loaded here.

        Raises:
            UnknownModelError: if there is no such checkpoint.
            ArtifactError: if it is damaged.
        """
        self._column.model = self.registry.get(name).name
        return self.model

    def send(self, text: str, cancel: Flag) -> Iterator[Event]:
        """Say `text` and stream the answer, which is kept also if the reader leaves in the middle.

        Nothing is added to the conversation if the answer cannot begin.

        Raises:
            ContextFullError: if there is no room for an answer.
            ArtifactError: if the checkpoint is damaged or gone.
            DataError: for an empty text; or, after the last event, if the conversation cannot be written.
        """
        return self._answer(len(self.messages) // 2, text, cancel)

    def retry(self, cancel: Flag) -> Iterator[Event]:
        """Answer the last message again. The old answer stays if the new one cannot begin.

        Raises:
            IndexError: if there is no message yet.
        """
        return self._answer(self.turns - 1, self._text(self.turns - 1), cancel)

    def undo(self) -> str:
        """Forget the last message and its answer; returns the message.

        Raises:
            IndexError: if there is no message yet.
        """
        text = self._text(self.turns - 1)
        cut(self._column, self.turns - 1)
        self.save()
        return text

    def clear(self) -> None:
        """Begin a new conversation with the same model and system prompt; the old one is kept."""
        self.conversation = Conversation.new(SHARED, [self.model], self.system)

    def kept(self) -> list[Summary]:
        """Conversations on disk, the one changed last first."""
        return [] if self.store is None else self.store.list(SHARED)

    def open(self, id: str) -> None:
        """Go on with a conversation on disk. Of one with two models, a copy of its first side is gone on with.

        Raises:
            DataError: if it is gone or damaged.
        """
        found = None if self.store is None else self.store.load(id, SHARED)
        if found is None:
            raise DataError(f"the conversation {id} is not there any more")
        if len(found.columns) > 1:
            column, title = found.columns[0], found.title
            found = Conversation.new(SHARED, [column.model], found.system)
            found.columns, found.title = [column], title
        tidy(found.columns[0])
        if found.columns[0].model not in self.registry.names:  # that model is gone: the one of now goes on
            found.columns[0].model = self.model
        self.conversation = found

    def save(self) -> None:
        """Keep the conversation as it is now; an empty one is not kept.

        Raises:
            DataError: if it cannot be written.
        """
        if self.store is None:
            return
        self.conversation.updated = time.time()
        if self.messages:
            self.store.save(self.conversation)
        else:
            self.store.delete(self.conversation.id, SHARED)

    def said(self) -> list[Message]:
        """The conversation as the model is given it: system prompt first, without what was never answered."""
        return asked(self.messages, self.system)

    def _text(self, turn: int) -> str:
        text = text_at(self._column, turn)
        if text is None:
            raise IndexError("there is no message yet")
        return text

    def _answer(self, turn: int, text: str, cancel: Flag) -> Iterator[Event]:
        column = self._column
        model = self.registry.get(column.model)
        before: list[Message] = [*column.messages[: 2 * turn], {"role": "user", "content": text}]
        events = model.reply(asked(before, "" if model.completes else self.system), self.params, cancel, self.stop)
        first = next(events)  # what keeps the answer from beginning is raised here
        cut(column, turn)
        ask(column, text)
        add_reply(column, BROKEN_OFF)
        if self.conversation.title == NEW_TITLE:
            self.conversation.title = title_of(text)
        parts: list[Part] = []
        try:
            event = first
            while True:
                parts = append(parts, event)
                set_reply(column, parts, BROKEN_OFF)
                if isinstance(event, Done):
                    set_reply(column, parts, status(model.name, event, self.params.seed))
                    column.context_used, column.context_size = event.context_used, event.context_size
                yield event
                if isinstance(event, Done):
                    return
                event = next(events)
        finally:
            self.save()
