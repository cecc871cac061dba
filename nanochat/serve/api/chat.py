"""POST /v1/chat/completions."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from nanochat.errors import NanochatError
from nanochat.infer.requests import Token
from nanochat.serve.api.answers import Chunks, Envelope, Written, done_of, finish_reason, usage
from nanochat.serve.api.conversation import conversation
from nanochat.serve.api.errors import as_api_error
from nanochat.serve.api.logprobs import TokenNames, for_chat
from nanochat.serve.api.requests import ChatRequest, asked_for
from nanochat.serve.api.sampling import choices
from nanochat.serve.api.sse import DONE, GRACE_SECONDS, Begun, ClientGoneError, EventStream, while_connected
from nanochat.serve.model import ChatModel
from nanochat.serve.notation import text_of
from nanochat.serve.serving import Serving
from nanochat.serve.streams import Piece, stream

_encode = json.encoder.encode_basestring_ascii
_ROLE = '"delta": {"role": "assistant", "content": "", "refusal": null}'
NOBODY = 499
"""Status of an answer that nobody waits for."""


class ChatCompletions:
    """Answers conversations."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    async def post(self, request: Request) -> Response:
        """Answer a conversation, in one piece or as a stream.

        Raises:
            ApiError: for what is wrong with the request.
        """
        asked = await asked_for(ChatRequest, request)
        try:
            if asked.stream:
                return await self._streamed(asked)
            return JSONResponse(await while_connected(request.receive, self._whole(asked)))
        except ClientGoneError:
            return Response(status_code=NOBODY)
        except NanochatError as error:
            raise as_api_error(error, "messages") from None

    async def _begin(self, asked: ChatRequest) -> tuple[ChatModel, list[int], AsyncGenerator[list[Piece], None]]:
        messages = conversation(asked.messages)

        def prepare() -> tuple[ChatModel, list[int]]:
            model = self._serving.registry.get(asked.model)
            return model, model.prompt(messages)

        model, prompt = await asyncio.to_thread(prepare)
        limit = model.context_size if asked.longest is None else min(asked.longest, model.context_size)
        params = choices(asked, longest=limit, logprobs=bool(asked.logprobs), top=asked.top_logprobs or 0)
        prompts = [prompt] * len(params)
        return model, prompt, stream(self._serving.scheduler, model, prompts, params, stop=asked.stop)

    async def _whole(self, asked: ChatRequest) -> dict[str, Any]:
        model, prompt, pieces = await self._begin(asked)
        written = [Written() for _ in range(asked.choices)]
        async with contextlib.aclosing(pieces):
            async for some in pieces:
                for piece in some:
                    written[piece.choice].take(piece)
        if asked.logprobs:  # many numbers, while others should go on
            return await asyncio.to_thread(_answer, asked, model, prompt, written)
        return _answer(asked, model, prompt, written)

    async def _streamed(self, asked: ChatRequest) -> EventStream:
        model, prompt, pieces = await self._begin(asked)
        source = await Begun.of(pieces)
        events = _events(asked, model, prompt, source)
        return EventStream(events, source, self._serving.settings.request_seconds + GRACE_SECONDS)


def _answer(asked: ChatRequest, model: ChatModel, prompt: list[int], written: Sequence[Written]) -> dict[str, Any]:
    """The whole answer."""
    names = TokenNames(model.tokenizer)
    told = [
        {
            "index": index,
            "message": {"role": "assistant", "content": one.text, "refusal": None},
            "logprobs": _logprobs(names, one.tokens) if asked.logprobs else None,
            "finish_reason": finish_reason(one.done) if one.done else "length",
        }
        for index, one in enumerate(written)
    ]
    produced = sum(one.done.produced for one in written if one.done)
    return Envelope(model, "chatcmpl", "chat.completion").answer(told, usage([prompt], produced))


def _logprobs(names: TokenNames, tokens: Iterable[Token]) -> dict[str, Any]:
    return {"content": for_chat(names, ((one.id, one.logprob, one.top) for one in tokens)), "refusal": None}


async def _events(
    asked: ChatRequest, model: ChatModel, prompt: list[int], source: AsyncIterator[list[Piece]]
) -> AsyncGenerator[bytes, None]:
    """The roles, what is said piece by piece, the ends, the tokens used."""
    chunks = Chunks(model, "chatcmpl", "chat.completion.chunk", with_usage=asked.wants_usage)
    names = TokenNames(model.tokenizer) if asked.logprobs else None
    yield "".join(chunks.chunk(index, _ROLE) for index in range(asked.choices)).encode()
    produced = 0
    async for some in source:
        said = []
        for piece in some:
            text, done = text_of(piece.events), done_of(piece)
            logprobs = json.dumps(_logprobs(names, piece.tokens)) if names and piece.tokens else "null"
            if text or logprobs != "null":
                said.append(chunks.chunk(piece.choice, f'"delta": {{"content": {_encode(text)}}}', logprobs))
            if done is not None:
                produced += done.produced
                said.append(chunks.chunk(piece.choice, '"delta": {}', finish=finish_reason(done)))
        yield "".join(said).encode()
    if asked.wants_usage:
        yield chunks.usage(usage([prompt], produced)).encode()
    yield DONE
