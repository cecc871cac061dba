"""Clients of a streaming API that cost little themselves: they share the machine with the server they measure."""

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Answer:
    """What one request got.

    Attributes:
        status: of HTTP.
        text: all of it.
        tokens: of the completion, as the server counts them.
        first_seconds: from sending to the first piece of text.
        seconds: to the end.
    """

    status: int
    text: str = ""
    tokens: int = 0
    first_seconds: float = 0.0
    seconds: float = 0.0


class Client:
    """One connection, kept from request to request."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, path: str, body: dict[str, Any], *, leave_after: int | None = None) -> Answer:
        """Send a request and read its stream.

        Args:
            path: such as /v1/completions.
            body: `stream` and `stream_options` are added.
            leave_after: close the connection after so many pieces.
        """
        content = json.dumps(body | {"stream": True, "stream_options": {"include_usage": True}}).encode()
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        assert self._reader is not None
        head = f"POST {path} HTTP/1.1\r\nHost: {self._host}\r\nContent-Type: application/json\r\n"
        started = time.perf_counter()
        self._writer.write(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
        status = int((await self._reader.readline()).split()[1])
        length = None
        while (line := await self._reader.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode().partition(":")
            if name.lower() == "content-length":
                length = int(value)
        if length is not None:  # not a stream: an error
            await self._reader.readexactly(length)
            return Answer(status)
        pieces: list[str] = []
        tokens, first = 0, 0.0
        async for event in self._events():
            if event.get("usage"):
                tokens = event["usage"]["completion_tokens"]
            for choice in event.get("choices", []):
                text = choice["text"] if "text" in choice else choice["delta"].get("content")
                if text:
                    first = first or time.perf_counter() - started
                    pieces.append(text)
            if leave_after is not None and len(pieces) >= leave_after:
                self.close()
                break
        return Answer(status, "".join(pieces), tokens, first, time.perf_counter() - started)

    async def _events(self) -> Any:
        assert self._reader is not None
        while size := int((await self._reader.readline()).strip() or b"0", 16):
            chunk = await self._reader.readexactly(size + 2)
            for line in chunk.splitlines():
                if line.startswith(b"data: {"):
                    yield json.loads(line[6:])
        await self._reader.readline()  # the empty line after the last chunk

    def close(self) -> None:
        """Let go of the connection."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None
