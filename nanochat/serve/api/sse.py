"""Answers that end with their reader: server-sent events, and what is done only as long as a client is there."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from typing import Any, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from nanochat.serve.api.errors import as_api_error

log = logging.getLogger(__name__)

T = TypeVar("T")

DONE = b"data: [DONE]\n\n"
GRACE_SECONDS = 10.0
"""A reader gets so much longer than an answer may take to be made."""
_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class ClientGoneError(Exception):
    """Nobody waits for the answer any more."""


async def while_connected(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Do something, but give it up at once when the client closes its connection.

    Args:
        receive: of the request, whose body has been read.
        work: what to do.

    Raises:
        ClientGoneError: if the client left before it was done.
    """
    doing = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait((doing, watching), return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise ClientGoneError
        return doing.result()
    finally:
        doing.cancel()
        watching.cancel()
        await asyncio.gather(doing, watching, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class Begun(AsyncIterator[T]):
    """Pieces whose making has begun: what keeps it from beginning is raised by `of`, and not later.

    Nothing is waited for, so that a reader is told at once that its answer is on its way.
    """

    def __init__(self, pieces: AsyncGenerator[T, None]) -> None:
        self._pieces = pieces
        self._first: asyncio.Future[T] | None = asyncio.ensure_future(anext(pieces))

    @classmethod
    async def of(cls, pieces: AsyncGenerator[T, None]) -> "Begun[T]":
        """Begin.

        Raises:
            Exception: whatever is raised before the first wait.
        """
        begun = cls(pieces)
        try:
            await asyncio.sleep(0)  # the task runs until it has to wait
        except asyncio.CancelledError:
            await begun.aclose()
            raise
        first = begun._first
        if first is not None and first.done() and not isinstance(first.exception(), StopAsyncIteration):
            first.result()
        return begun

    async def __anext__(self) -> T:
        if self._first is None:
            return await anext(self._pieces)
        first, self._first = self._first, None
        return await first

    async def aclose(self) -> None:
        """End it, wherever it is."""
        if self._first is not None:
            self._first.cancel()
            await asyncio.gather(self._first, return_exceptions=True)
        await self._pieces.aclose()


class EventStream(Response):
    """Server-sent events that stop being made when the client goes, or takes too long to read them.

    Args:
        events: whole events as bytes. What is raised while they are made becomes an event that tells of it, the last.
        source: what the events are made of; closed at the end, however that comes.
        seconds: until the client is given up.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes, None], source: Begun[Any], seconds: float) -> None:
        super().__init__(headers=_HEADERS)
        del self.headers["content-length"]
        self._events, self._source = events, source
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        try:
            async with asyncio.timeout(self._seconds):
                await while_connected(receive, self._write(send))
        except ClientGoneError:
            pass
        except TimeoutError:
            log.warning("a client did not read its answer within %g seconds; it was given up", self._seconds)
        finally:
            await self._events.aclose()
            await self._source.aclose()

    async def _write(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            async for event in self._events:
                await send({"type": "http.response.body", "body": event, "more_body": True})
        except Exception as error:
            told = json.dumps(as_api_error(error).body)
            await send({"type": "http.response.body", "body": f"data: {told}\n\n".encode(), "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
