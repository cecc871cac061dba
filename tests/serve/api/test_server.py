"""The server as a process: what it says, and how it ends."""

import errno
import re
import signal
import socket
import subprocess
import sys
import threading

import httpx
import psutil
import pytest

from nanochat.config import ChatSettings
from nanochat.errors import ConfigError
from nanochat.serve.server import listen
from tests.conftest import REPOSITORY

from .conftest import api_server

PROGRAM = """
import logging, sys
from pathlib import Path
from nanochat.config import ChatSettings
from nanochat.serve.server import run
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(levelname)s %(message)s")
run(Path(sys.argv[1]), ChatSettings.model_validate_json(sys.argv[2]), window=sys.argv[3] == "window")
print("returned")
"""


def started(run, settings: ChatSettings, window="api"):
    """The process, its address, and what it said until it listened."""
    arguments = [sys.executable, "-c", PROGRAM, str(run), settings.model_dump_json(), window]
    process = subprocess.Popen(
        arguments, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True
    )
    said = ""
    for line in process.stdout:
        said += line
        if "Ctrl-C" in line:
            return process, re.search(r"API: (http://\S+)/v1", said)[1], said
    pytest.fail(said)


@pytest.mark.parametrize(("number", "window"), [(signal.SIGINT, "window"), (signal.SIGTERM, "api")])
def test_it_ends_at_once_whatever_is_going_on(chat_run, tmp_path, number, window):
    settings = ChatSettings(port=0, password="secret", conversations=str(tmp_path / "conversations"))
    process, url, said = started(chat_run, settings, window)
    try:
        assert "secret" not in said
        assert ("chat window: http" in said) == (window == "window")
        assert "needs a key" in said
        reached = threading.Event()

        def read():
            body = {"model": "sft", "messages": [{"role": "user", "content": "Sing for ever."}], "temperature": 0}
            headers = {"Authorization": "Bearer secret"}
            try:
                with httpx.stream(
                    "POST", f"{url}/v1/chat/completions", json=body | {"stream": True}, headers=headers
                ) as answer:
                    for _ in answer.iter_lines():
                        reached.set()
            except httpx.HTTPError:
                reached.set()

        reader = threading.Thread(target=read)
        reader.start()
        assert reached.wait(20)
        process.send_signal(number)
        process.send_signal(number)
        rest, _ = process.communicate(timeout=4)
        reader.join(5)
        assert not reader.is_alive()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert process.returncode == 0, rest
    assert rest.splitlines()[-1] == "returned"
    assert "Traceback" not in rest


def test_it_warns_where_everyone_can_come_in(chat_run):
    process, _, said = started(chat_run, ChatSettings(port=0, host="0.0.0.0"))
    process.terminate()
    process.communicate(timeout=5)
    assert "WARNING chat.host = 0.0.0.0 is reachable from outside" in said


def test_a_port_that_is_taken_is_named():
    with listen(ChatSettings(port=0)) as first:
        port = first.getsockname()[1]
        assert first.getsockname()[0] == "127.0.0.1"
        with pytest.raises(ConfigError, match=f"port {port}.*chat"), listen(ChatSettings(port=port)):
            pass
    with pytest.raises(ConfigError, match=r"chat\.host"), listen(ChatSettings(host="no.such.host.invalid")):
        pass


def test_from_another_address_nothing_is_reachable_unless_asked_for(chat_run):
    addresses = [
        address.address
        for found in psutil.net_if_addrs().values()
        for address in found
        if address.family is socket.AF_INET and not address.address.startswith("127.")
    ]
    if not addresses:
        pytest.skip("this machine has no other address than its own loopback")

    def refused(api, address):
        port = int(api.url.rpartition(":")[2])
        with socket.socket() as visitor:
            visitor.settimeout(5)
            return visitor.connect_ex((address, port)) == errno.ECONNREFUSED

    with api_server(chat_run) as api:
        assert all(refused(api, address) for address in addresses)
        assert not refused(api, "127.0.0.1")
    with api_server(chat_run, host="0.0.0.0") as api:
        assert not any(refused(api, address) for address in addresses)
