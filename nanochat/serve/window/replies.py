"""A reply while it is written: a task of its own, which pages look at, and which is saved as it grows."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from nanochat.data.conversation import Part
from nanochat.data.tokenizer import Tokenizer
from nanochat.errors import NanochatError
from nanochat.infer.sampling import SamplingParams
from nanochat.serve.conversations import Column, Conversation, Store
from nanochat.serve.display import status
from nanochat.serve.errors import ContextFullError
from nanochat.serve.events import Done, append
from nanochat.serve.model import ChatModel
from nanochat.serve.serving import Serving
from nanochat.serve.streams import Piece, stream
from nanochat.serve.turns import add_reply, asked, set_reply, turns

log = logging.getLogger(__name__)

BROKEN_OFF = "broken off: the server ended while this was written"
"""What a conversation says of a reply that is being written, for the case that nobody is there to write more."""
_SAVE_SECONDS = 1.0


@dataclass
class Side:
    """One column's part of a reply."""

    column: Column
    number: int
    state: str = "loading"
    """loading, waiting, writing or done."""
    parts: list[Part] = field(default_factory=list)
    tokens: int = 0
    """Sampled ones so far."""
    used: int = 0
    """Tokens of the context, as far as they are counted."""
    size: int = 0
    error: str = ""
    began: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        """Since it was asked for."""
        return time.perf_counter() - self.began

    @property
    def line(self) -> str:
        """What goes on, for people."""
        if self.state == "loading":
            return f"loading {self.column.model} …"
        if self.state == "waiting":
            return "waiting for the first word …"
        if self.state == "writing":
            return f"{self.tokens} tokens · {self.tokens / max(self.seconds, 1e-3):.0f} tokens/s"
        return self.error


