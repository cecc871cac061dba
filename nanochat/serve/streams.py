"""Replies for readers in an event loop: what the scheduler's thread makes, as text and tool calls."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from nanochat.infer.requests import Token
from nanochat.infer.sampling import SamplingParams
from nanochat.serve.events import Event
from nanochat.serve.model import ChatModel
from nanochat.serve.reading import Reading
from nanochat.serve.scheduler import Delivery, Scheduler


@dataclass(frozen=True)
class Piece:
    """What has come of one choice.

    Attributes:
        choice: its number.
        events: text and tool calls; at the very end a `Done`.
        tokens: sampled tokens whose text is handed out with this piece.
        end: the token with which the model ended the choice.
    """

    choice: int
    events: tuple[Event, ...]
    tokens: tuple[Token, ...]
    end: Token | None = None


async def stream(
    scheduler: Scheduler,
    model: ChatModel,
    prompts: Sequence[Sequence[int]],
    params: Sequence[SamplingParams],
    *,
    stop: Sequence[str] = (),
) -> AsyncGenerator[list[Piece], None]:
    """Generate one choice for each prompt.

    Closing the generator (`contextlib.aclosing`) or cancelling the task that reads it ends the replies.

    Args:
        scheduler: who generates.
        model: who answers.
        prompts: token ids, shorter than the context.
        params: for each; `max_tokens` is cut to what the context has room for.
        stop: strings that end a choice.

    Yields:
        What has come since the last time.

    Raises:
        BusyError: before the first piece, if too many wait.
        Exception: what went wrong while generating.
    """
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[list[Delivery]] = asyncio.Queue()
    choices = [model.reading(prompt, one, stop) for prompt, one in zip(prompts, params, strict=True)]

    def deliver(news: list[Delivery]) -> None:
        loop.call_soon_threadsafe(arrived.put_nowait, news)

    job = scheduler.submit(model, prompts, [choice.params for choice in choices], deliver)
    try:
        while not all(choice.done for choice in choices):
            news = await arrived.get()
            while not arrived.empty():
                news = news + arrived.get_nowait()
            pieces = []
            for delivery in news:
                choice = choices[delivery.choice]
                if choice.done:
                    continue
                if delivery.error is not None:
                    raise delivery.error
                piece = _piece(delivery.choice, choice, delivery)
                if choice.stopped:
                    job.cancel(delivery.choice, "stop")
                if piece.events or piece.tokens:
                    pieces.append(piece)
            if pieces:
                yield pieces
    finally:
        if not all(choice.done for choice in choices):
            job.cancel()


def _piece(number: int, reading: Reading, delivery: Delivery) -> Piece:
    """What a delivery adds to a choice."""
    events: list[Event] = []
    end = None
    for token in delivery.tokens:
        if not reading.stopped:
            events += reading.push(token)
            end = token if token.finish == "stop" else None
    if delivery.finish is not None or reading.stopped:
        events += reading.end(delivery.finish or "stop")
    return Piece(number, tuple(events), reading.take_tokens(), end)
