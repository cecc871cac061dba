"""What is done with conversations: messages and what answers them, going back, titles, deletion."""

import asyncio
import copy
import time
from collections.abc import Sequence

from nanochat.errors import NanochatError
from nanochat.serve import turns
from nanochat.serve.conversations import Conversation, Store, title_of
from nanochat.serve.serving import Serving
from nanochat.serve.window.knobs import Asked, params_from
from nanochat.serve.window.replies import Reply


class Desk:
    """Conversations of all visitors, and the replies that are being written to them.

    One thing is done at a time: a conversation is never read, changed and written by two at once.

    Args:
        serving: models and scheduler.
        store: where conversations are kept.

    Attributes:
        replies: those being written, by id of the conversation.
    """

    def __init__(self, serving: Serving, store: Store) -> None:
        self.replies: dict[str, Reply] = {}
        self._serving, self._store = serving, store
        self._tasks: set[asyncio.Task[None]] = set()
        self._changing = asyncio.Lock()

    def known(self, wanted: Sequence[str]) -> list[str]:
        """Those of the wanted models that there are; the one to begin with where there is none of them."""
        try:
            known = [name for name in wanted if name in self._serving.registry.names]
            return known or [self._serving.registry.default]
        except (NanochatError, OSError):
            return [""]

    async def begin(self, kind: str, asked: Asked, owner: str, tab: str) -> Conversation | None:
        """Let a reply begin: to a new message, to a changed one, or another one to the last."""
        if kind != "regenerate" and not asked.text.strip():
            return await self.load(asked.id, owner)
        async with self._changing:
            conversation = await self.load(asked.id, owner, halt=True)
            if conversation is None and kind != "send":
                return None
            before = copy.deepcopy(conversation)
            if conversation is None:
                models = asked.models or await asyncio.to_thread(self.known, ())
                conversation = Conversation.new(owner, list(models), asked.system)
                conversation.title = title_of(asked.text)
            configure(conversation, asked)
            columns = list(range(len(conversation.columns)))
            if kind == "regenerate":
                columns = columns if asked.column is None else columns[asked.column : asked.column + 1]
                columns = [number for number in columns if turns.turns(conversation.columns[number])]
                for number in columns:
                    turns.forget_answer(conversation.columns[number])
            else:
                if kind == "edit":
                    go_back(conversation, asked.turn, asked.text)
                for column in conversation.columns:
                    turns.ask(column, asked.text)
            if columns:
                params = await asyncio.to_thread(params_from, asked.knobs, self._serving.settings)
                reply = Reply(self._serving, self._store, conversation, columns, params, before, asked.text)
                reply.tabs.add(tab)
                await reply.save()
                self._start(reply)
            return conversation

    def _start(self, reply: Reply) -> None:
        id = reply.conversation.id
        self.replies[id] = reply
        task = asyncio.create_task(reply.run())
        self._tasks.add(task)

        def forget(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if self.replies.get(id) is reply:
                del self.replies[id]

        task.add_done_callback(forget)

    async def undo(self, asked: Asked, owner: str) -> tuple[Conversation | None, str]:
        """Take the last message and its answers back; gives the message."""
        async with self._changing:
            conversation = await self.load(asked.id, owner, halt=True)
            last = turns.turns(conversation.columns[0]) - 1 if conversation is not None else -1
            if conversation is None or last < 0:
                return conversation, ""
            text = turns.text_at(conversation.columns[0], last) or ""
            if last == 0:
                await asyncio.to_thread(self._store.delete, conversation.id, owner)
                return None, text
            go_back(conversation, last)
            conversation.updated = time.time()
            await asyncio.to_thread(self._store.save, conversation)
            return conversation, text

    async def delete(self, id: str, owner: str) -> None:
        """Delete a conversation; a reply to it ends first."""
        async with self._changing:
            reply = self.reply(id, owner)
            if reply is not None:
                reply.discarded = True
                reply.stop()
                await reply.over.wait()
            await asyncio.to_thread(self._store.delete, id, owner)

    async def change(self, kind: str, asked: Asked, owner: str) -> str:
        """Change title, models or system prompt of a conversation, or remove one; gives what went wrong."""
        if kind == "remove":
            try:
                await self.delete(asked.id, owner)
            except NanochatError as error:
                return str(error)
            return ""
        async with self._changing:
            try:
                conversation = await self.load(asked.id, owner)
                if conversation is None:
                    return ""
                if kind == "rename":
                    conversation.title = title_of(asked.text)
                else:
                    reply = self.reply(asked.id, owner)
                    if reply is not None and asked.models and len(asked.models) != len(conversation.columns):
                        # The reply's own conversation is changed: it is what its pages show at its end.
                        reply.stop()
                        await reply.over.wait()
                        if reply.discarded:
                            return ""
                    configure(conversation, asked, drop=True)
                await asyncio.to_thread(self._store.save, conversation)
            except NanochatError as error:
                return str(error)
        return ""

    async def load(self, id: str, owner: str, halt: bool = False) -> Conversation | None:
        """A conversation: the very one that is being written, or else from disk.

        Args:
            id: which.
            owner: whose.
            halt: whether a reply that is being written ends first.
        """
        reply = self.reply(id, owner)
        if reply is not None and not halt:
            return reply.conversation
        if reply is not None:
            reply.stop()
            await reply.over.wait()
        conversation = await asyncio.to_thread(self._store.load, id, owner)
        for column in conversation.columns if conversation is not None else ():
            turns.tidy(column)
        return conversation

    def reply(self, id: str, owner: str) -> Reply | None:
        """The reply that is being written in a conversation of `owner`, if there is one."""
        reply = self.replies.get(id)
        return reply if reply is not None and reply.conversation.owner == owner else None


def configure(conversation: Conversation, asked: Asked, *, drop: bool = False) -> None:
    """Set models and system prompt. A second column begins as a copy of the first.

    Args:
        conversation: is changed.
        asked: names the models.
        drop: whether one model less drops the second column. Else it stays: a page that does not know of it is old.
    """
    conversation.system = asked.system
    for number, model in enumerate(asked.models):
        if number < len(conversation.columns):
            conversation.columns[number].model = model
        else:
            conversation.columns.append(copy.deepcopy(conversation.columns[0]))
            conversation.columns[number].model = model
    if drop and asked.models:
        conversation.columns = conversation.columns[: len(asked.models)]


def go_back(conversation: Conversation, turn: int, instead: str = "") -> None:
    """Forget user message `turn` and what follows, in all columns; a title made from it follows its new text."""
    first = turns.text_at(conversation.columns[0], 0)
    if turn <= 0 and instead and first is not None and conversation.title == title_of(first):
        conversation.title = title_of(instead)
    for column in conversation.columns:
        turns.cut(column, max(0, turn))
