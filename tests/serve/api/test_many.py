"""Many clients at once: every answer is the one that its request gets alone."""

import asyncio

import openai

from ..conftest import ENDLESS, MARKUP, SUM
from .conftest import api_server

CLIENTS = 64


def asked(number):
    """Something no other client asks."""
    text = (SUM, MARKUP, ENDLESS)[number % 3]
    options = {"temperature": (1.0, 1.5)[number % 2], "seed": number, "max_tokens": 8 + number % 9}
    return {
        "model": ("sft", "base")[number % 5 == 0],
        "messages": [{"role": "user", "content": f"{text} {number}"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        **options,
    }


async def answered(client, request):
    """Text, why it ended and the tokens of a streamed answer."""
    text, finish, tokens = "", None, 0
    async for chunk in await client.chat.completions.create(**request):
        for choice in chunk.choices:
            text += choice.delta.content or ""
            finish = choice.finish_reason or finish
        tokens = chunk.usage.completion_tokens if chunk.usage else tokens
    return text, finish, tokens


def test_sixty_four_streams_are_those_of_one_client_after_the_other(chat_run):
    requests = [asked(number) for number in range(CLIENTS)]

    async def all_at_once(api):
        options = {"base_url": f"{api.url}/v1", "api_key": "none", "max_retries": 0, "timeout": 60}
        async with openai.AsyncOpenAI(**options) as client:
            together = await asyncio.gather(*(answered(client, request) for request in requests))
            return together, [await answered(client, request) for request in requests]

    with api_server(chat_run, slots=24) as api:  # some of them wait
        together, alone = asyncio.run(all_at_once(api))
        api.wait_idle()
    assert together == alone
    assert len({text for text, _, _ in alone}) > CLIENTS // 2  # what is the same for all shows no cross-talk
