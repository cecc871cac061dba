"""The prompts of a completion request as token ids, and what a model thinks of them."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from nanochat.infer.scoring import judge_tokens
from nanochat.serve.api.errors import ApiError
from nanochat.serve.api.logprobs import Judged
from nanochat.serve.api.requests import CompletionRequest
from nanochat.serve.api.requests import Prompt as Asked
from nanochat.serve.errors import BusyError, ContextFullError
from nanochat.serve.model import ChatModel
from nanochat.serve.serving import Serving


@dataclass(frozen=True)
class Prompt:
    """A prompt to be continued.

    Attributes:
        ids: what the model reads.
        text: as it is repeated where that is asked for.
        hidden: 1 where the model reads `<|bos|>` before a text, which is no part of it; else 0.
    """

    ids: list[int]
    text: str
    hidden: int


def prepared(model: ChatModel, asked: CompletionRequest, longest: int) -> list[Prompt]:
    """The prompts, each short enough.

    Args:
        model: who reads them.
        asked: the request.
        longest: tokens to be generated at most; with 0, a prompt may fill the context.

    Raises:
        ContextFullError: for one that is too long.
        ApiError: 400 for a token id that the model does not have.
    """
    prompts = [_prompt(model, one) for one in asked.prompt]
    for prompt in prompts:
        if longest > 0:
            model.checked(prompt.ids)
        elif len(prompt.ids) > model.context_size:
            raise ContextFullError("the prompt is longer than the context", len(prompt.ids), model.context_size)
    return prompts


def _prompt(model: ChatModel, asked: Asked) -> Prompt:
    tokenizer = model.tokenizer
    if isinstance(asked, str):
        return Prompt([tokenizer.bos, *tokenizer.encode(asked)], asked, 1)
    largest = max(asked)
    if largest >= tokenizer.vocab_size:
        raise ApiError(
            400,
            f"prompt holds the token {largest}, but {model.name} has tokens 0 to {tokenizer.vocab_size - 1}",
            param="prompt",
            code="invalid_value",
        )
    return Prompt(list(asked), tokenizer.decode(asked), 0)


class Judge:
    """Has models judge texts between the steps of generation, one text at a time."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._waiting = 0

    async def judged(self, model: ChatModel, texts: Sequence[Sequence[int]], top: int) -> list[list[Judged]]:
        """What the model thinks of every token of texts; of a first one nothing, for nothing stands before it.

        Raises:
            BusyError: if too many texts wait.
            ApiError: 408, if it takes longer than an answer may.
        """
        limit = model.slots + self._serving.settings.queue
        if self._waiting + len(texts) > limit:
            raise BusyError(f"{self._waiting} texts wait to be judged; expected {limit} at most, try again later")
        self._waiting += len(texts)
        seconds = self._serving.settings.request_seconds
        try:
            async with asyncio.timeout(seconds):
                return [await self._one(model, text, top) for text in texts]
        except TimeoutError:
            message = f"Judging {len(texts)} texts took longer than {seconds:g} seconds; ask for fewer at once"
            raise ApiError(408, message, param="prompt", code="request_timeout") from None
        finally:
            self._waiting -= len(texts)

    async def _one(self, model: ChatModel, text: Sequence[int], top: int) -> list[Judged]:
        # Alone, so that its numbers do not depend on what else is asked, and nobody's answer is held up for long.
        future = self._serving.scheduler.call(lambda: judge_tokens(model.loaded.model, [text], top, 1)[0])
        rest = await asyncio.wrap_future(future)
        return [(text[0], None, ()), *((token.id, token.logprob, token.top) for token in rest)]
