"""The official client, unchanged, on chat completions."""

import asyncio

import openai
import pytest

from nanochat.infer.sampling import SamplingParams
from nanochat.infer.scoring import judge_tokens
from tests.serve.conftest import ACCENTS, CONTEXT, ENDLESS, FRENCH, MARKUP, SCRIPT, SECOND, SUM

ANSWER = "It is <<12+30=42>>42."


def user(text):
    return [{"role": "user", "content": text}]


def ask(client, text, **options):
    return client.chat.completions.create(**{"model": "sft", "messages": user(text), "temperature": 0} | options)


def streamed(client, text, **options):
    """Text of each choice, and all chunks."""
    chunks = list(ask(client, text, stream=True, **options))
    texts = {}
    for chunk in chunks:
        for choice in chunk.choices:
            texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
    return [texts[index] for index in sorted(texts)], chunks


def test_models(client):
    models = client.models.list().data
    assert [(model.id, model.owned_by) for model in models] == [("heart/base", "heart"), ("heart/sft", "heart")]
    assert client.models.retrieve("heart/base") == models[0]
    assert client.models.retrieve("sft").id == "heart/sft"


def test_an_answer(client, api):
    answer = ask(client, SUM)
    choice = answer.choices[0]
    assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", ANSWER, "stop")
    model = api.serving.registry.get("sft")
    assert (answer.model, answer.system_fingerprint) == ("heart/sft", model.fingerprint)
    assert answer.usage.prompt_tokens == len(model.prompt(user(SUM)))
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_stream_says_the_same_piece_by_piece(client):
    whole = ask(client, SUM)
    texts, chunks = streamed(client, SUM, stream_options={"include_usage": True})
    assert texts == [ANSWER]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert sum(bool(chunk.choices and chunk.choices[0].delta.content) for chunk in chunks) > 1
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 2) + ["stop"]
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1


def test_what_a_model_writes_is_text(client):
    assert streamed(client, MARKUP)[0] == [SCRIPT]
    assert ask(client, MARKUP).choices[0].message.content == SCRIPT


@pytest.mark.parametrize("stream", [False, True])
def test_several_answers_are_those_of_the_seeds_that_follow(client, stream):
    options = {"temperature": 2, "max_tokens": 12}
    alone = [ask(client, ENDLESS, seed=seed, **options).choices[0].message.content for seed in (7, 8, 9)]
    assert len(set(alone)) == 3
    if stream:
        assert streamed(client, ENDLESS, seed=7, n=3, **options)[0] == alone
    else:
        choices = ask(client, ENDLESS, seed=7, n=3, **options).choices
        assert [choice.message.content for choice in choices] == alone
        assert [choice.index for choice in choices] == [0, 1, 2]


def test_seeds(client):
    def said(**options):
        return ask(client, ENDLESS, temperature=2, max_tokens=12, **options).choices[0].message.content

    assert said(seed=1) == said(seed=1)
    assert said(seed=-(2**63)) == said(seed=-(2**63))
    assert len({said() for _ in range(4)}) > 1
    assert len({said(seed=2**63 - 1), said(seed=-(2**63)), said(seed=0)}) > 1


def test_log_probabilities_are_the_models_own(client, api):
    choice = ask(client, ACCENTS, logprobs=True, top_logprobs=3).choices[0]
    told = choice.logprobs.content
    assert b"".join(bytes(token.bytes) for token in told).decode() == choice.message.content == FRENCH
    model = api.serving.registry.get("sft")
    prompt = model.prompt(user(ACCENTS))
    ids = model.tokenizer.encode(FRENCH)
    judged = judge_tokens(model.loaded.model, [[*prompt, *ids]], 3, 1)[0][len(prompt) - 1 :]
    assert [token.logprob for token in told] == pytest.approx([token.logprob for token in judged], abs=1e-4)
    for token, own in zip(told, judged, strict=True):
        top = [other.logprob for other in token.top_logprobs]
        assert len(top) == 3
        assert top == sorted(top, reverse=True)
        assert token.top_logprobs[0].token == token.token  # greedy
        assert top == pytest.approx([logprob for _, logprob in own.top], abs=1e-4)


def test_log_probabilities_are_the_same_in_a_stream(client):
    whole = ask(client, ACCENTS, logprobs=True, top_logprobs=2).choices[0].logprobs.content
    _, chunks = streamed(client, ACCENTS, logprobs=True, top_logprobs=2)
    parts = [
        token for chunk in chunks for choice in chunk.choices if choice.logprobs for token in choice.logprobs.content
    ]
    assert parts == whole


def test_log_probabilities_without_alternatives(client):
    told = ask(client, ACCENTS, logprobs=True).choices[0].logprobs.content
    assert all(token.top_logprobs == [] and token.logprob <= 0 for token in told)
    assert ask(client, ACCENTS).choices[0].logprobs is None


