"""What /metrics tells."""

import socket

import httpx
import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.serve.api.conftest import api_server
from tests.serve.conftest import SUM


def figures(api) -> dict[tuple, float]:
    """(name, *label values) → value."""
    answer = httpx.get(f"{api.url}/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain")
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_what_happened_is_counted(chat_run):
    with api_server(chat_run, slots=2, queue=0) as api, api.client() as client:
        asked = {"model": "sft", "messages": [{"role": "user", "content": SUM}], "temperature": 0}
        usage = client.chat.completions.create(**asked).usage
        with pytest.raises(openai.RateLimitError):
            client.chat.completions.create(**asked, n=3)
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("made/up/by/a/client")
        httpx.get(f"{api.url}/made-up-by-a-client")
        found = figures(api)
    assert found["nanochat_requests_total", "/v1/chat/completions", "200"] == 1
    assert found["nanochat_requests_total", "/v1/chat/completions", "429"] == 1
    assert found["nanochat_requests_total", "/v1/models", "404"] == 1
    assert found["nanochat_requests_total", "other", "404"] == 1
    assert found["nanochat_prompt_tokens_total", "heart/sft"] == usage.prompt_tokens
    assert found["nanochat_generated_tokens_total", "heart/sft"] == usage.completion_tokens
    assert found["nanochat_finished_total", "stop", "heart/sft"] == 1
    assert found["nanochat_rejected_total", "heart/sft"] == 1
    for name in ("time_to_first_token", "duration"):
        assert found[f"nanochat_{name}_seconds_count", "heart/sft"] == 1
    first, whole = (found[f"nanochat_{name}_seconds_sum", "heart/sft"] for name in ("time_to_first_token", "duration"))
    assert 0 < first <= whole
    assert (found["nanochat_running",], found["nanochat_waiting",]) == (0, 0)
    assert not any("made" in str(key) for key in found)


def test_who_leaves_in_the_middle_of_a_request_is_no_error_of_the_server(chat_run):
    with api_server(chat_run) as api:
        host, port = api.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as gone:
            gone.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
        for _ in range(1000):
            if ("nanochat_requests_total", "/v1/completions", "499") in (found := figures(api)):
                break
    assert found["nanochat_requests_total", "/v1/completions", "499"] == 1
