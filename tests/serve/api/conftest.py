"""The real server on a free port, and the real clients."""

import contextlib

import httpx
import openai
import pytest

from nanochat.config import ChatSettings
from tests.serve.conftest import Served, serve_in_thread


class Api(Served):
    """A server in a thread, and those who ask it."""

    def client(self, **options) -> openai.OpenAI:
        """The official client."""
        options = {"api_key": "none", "max_retries": 0, "timeout": 30} | options
        return openai.OpenAI(base_url=f"{self.url}/v1", **options)

    def health(self) -> dict:
        return httpx.get(f"{self.url}/health").json()

    def wait_idle(self) -> None:
        """Until nothing is generated any more."""
        for _ in range(1000):
            health = self.health()
            if health["running"] == health["waiting"] == 0:
                return
        pytest.fail(f"the server did not become idle: {health}")


@contextlib.contextmanager
def api_server(run, wrap=None, **settings):
    """`serve_in_thread` for the API alone, with these settings of the chat."""
    with serve_in_thread(run, ChatSettings(port=0, **settings), window=False, wrap=wrap) as served:
        yield Api(served.url, served.serving, served.server, served.thread)


@pytest.fixture(scope="module")
def api(chat_run):
    """One server for the tests of a module."""
    with api_server(chat_run, slots=4, queue=8, request_seconds=60) as api:
        yield api
        api.wait_idle()


@pytest.fixture
def client(api):
    with api.client() as client:
        yield client