class Reply:
    """Answers the last user message of a conversation, in one column or in both at the same time.

    Where nothing at all could be written, the conversation is again what it was before; but a message that was added
    to it while no page looks any more stays.

    Args:
        serving: models and scheduler.
        store: where the conversation is kept.
        conversation: each of `columns` ends with a user message.
        columns: numbers of the columns to answer in.
        params: how to sample.
        before: the columns and title as they were; None where the conversation is a new one.
        text: what was typed, given back (`returned`) where nothing could be written.
    """

    def __init__(
        self,
        serving: Serving,
        store: Store,
        conversation: Conversation,
        columns: list[int],
        params: SamplingParams,
        before: Conversation | None,
        text: str,
    ) -> None:
        self.conversation = conversation
        self.sides = [Side(conversation.columns[number], number) for number in columns]
        self.problem = ""
        """An error that is not one side's, or left nothing of any side."""
        self.returned = ""
        self.discarded = False
        """Whether the conversation is gone: nothing more is saved."""
        self.tabs: set[str] = set()
        """Browser tabs that know of this reply."""
        self.lookers: list[Callable[[], bool]] = []
        """Each says whether its page still shows this reply."""
        self.over = asyncio.Event()
        self.news = asyncio.Event()
        """Set, and replaced by another, whenever there is something new to look at."""
        self._serving, self._store, self._params = serving, store, params
        self._before, self._text = before, text
        self._stopped = ""
        self._tasks: list[asyncio.Task[None]] = []
        for side in self.sides:
            add_reply(side.column, BROKEN_OFF)

    def stop(self, why: str = "stopped") -> None:
        """End the reply; what there is of it stays, and says why it ended."""
        if not self._stopped and not self.over.is_set():
            self._stopped = why
            for task in self._tasks:
                task.cancel()

    async def run(self) -> None:
        """Write the reply and keep it. What models and disks do wrong is told in `sides` and `problem`."""
        try:
            self._tasks = [asyncio.create_task(self._write(side)) for side in self.sides]
            pending = set(self._tasks)
            while pending:
                _, pending = await asyncio.wait(pending, timeout=_SAVE_SECONDS)
                if pending:
                    await self.save()
            self._settle()
            await self.save()
        finally:
            # Also where the server ends: what there is of the reply is kept, and that it was broken off.
            for task in self._tasks:
                task.cancel()
            if not self.over.is_set() and any(side.state != "done" for side in self.sides):
                self._save_now()
            self.over.set()
            self._tell()

    async def _write(self, side: Side) -> None:
        model: ChatModel | None = None
        try:
            if self._stopped:
                raise asyncio.CancelledError
            model = await asyncio.to_thread(self._serving.registry.get, side.column.model)
            messages = asked(side.column.messages[:-1], "" if model.completes else self.conversation.system)
            prompt = await asyncio.to_thread(model.prompt, messages)
            side.used, side.size, side.state = len(prompt), model.context_size, "waiting"
            self._tell()
            pieces = stream(self._serving.scheduler, model, [prompt], [self._params])
            async with contextlib.aclosing(pieces):
                async for news in pieces:
                    for piece in news:
                        self._take(side, model, piece)
                    self._tell()
        except asyncio.CancelledError:
            if not self._stopped:
                raise
            if model is not None and side.size:
                side.used += await asyncio.to_thread(_length, model.tokenizer, side.parts)
                self._note(side, _stopped(side), model.name, self._stopped)
            else:
                set_reply(side.column, side.parts, self._stopped)
        except ContextFullError as error:
            side.used, side.size = error.tokens, error.context_size
            self._fail(side, str(error))
        except NanochatError as error:
            self._fail(side, str(error))
        except Exception:
            log.exception("%s could not answer", side.column.model)
            self._fail(side, f"{side.column.model} could not answer; the server's log says why")
        side.state = "done"
        self._tell()

    def _take(self, side: Side, model: ChatModel, piece: Piece) -> None:
        side.state = "writing"
        side.tokens += sum(token.sampled for token in piece.tokens)
        for event in piece.events:
            side.parts = append(side.parts, event)
            if isinstance(event, Done):
                side.used = event.context_used
                self._note(side, event, model.name)
        if not any(isinstance(event, Done) for event in piece.events):
            set_reply(side.column, side.parts, BROKEN_OFF)

    def _note(self, side: Side, done: Done, model: str, why: str | None = None) -> None:
        set_reply(side.column, side.parts, status(model, done, self._params.seed, why=why, context=False))
        side.column.context_used, side.column.context_size = side.used, side.size

    def _fail(self, side: Side, line: str) -> None:
        side.error = line
        set_reply(side.column, side.parts, f"{side.column.model} · {line}")
        side.column.context_used, side.column.context_size = side.used, side.size

    def _settle(self) -> None:
        """Where nothing could be written, all is as it was before, and a page has the text again."""
        self.conversation.updated = time.time()
        if not all(side.error and not side.parts for side in self.sides):
            return
        added = self._before is None or turns(self._before.columns[0]) < turns(self.conversation.columns[0])
        if added and not any(looks() for looks in self.lookers):
            return  # nobody is there to take the text back: it stays, with a note that says what went wrong
        self.returned = self._text
        self.problem = self.problem or " ".join(dict.fromkeys(f"{side.error}." for side in self.sides))
        if self._before is None:
            self.conversation.columns = [Column(column.model) for column in self.conversation.columns]
            self.discarded = True
            try:
                self._store.delete(self.conversation.id, self.conversation.owner)
            except NanochatError as error:
                self.problem = f"{self.problem} {error}"
        else:
            self.conversation.title = self._before.title
            self.conversation.columns = self._before.columns
            self.conversation.updated = self._before.updated

    async def save(self) -> None:
        """Write the conversation as it is now; called before `run` too, so that what was asked is kept."""
        await asyncio.to_thread(self._save_now)

    def _save_now(self) -> None:
        if self.discarded:
            return
        try:
            self._store.save(self.conversation)
        except NanochatError as error:
            self.problem = str(error)

    def _tell(self) -> None:
        news, self.news = self.news, asyncio.Event()
        news.set()


def _stopped(side: Side) -> Done:
    """The end of a reply that was stopped here; its parts are counted as the next prompt will have them."""
    return Done("cancelled", side.tokens, side.tokens, side.seconds, 0.0, side.used, side.size)


def _length(tokenizer: Tokenizer, parts: list[Part]) -> int:
    brackets = 2 * sum(part["type"] != "text" for part in parts)
    return brackets + sum(len(tokenizer.encode(part["text"])) for part in parts)
