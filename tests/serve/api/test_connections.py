"""Clients that leave, do not read, or do not finish what they began; and too many of them."""

import asyncio
import contextlib
import json
import logging
import socket
import threading

import httpx
import pytest

from nanochat.serve.api.sse import Begun, EventStream
from nanochat.serve.gate import Gate
from tests.serve.api.conftest import api_server
from tests.serve.conftest import ENDLESS, SUM


def connect(api, receive_buffer=None) -> socket.socket:
    host, port = api.url.removeprefix("http://").split(":")
    connection = socket.socket()
    if receive_buffer:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.settimeout(20)
    connection.connect((host, int(port)))
    return connection


def asked(text=ENDLESS, **options) -> bytes:
    body = {"model": "sft", "messages": [{"role": "user", "content": text}], "temperature": 0} | options
    content = json.dumps(body).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return head.encode() + f"Content-Length: {len(content)}\r\n\r\n".encode() + content


def read_until(connection, needle: bytes) -> bytes:
    found = b""
    while needle not in found:
        some = connection.recv(65536)
        assert some, found[-500:]
        found += some
    return found


def wait_for(api, running=None, waiting=None) -> None:
    for _ in range(2000):
        health = api.health()
        if running in (None, health["running"]) and waiting in (None, health["waiting"]):
            return
    pytest.fail(f"expected {running} running, {waiting} waiting: {health}")


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_slots(api, stream):
    with connect(api) as connection:
        connection.sendall(asked(n=4, stream=stream))
        if stream:
            read_until(connection, b"data: ")
        wait_for(api, running=4)
    wait_for(api, running=0, waiting=0)


def test_a_client_that_leaves_while_it_waits_is_forgotten(api):
    with connect(api) as running:
        running.sendall(asked(n=4, stream=True))
        wait_for(api, running=4)
        for stream in (True, False):
            with connect(api) as waiting:
                waiting.sendall(asked(n=2, stream=stream))
                if stream:  # told at once that the answer is on its way
                    assert b"text/event-stream" in read_until(waiting, b"assistant")
                wait_for(api, waiting=2)
            wait_for(api, waiting=0)
        assert api.health()["running"] == 4
    wait_for(api, running=0)


def test_who_is_turned_away_does_not_disturb_who_is_not(api):
    with connect(api) as first, connect(api) as second:
        first.sendall(asked(n=12, stream=True))
        wait_for(api, running=4, waiting=8)
        second.sendall(asked(SUM))
        assert b"429 Too Many Requests" in read_until(second, b"server_busy")
        assert api.health()["running"] == 4
    wait_for(api, running=0, waiting=0)


def test_a_client_that_does_not_read_disturbs_nobody(api):
    with connect(api, receive_buffer=4096) as slow:
        slow.sendall(asked(n=3, stream=True, logprobs=True, top_logprobs=20))
        wait_for(api, running=3)
        with api.client() as client:
            answer = client.chat.completions.create(
                model="sft", temperature=0, messages=[{"role": "user", "content": SUM}]
            )
        assert answer.choices[0].message.content == "It is <<12+30=42>>42."
    wait_for(api, running=0, waiting=0)


def test_a_client_that_never_reads_is_given_up(caplog):
    closed = []

    async def pieces():
        try:
            while True:
                yield [b"data: 1\n\n"]
                await asyncio.sleep(0)
        finally:
            closed.append(True)

    async def events(source):
        async for some in source:
            yield b"".join(some)

    async def serve():
        source = await Begun.of(pieces())
        stuck = asyncio.Event()
        sent = []

        async def send(message):
            sent.append(message)
            if len(sent) > 3:
                await stuck.wait()  # the connection takes no more

        await EventStream(events(source), source, seconds=0.05)({"type": "http"}, stuck.wait, send)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert sent[-1].get("more_body")

    with caplog.at_level(logging.WARNING):
        asyncio.run(serve())
    assert closed == [True]
    assert "did not read" in caplog.text


def test_an_error_within_a_stream_is_its_last_event():
    async def pieces():
        yield [1]
        raise ValueError("secret detail")

    async def events(source):
        async for some in source:
            yield f"data: {some}\n\n".encode()

    async def serve():
        source = await Begun.of(pieces())
        sent = []

        async def send(message):
            sent.append(message)

        async def receive():
            await asyncio.Event().wait()

        await EventStream(events(source), source, seconds=5)({"type": "http"}, receive, send)
        return sent

    start, first, error, end = asyncio.run(serve())
    assert start["status"] == 200
    assert first["body"] == b"data: [1]\n\n"
    told = json.loads(error["body"].removeprefix(b"data: "))
    assert told["error"]["type"] == "server_error"
    assert "secret" not in told["error"]["message"]
    assert end == {"type": "http.response.body", "body": b"", "more_body": False}


def test_what_there_is_when_time_is_up_is_the_answer(chat_run):
    with api_server(chat_run, request_seconds=0.2) as api, api.client() as client:
        answer = client.chat.completions.create(
            model="sft", temperature=0, messages=[{"role": "user", "content": ENDLESS}]
        )
        assert answer.choices[0].finish_reason == "length"
        assert answer.choices[0].message.content


def test_bodies_that_do_not_come_and_bodies_that_are_too_large(chat_run):
    def impatient(app):
        return Gate(app, api_settings, body_seconds=0.2)

    from nanochat.config import ChatSettings

    api_settings = ChatSettings(request_bytes=2000)
    with api_server(chat_run, wrap=impatient, request_bytes=2000) as api:
        with connect(api) as half:
            half.sendall(asked()[:-10])
            assert b"408 Request Timeout" in read_until(half, b"request_timeout")
            assert half.recv(100) == b""  # closed
        large = {"model": "sft", "messages": [{"role": "user", "content": "x" * 3000}]}
        for content in (json.dumps(large).encode(), iter([json.dumps(large).encode()])):  # declared, in chunks
            answer = httpx.post(
                f"{api.url}/v1/chat/completions", content=content, headers={"Content-Type": "application/json"}
            )
            assert answer.status_code == 413
            assert "2000" in answer.json()["error"]["message"]
        with connect(api) as huge:
            huge.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\nx")
            assert b"413 " in read_until(huge, b"request_too_large")
        with connect(api) as gone:
            gone.sendall(asked()[:-10])
        assert api.health()["status"] == "ok"


def test_nonsense_on_the_wire(api):
    for content in (b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"POST /v1/completions HTTP/1.1\r\n\r\n"):
        with connect(api) as connection, contextlib.suppress(ConnectionResetError):
            connection.sendall(content + b"\r\n\r\n")
            assert b"400" in connection.recv(65536)
    assert api.health()["status"] == "ok"


def test_streams_do_not_keep_the_server_from_ending(chat_run):
    before = threading.active_count()
    with contextlib.ExitStack() as stack, api_server(chat_run, slots=2) as api:
        for _ in range(3):
            connection = stack.enter_context(connect(api))
            connection.sendall(asked(stream=True))
        wait_for(api, running=2, waiting=1)
        api.stop()
        told = read_until(connection, b"server_ending")  # also who still waited
        assert b"[DONE]" not in told
    assert threading.active_count() <= before + 1
