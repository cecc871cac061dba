"""The official client, unchanged, on text completions."""

import pytest

from nanochat.infer.scoring import judge_tokens
from tests.serve.conftest import ACCENTS, ENDLESS, SUM

STORY, BEGIN = "Once upon a time there was a cat.", "Once upon"


def ask(client, prompt, **options):
    options = {"model": "base", "temperature": 0, "max_tokens": 30} | options
    return client.completions.create(prompt=prompt, **options)


@pytest.fixture
def model(api):
    return api.serving.registry.get("base")


def test_every_form_of_prompt(client, model):
    ids = [model.tokenizer.bos, *model.tokenizer.encode(BEGIN)]
    for prompt in (BEGIN, [BEGIN], ids, [ids]):
        answer = ask(client, prompt)
        assert [choice.text for choice in answer.choices] == [STORY.removeprefix(BEGIN)]
        assert answer.choices[0].finish_reason == "stop"
        assert answer.usage.prompt_tokens == len(ids)
    choices = ask(client, [BEGIN, "Once"], n=2).choices
    assert [choice.text for choice in choices] == [STORY.removeprefix(part) for part in (BEGIN, BEGIN, "Once", "Once")]
    assert [choice.index for choice in choices] == [0, 1, 2, 3]
    assert client.completions.create(model="base", prompt="", temperature=0, max_tokens=30).choices[0].text == STORY


def test_sixteen_tokens_where_no_limit_is_given(client):
    answer = client.completions.create(model="sft", prompt=ENDLESS, temperature=2, seed=3)
    assert answer.usage.completion_tokens <= 16


def test_the_prompt_is_repeated_and_judged(client, model):
    choice = ask(client, BEGIN, echo=True, logprobs=2).choices[0]
    assert choice.text == STORY
    told = choice.logprobs
    ids = [model.tokenizer.bos, *model.tokenizer.encode(STORY), model.tokenizer.bos]
    judged = judge_tokens(model.loaded.model, [ids], 2, 1)[0]
    assert told.token_logprobs == pytest.approx([token.logprob for token in judged], abs=1e-4)
    assert "".join(told.tokens) == STORY + "<|bos|>"
    for token, offset, logprob, top in zip(told.tokens, told.text_offset, told.token_logprobs, told.top_logprobs):
        assert STORY[offset:].startswith(token) or (token, offset) == ("<|bos|>", len(STORY))
        assert len(top) == 2
        assert top[token] == logprob == max(top.values())


def test_judging_alone(client, model):
    ids = [model.tokenizer.bos, *model.tokenizer.encode("Once a cat.")]
    answer = ask(client, ids, echo=True, logprobs=1, max_tokens=0)
    told = answer.choices[0].logprobs
    assert answer.choices[0].text == "<|bos|>Once a cat."
    assert (told.token_logprobs[0], told.top_logprobs[0]) == (None, None)
    judged = judge_tokens(model.loaded.model, [ids], 1, 1)[0]
    assert told.token_logprobs[1:] == [token.logprob for token in judged]
    greedy = [token.id == token.top[0][0] for token in judged]
    best = [logprob == max(top.values()) for logprob, top in zip(told.token_logprobs[1:], told.top_logprobs[1:])]
    assert best == greedy
    assert not all(greedy)
    assert [len(top) for top in told.top_logprobs[1:]] == [1 if one else 2 for one in greedy]
    assert answer.usage.completion_tokens == 0
    assert answer.choices[0].finish_reason == "length"


def test_nothing_asked_for_is_nothing(client):
    answer = ask(client, BEGIN, max_tokens=0)
    assert (answer.choices[0].text, answer.usage.completion_tokens) == ("", 0)
    answer = ask(client, BEGIN, max_tokens=0, echo=True, stream=True)
    assert [(chunk.choices[0].text, chunk.choices[0].finish_reason) for chunk in answer] == [(BEGIN, "length")]


@pytest.mark.parametrize("prompt", [BEGIN, [BEGIN, "Once", STORY]])
def test_a_stream_says_the_same(client, prompt):
    options = {"echo": True, "logprobs": 1, "max_tokens": 4}
    whole = ask(client, prompt, **options)
    texts, tokens, offsets = ([""] * 3, [[] for _ in range(3)], [[] for _ in range(3)])
    usage = None
    for chunk in ask(client, prompt, stream=True, stream_options={"include_usage": True}, **options):
        for choice in chunk.choices:
            texts[choice.index] += choice.text
            tokens[choice.index] += choice.logprobs.tokens
            offsets[choice.index] += choice.logprobs.text_offset
        usage = chunk.usage
    assert usage == whole.usage
    for choice in whole.choices:
        assert choice.text == texts[choice.index]
        said = [token for token in choice.logprobs.tokens if token != "<|bos|>"]  # the end has no text
        assert said == tokens[choice.index]
        assert choice.logprobs.text_offset[: len(said)] == offsets[choice.index]


def test_a_stop_word(client):
    choice = ask(client, BEGIN, stop=[" there"]).choices[0]
    assert (choice.text, choice.finish_reason) == (" a time", "stop")
    assert "".join(chunk.choices[0].text for chunk in ask(client, BEGIN, stop="e th", stream=True)) == " a tim"


def test_broken_characters_have_their_bytes(client, api):
    tokenizer = api.serving.registry.get("sft").tokenizer
    ids = tokenizer.encode_bytes("✓".encode()[:2])
    choice = ask(client, ids, model="sft", echo=True, logprobs=0, max_tokens=0).choices[0]
    assert choice.text == "\ufffd"
    assert choice.logprobs.tokens == ["bytes:\\xe2", "bytes:\\x9c"]
    assert choice.logprobs.text_offset == [0, 0]


def test_a_chat_model_continues_text_too(client, api):
    model = api.serving.registry.get("sft")
    for text in (SUM, ACCENTS):
        prompt = model.prompt([{"role": "user", "content": text}])
        chat = client.chat.completions.create(model="sft", temperature=0, messages=[{"role": "user", "content": text}])
        assert ask(client, prompt, model="sft").choices[0].text == chat.choices[0].message.content
