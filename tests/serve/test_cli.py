"""The terminal chat: one-shot, pipe, commands, Ctrl-C."""

import io
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from nanochat.config import ChatSettings
from nanochat.infer.sampling import SamplingParams
from nanochat.serve import cli
from nanochat.serve.registry import Registry
from nanochat.serve.session import ChatSession

from .conftest import ACCENTS, CONTEXT, ENDLESS, FRENCH, MARKUP, SCRIPT, SUM

SETTINGS = ChatSettings(temperature=0, max_new_tokens=CONTEXT)


def converse(run, *lines):
    target = io.StringIO()
    session = ChatSession(Registry(run), "sft", SamplingParams(temperature=0))
    terminal = cli.Terminal(session, io.StringIO("".join(f"{line}\n" for line in lines)), target)
    terminal.converse()
    return target.getvalue(), terminal


def test_one_shot_answers_and_returns(chat_run, capsys):
    assert cli.run(chat_run, SETTINGS, ACCENTS) == 0
    assert capsys.readouterr().out == f"{FRENCH}\n"


def test_one_shot_shows_the_calculators_work(chat_run, capsys):
    cli.run(chat_run, SETTINGS, SUM)
    assert capsys.readouterr().out == "It is [12+30 = 42]42.\n"


def test_a_pipe_is_one_prompt(chat_run, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{MARKUP}\n"))
    assert cli.run(chat_run, SETTINGS, None) == 0
    assert capsys.readouterr().out == f"{SCRIPT}\n"


def test_an_empty_pipe_is_no_message(chat_run, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))
    assert cli.run(chat_run, SETTINGS, None) == 0
    assert capsys.readouterr().out == ""


def test_a_conversation_shows_replies_and_speed(chat_run):
    output, terminal = converse(chat_run, SUM, "", "/quit", MARKUP)
    assert "It is [12+30 = 42]42." in output
    assert "tokens/s" in output
    assert f"of {CONTEXT}" in output
    assert terminal.session.turns == 1


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("/help", "/temperature"),
        ("/stage", "stage sft of base, sft"),
        ("/stage base", "stage base of base, sft"),
        ("/stage rl", "no checkpoint"),
        ("/temperature 0.5", "temperature 0.5"),
        ("/temperature warm", "expected a number from 0 to 2"),
        ("/temperature nan", "expected a number from 0 to 2"),
        ("/system Be kind.", "system prompt: Be kind."),
        ("/seed 7", "seed 7"),
        ("/seed x", "expected a whole number"),
        ("/undo", "no message yet"),
        ("/dance", "no command; /help"),
    ],
)
def test_commands_say_what_they_did(chat_run, line, answer):
    output, _ = converse(chat_run, line)
    assert answer in output


def test_clear_undo_and_retry_change_the_conversation(chat_run):
    assert converse(chat_run, ACCENTS, "/clear")[1].session.turns == 0
    assert converse(chat_run, ACCENTS, SUM, "/undo")[1].session.turns == 1
    output, terminal = converse(chat_run, ACCENTS, "/retry")
    assert output.count(FRENCH) == 2
    assert terminal.session.turns == 1


def test_a_message_too_long_is_one_line_and_the_chat_goes_on(chat_run):
    output, terminal = converse(chat_run, "word " * CONTEXT, ACCENTS)
    assert "context is full" in output
    assert FRENCH in output
    assert terminal.session.turns == 1


def test_ctrl_c_stops_the_answer_and_not_the_chat(chat_run):
    """A real process on a real terminal."""
    script = (
        "import sys; from pathlib import Path; from nanochat.config import ChatSettings;"
        "from nanochat.serve.cli import run;"
        f"sys.exit(run(Path({str(chat_run)!r}), ChatSettings(temperature=0, max_new_tokens={CONTEXT}), None))"
    )
    master, slave = pty.openpty()
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TERM": "dumb"}
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=Path(__file__).parents[2],
        env=environment,
        start_new_session=True,
    )
    os.close(slave)
    seen = bytearray()
    grew = threading.Condition()

    def read():
        try:
            while piece := os.read(master, 4096):
                with grew:
                    seen.extend(piece)
                    grew.notify_all()
        except OSError:  # the other side of a closed terminal
            pass

    threading.Thread(target=read, daemon=True).start()

    def wait_for(text, seconds=30):
        deadline = time.monotonic() + seconds
        with grew:
            while text.encode() not in seen:
                assert grew.wait(deadline - time.monotonic()), seen.decode(errors="replace")[-2000:]

    try:
        wait_for("> ")
        os.write(master, f"{ENDLESS}\n".encode())
        wait_for("la li lo la li lo")
        process.send_signal(signal.SIGINT)
        wait_for("stopped")
        os.write(master, f"/clear\n{SUM}\n".encode())
        wait_for("[12+30 = 42]42.")
        os.write(master, b"/quit\n")
        assert process.wait(timeout=15) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(master)
