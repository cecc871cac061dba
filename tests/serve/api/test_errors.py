"""What the official client raises, and what the errors say."""

import httpx
import openai
import pytest

from tests.serve.conftest import CONTEXT, ENDLESS, SUM

ASKED = {"model": "sft", "messages": [{"role": "user", "content": SUM}]}


def chat(client, **options):
    return client.chat.completions.create(**{**ASKED, "temperature": 0} | options)


def test_a_wrong_model(client):
    for asking in (lambda: chat(client, model="gpt-4"), lambda: client.models.retrieve("heart/rl")):
        with pytest.raises(openai.NotFoundError) as raised:
            asking()
        assert raised.value.code == "model_not_found"
        assert "heart/sft" in raised.value.message


def test_a_prompt_that_is_too_long(client):
    with pytest.raises(openai.BadRequestError) as raised:
        chat(client, messages=[{"role": "user", "content": "x " * CONTEXT}])
    assert (raised.value.code, raised.value.param) == ("context_length_exceeded", "messages")
    assert str(CONTEXT) in raised.value.message
    with pytest.raises(openai.BadRequestError) as raised:
        client.completions.create(model="base", prompt=["a", [1] * CONTEXT][1])
    assert (raised.value.code, raised.value.param) == ("context_length_exceeded", "prompt")
    assert str(CONTEXT) in raised.value.message
    assert client.completions.create(model="base", prompt=[1] * CONTEXT, max_tokens=0).choices[0].text == ""


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"temperature": 3}, "temperature"),
        ({"temperature": "1"}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"n": 17}, "n"),
        ({"n": True}, "n"),
        ({"n": 1.5}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"seed": 2**63}, "seed"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"stop": ""}, "stop"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"logit_bias": {"1": 1}}, "logit_bias"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"frequency_penalty": False}, "frequency_penalty"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"nonsense": 1}, "nonsense"),
        ({"stream_options": {"include_use": True}}, "stream_options.include_use"),
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": " \n"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "assistant", "content": "x"}, *ASKED["messages"]]}, "messages[0].role"),
        ({"messages": [*ASKED["messages"], {"role": "assistant", "content": "x"}]}, "messages[1].role"),
        ({"messages": [*ASKED["messages"], {"role": "system", "content": "x"}]}, "messages[1].role"),
    ],
)
def test_a_bad_parameter_is_named(client, stream, options, param):
    with pytest.raises(openai.BadRequestError) as raised:
        chat(client, **{"extra_body": options, "stream": stream})
    assert raised.value.param == param
    assert raised.value.type == "invalid_request_error"
    assert param.rpartition(".")[2] in raised.value.message


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"prompt": []}, "prompt"),
        ({"prompt": [[]]}, "prompt"),
        ({"prompt": [1, "a"]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": [384]}, "prompt"),
        ({"prompt": ["a"] * 257}, "prompt"),
        ({"prompt": ["a"] * 200, "n": 2}, "n"),
        ({"suffix": "end"}, "suffix"),
        ({"best_of": 2}, "best_of"),
        ({"logprobs": 21}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"messages": []}, "messages"),
    ],
)
def test_a_bad_parameter_of_a_completion_is_named(client, options, param):
    with pytest.raises(openai.BadRequestError) as raised:
        client.completions.create(**{"model": "base", "prompt": "a"}, extra_body=options)
    assert raised.value.param == param


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'{"model": NaN}', b'{"model": "\\ud800"}', b"[" * 100_000, b"\xff", b"1" * 9999],
)
def test_what_is_no_json_object(api, body):
    answer = httpx.post(f"{api.url}/v1/chat/completions", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_another_type_of_content(api):
    answer = httpx.post(f"{api.url}/v1/chat/completions", content="model=sft")
    assert answer.status_code == 400
    assert "application/json" in answer.json()["error"]["message"]


def test_paths_and_methods(api):
    for method, path, status in (
        ("GET", "/v1", 404),
        ("GET", "/v1/", 404),
        ("GET", "/v1/models/", 404),
        ("POST", "/v1/embeddings", 404),
        ("GET", "/nothing", 404),
        ("GET", "/docs", 404),
        ("GET", "/v1/chat/completions", 405),
        ("DELETE", "/v1/models", 405),
        ("POST", "/health", 405),
        ("PUT", "/metrics", 405),
    ):
        answer = httpx.request(method, api.url + path)
        assert answer.status_code == status, path
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
        assert ("Allow" in answer.headers) == (status == 405)


def test_more_than_can_wait_is_turned_away(api, client):
    # Four slots and eight places in the queue.
    with pytest.raises(openai.RateLimitError) as raised:
        chat(client, messages=[{"role": "user", "content": ENDLESS}], n=13)
    assert raised.value.code == "server_busy"
    assert int(raised.value.response.headers["Retry-After"]) >= 1
    assert len(chat(client, n=12).choices) == 12
    with pytest.raises(openai.RateLimitError):
        chat(client, n=13, stream=True)


def test_unforeseen_errors_are_told_without_details(api):
    class Broken:
        @property
        def checkpoints(self):
            raise RuntimeError("secret detail")

    from nanochat.serve.server import application
    from nanochat.serve.serving import Serving

    broken = Serving(Broken(), api.serving.scheduler, api.serving.settings)
    transport = httpx.ASGITransport(application(broken), raise_app_exceptions=False)

    async def get():
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get("/v1/models")

    import asyncio

    answer = asyncio.run(get())
    assert answer.status_code == 500
    assert answer.json()["error"]["type"] == "server_error"
    assert "secret" not in answer.text
