"""POST /v1/completions."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from nanochat.errors import NanochatError
from nanochat.infer.requests import Token
from nanochat.infer.sampling import SamplingParams
from nanochat.serve.api.answers import Chunks, Envelope, Written, done_of, finish_reason, usage
from nanochat.serve.api.chat import NOBODY
from nanochat.serve.api.errors import as_api_error
from nanochat.serve.api.logprobs import Judged, TextLogprobs, TokenNames
from nanochat.serve.api.prompts import Judge, Prompt, prepared
from nanochat.serve.api.requests import CompletionRequest, asked_for
from nanochat.serve.api.sampling import choices
from nanochat.serve.api.sse import DONE, GRACE_SECONDS, Begun, ClientGoneError, EventStream, while_connected
from nanochat.serve.model import ChatModel
from nanochat.serve.notation import text_of
from nanochat.serve.serving import Serving
from nanochat.serve.streams import Piece, stream

_LONGEST = 16
"""Tokens of an answer where no limit is given, as in the OpenAI API."""
_KIND, _NAME = "cmpl", "text_completion"


@dataclass
class _Task:
    """A request ready to be answered: choice number c belongs to prompt c // n.

    Attributes:
        judged: of each prompt what the model thinks of its tokens, where that is asked for.
    """

    asked: CompletionRequest
    model: ChatModel
    prompts: list[Prompt]
    params: list[SamplingParams]
    longest: int
    judged: list[list[Judged]] = field(default_factory=list)

    def prompt_of(self, choice: int) -> Prompt:
        return self.prompts[choice // self.asked.choices]

    def usage(self, produced: int) -> dict[str, int]:
        return usage([prompt.ids for prompt in self.prompts], produced)

    def echoed(self, choice: int) -> str:
        """The text that is repeated before the answer."""
        return self.prompt_of(choice).text if self.asked.echo else ""

    def echoed_tokens(self, choice: int) -> list[Judged]:
        """The tokens that are."""
        number = choice // self.asked.choices
        return self.judged[number][self.prompts[number].hidden :] if self.judged else []


class Completions:
    """Continues texts."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._judge = Judge(serving)

    async def post(self, request: Request) -> Response:
        """Continue prompts, in one piece or as a stream.

        Raises:
            ApiError: for what is wrong with the request.
        """
        asked = await asked_for(CompletionRequest, request)
        try:
            if asked.stream:
                return await while_connected(request.receive, self._streamed(asked))
            return JSONResponse(await while_connected(request.receive, self._whole(asked)))
        except ClientGoneError:
            return Response(status_code=NOBODY)
        except NanochatError as error:
            raise as_api_error(error, "prompt") from None

    async def _task(self, asked: CompletionRequest) -> _Task:
        longest = _LONGEST if asked.max_tokens is None else asked.max_tokens

        def prepare() -> tuple[ChatModel, list[Prompt]]:
            model = self._serving.registry.get(asked.model)
            return model, prepared(model, asked, longest)

        model, prompts = await asyncio.to_thread(prepare)
        limit = max(1, min(longest, model.context_size))
        wanted = asked.logprobs is not None
        params = [
            one for _ in prompts for one in choices(asked, longest=limit, logprobs=wanted, top=asked.logprobs or 0)
        ]
        task = _Task(asked, model, prompts, params, longest)
        if asked.echo and wanted:
            texts = [prompt.ids for prompt in prompts]
            task.judged = await self._judge.judged(model, texts, asked.logprobs or 0)
        return task

    def _pieces(self, task: _Task) -> AsyncGenerator[list[Piece], None]:
        if task.longest == 0:
            return _nothing()
        prompts = [task.prompt_of(choice).ids for choice in range(len(task.params))]
        return stream(self._serving.scheduler, task.model, prompts, task.params, stop=task.asked.stop)

    async def _whole(self, asked: CompletionRequest) -> dict[str, Any]:
        task = await self._task(asked)
        written = [Written() for _ in task.params]
        async with contextlib.aclosing(self._pieces(task)) as pieces:
            async for some in pieces:
                for piece in some:
                    written[piece.choice].take(piece)
        if asked.logprobs is None:
            return _answer(task, written)
        return await asyncio.to_thread(_answer, task, written)  # many numbers, while others should go on

    async def _streamed(self, asked: CompletionRequest) -> EventStream:
        task = await self._task(asked)
        source = await Begun.of(self._pieces(task))
        return EventStream(_events(task, source), source, self._serving.settings.request_seconds + GRACE_SECONDS)


def _answer(task: _Task, written: Sequence[Written]) -> dict[str, Any]:
    """The whole answer.

    Programs that have prompts judged ask for one token more and cut the last one off: there must be one, even if it is
    the one with which the model ended, which has no text.
    """
    names, top = TokenNames(task.model.tokenizer), task.asked.logprobs
    told = []
    for index, one in enumerate(written):
        text = task.echoed(index) + one.text
        logprobs = None
        if top is not None:
            end = [one.end] if one.end is not None and task.judged else []
            tokens = [*task.echoed_tokens(index), *_judged([*one.tokens, *end])]
            logprobs = TextLogprobs(names, top).take(tokens, 0, len(text))
        finish = finish_reason(one.done) if one.done else "length"
        told.append({"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish})
    produced = sum(one.done.produced for one in written if one.done)
    return Envelope(task.model, _KIND, _NAME).answer(told, task.usage(produced))


async def _nothing() -> AsyncGenerator[list[Piece], None]:
    """No pieces."""
    for piece in ():
        yield piece


def _judged(tokens: Iterable[Token]) -> list[Judged]:
    return [(token.id, token.logprob, token.top) for token in tokens]


async def _events(task: _Task, source: AsyncIterator[list[Piece]]) -> AsyncGenerator[bytes, None]:
    """The prompts where they are asked for, the text piece by piece, the tokens used."""
    asked, count = task.asked, len(task.params)
    chunks = Chunks(task.model, _KIND, _NAME, with_usage=asked.wants_usage)
    names = TokenNames(task.model.tokenizer)
    lists = [TextLogprobs(names, asked.logprobs or 0) for _ in range(count)]
    lengths = [0] * count

    def chunk(choice: int, text: str, tokens: list[Judged], finish: str | None = None) -> str:
        begin = lengths[choice]
        lengths[choice] += len(text)
        logprobs = None
        if asked.logprobs is not None:
            logprobs = lists[choice].take(tokens, begin, lengths[choice])
        return chunks.chunk(choice, f'"text": {json.dumps(text)}', json.dumps(logprobs), finish)

    finish = "length" if task.longest == 0 else None
    if asked.echo or finish:
        begins = [chunk(choice, task.echoed(choice), task.echoed_tokens(choice), finish) for choice in range(count)]
        yield "".join(begins).encode()
    produced = 0
    async for some in source:
        said = []
        for piece in some:
            done = done_of(piece)
            produced += done.produced if done else 0
            finish = finish_reason(done) if done else None
            said.append(chunk(piece.choice, text_of(piece.events), _judged(piece.tokens), finish))
        yield "".join(said).encode()
    if asked.wants_usage:
        yield chunks.usage(task.usage(produced)).encode()
    yield DONE