@pytest.mark.parametrize(
    ("stop", "text"), [("vu", "Déjà "), (["nope", "à No"], "Déjà vu "), ("✓", "Déjà vu à Noël "), ("jà vu à N", "Dé")]
)
def test_a_stop_word_ends_the_answer_and_is_not_part_of_it(client, stop, text):
    choice = ask(client, ACCENTS, stop=stop, logprobs=True).choices[0]
    assert (choice.message.content, choice.finish_reason) == (text, "stop")
    assert "".join(token.token for token in choice.logprobs.content).startswith(text)
    texts, chunks = streamed(client, ACCENTS, stop=stop)
    assert texts == [text]
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_the_length_limit(client):
    for name in ("max_tokens", "max_completion_tokens"):
        answer = ask(client, ENDLESS, **{name: 5})
        assert (answer.choices[0].finish_reason, answer.usage.completion_tokens) == ("length", 5)


def test_the_end_of_the_context(client, api):
    model = api.serving.registry.get("sft")
    sung = [*model.prompt(user(ENDLESS)), *model.tokenizer.encode("la li lo " * CONTEXT)][: CONTEXT - 4]
    answer = client.completions.create(model="sft", prompt=sung, temperature=0, max_tokens=10**30)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.total_tokens == CONTEXT


def test_tool_calls_come_back_with_the_history(client, api):
    first = ask(client, SUM).choices[0].message.model_dump()
    history = [*user(SUM), first, *user(SECOND)]
    answer = ask(client, "", messages=history)
    assert answer.choices[0].message.content == "Still 42."
    parts = [{"type": "text", "text": "It is "}, {"type": "python", "text": "12+30"}]
    parts += [{"type": "python_output", "text": "42"}, {"type": "text", "text": "42."}]
    own = api.serving.registry.get("sft").prompt([*user(SUM), {"role": "assistant", "content": parts}, *user(SECOND)])
    assert answer.usage.prompt_tokens == len(own)


def test_forms_of_messages(client):
    def tokens(*messages):
        return ask(client, "", messages=list(messages), max_tokens=1).usage.prompt_tokens

    system, part = {"role": "system", "content": "Be brief."}, {"type": "text", "text": SUM}
    plain = tokens({"role": "user", "content": f"Be brief.\n\n{SUM}"})
    assert tokens(system, *user(SUM)) == plain
    assert tokens({"role": "developer", "content": [{"type": "text", "text": "Be brief."}]}, *user(SUM)) == plain
    assert tokens(*user("Be brief."), *user(SUM)) == plain
    assert tokens({"role": "system", "content": ""}, *user(SUM)) == tokens({"role": "user", "content": [part]})
    assert tokens(*user("a"), {"role": "assistant", "content": None}, *user("b")) > 0


def test_special_tokens_typed_by_a_user_are_text(client, api):
    text = "<|assistant_end|><|bos|><|python_start|>"
    answer = ask(client, text, max_tokens=1)
    tokenizer = api.serving.registry.get("sft").tokenizer
    assert answer.usage.prompt_tokens == len(tokenizer.encode(text)) + 4


def test_what_asks_for_nothing_is_accepted(client):
    answer = ask(
        client,
        SUM,
        user="me",
        metadata={"a": "b"},
        store=False,
        service_tier="auto",
        parallel_tool_calls=True,
        presence_penalty=0,
        frequency_penalty=0.0,
        logit_bias={},
        tools=[],
        tool_choice="none",
        response_format={"type": "text"},
        modalities=["text"],
        n=1,
        top_p=1,
        extra_body={"top_k": 0, "min_p": 0, "stop": None, "audio": None},
    )
    assert answer.choices[0].message.content == ANSWER


def test_top_p_of_nothing_and_top_k_of_one_are_greedy(client):
    for options in ({"top_p": 0}, {"extra_body": {"top_k": 1}}, {"extra_body": {"min_p": 1}}):
        assert ask(client, ACCENTS, temperature=2, **options).choices[0].message.content == FRENCH


def test_a_base_model_continues_the_last_message(client):
    answer = ask(client, "Once upon", model="heart/base")
    assert answer.choices[0].message.content == " a time there was a cat."


def test_many_at_once_with_the_asynchronous_client(api, client):
    asked = [(SUM, ANSWER), (ACCENTS, FRENCH), (MARKUP, SCRIPT)] * 3

    async def everyone():
        async with openai.AsyncOpenAI(base_url=f"{api.url}/v1", api_key="none", max_retries=0) as client:

            async def one(text):
                parts = await client.chat.completions.create(
                    model="sft", messages=user(text), temperature=0, stream=True
                )
                return "".join([chunk.choices[0].delta.content or "" async for chunk in parts])

            return await asyncio.gather(*(one(text) for text, _ in asked))

    assert asyncio.run(everyone()) == [answer for _, answer in asked]


def test_an_answer_is_the_engines(client, api):
    model = api.serving.registry.get("sft")
    params = SamplingParams(max_tokens=20, temperature=1.5, top_p=0.9, seed=11)
    (own,) = model.engine.generate([model.prompt(user(ENDLESS))], params)
    answer = ask(client, ENDLESS, temperature=1.5, top_p=0.9, seed=11, max_tokens=20, logprobs=True)
    names = [token.token for token in answer.choices[0].logprobs.content]
    spoken = [token for token, sampled in zip(own.ids, own.sampled) if sampled and token not in model.engine.stop]
    assert names == [model.tokenizer.decode([token]) for token in spoken]
