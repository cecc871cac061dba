"""The terminal chat: one answer, a pipe, commands, many lines, Ctrl-C, and nothing a model writes is obeyed."""

import io
import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanochat.config import ChatSettings, parse_pairs
from nanochat.data.own.conversations import run as read_own_conversations
from nanochat.infer.sampling import SamplingParams
from nanochat.serve import cli
from nanochat.serve.commands import options
from nanochat.serve.conversations import Store
from nanochat.serve.keyboard import Keyboard, complete, read_message
from nanochat.serve.registry import Registry
from nanochat.serve.session import ChatSession

from .conftest import ACCENTS, CONTEXT, ENDLESS, FRENCH, MARKUP, SCRIPT, SUM

SETTINGS = ChatSettings(temperature=0, max_new_tokens=CONTEXT)
REPOSITORY = Path(__file__).parents[2]


def reader(*lines):
    """What a person types; KeyboardInterrupt among the lines is Ctrl-C."""
    waiting = iter(lines)

    def read(prompt):
        line = next(waiting, None)
        if line is None:
            raise EOFError
        if line is KeyboardInterrupt:
            raise KeyboardInterrupt
        return line

    return read


def converse(run, *lines, folder=None):
    """Answers and notes of a chat, and the terminal after it."""
    store = None if folder is None else Store(folder)
    session = ChatSession.begin(Registry(run), "sft", SamplingParams(temperature=0), store=store)
    terminal = cli.Terminal(session, reader(*lines), io.StringIO(), io.StringIO())
    terminal.converse()
    return terminal.out.getvalue(), terminal.notes.getvalue(), terminal


def script(run, *arguments, **more):
    """The command line in a process of its own."""
    given = ["--run", str(run), "--chat", SETTINGS.model_dump_json(), *arguments]
    command = [sys.executable, "-m", "workflow_scripts.chat_cli", *given]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=REPOSITORY, env=environment, text=True, **more)


def test_one_answer_is_all_there_is_on_standard_output(chat_run, capsys):
    assert cli.run(chat_run, SETTINGS, ACCENTS) == 0
    assert capsys.readouterr() == (f"{FRENCH}\n", "")


def test_one_answer_shows_the_calculators_work_and_why_it_ended_early(chat_run, capsys):
    cli.run(chat_run, SETTINGS, SUM)
    assert capsys.readouterr().out == "It is [12+30 = 42]42.\n"
    cli.run(chat_run, ChatSettings(temperature=0, max_new_tokens=3), ENDLESS)
    assert "length limit reached" in capsys.readouterr().err


@pytest.mark.parametrize(("piped", "answer"), [(f"{MARKUP}\n", f"{SCRIPT}\n"), ("\n", ""), ("", "")])
def test_a_pipe_is_one_prompt(chat_run, capsys, monkeypatch, piped, answer):
    monkeypatch.setattr(sys, "stdin", io.StringIO(piped))
    assert cli.run(chat_run, SETTINGS, None) == 0
    assert capsys.readouterr().out == answer


def test_a_seed_gives_the_same_answer_again(chat_run, capsys):
    hot = ChatSettings(temperature=2, max_new_tokens=20)
    answers = []
    for seed in (0, 1, 2, 0, 1, 2):
        assert cli.run(chat_run, hot, "xyz", model="base", seed=seed) == 0
        answers.append(capsys.readouterr().out)
    assert answers[:3] == answers[3:]
    assert len(set(answers)) > 1


def test_a_conversation_shows_answers_and_speed(chat_run):
    out, notes, terminal = converse(chat_run, SUM, "", KeyboardInterrupt, "/quit", MARKUP)
    assert out == "It is [12+30 = 42]42.\n"
    assert "tokens/s" in notes and f"of {CONTEXT}" in notes and "Ctrl-D ends the chat" in notes
    assert terminal.session.turns == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("/help", "/temperature"),
        ("/stage", "heart/sft of heart/base, heart/sft"),
        ("/stage base", "heart/base of"),
        ("/stage heart/base", "heart/base of"),
        ("/stage rl", "no model 'rl'; there are: heart/base, heart/sft"),
        ("/temperature 0.5", "temperature 0.5"),
        ("/temp 0.5", "temperature 0.5"),
        ("/temperature warm", "expected a number from 0 to 2"),
        ("/temperature nan", "expected a number from 0 to 2"),
        ("/top-k 5", "top_k 5"),
        ("/top_k all", "top_k all"),
        ("/top_k 0", "expected a whole number from 1, or all"),
        ("/top_p 0.9", "top_p 0.9"),
        ("/max_tokens 7", "max_tokens 7"),
        ("/max_tokens none", "expected a whole number from 1"),
        ("/system Be kind.", "system prompt: Be kind."),
        ("/system", "system prompt: none"),
        ("/seed 7", "seed 7"),
        ("/seed", "seed none"),
        ("/seed x", "expected a whole number"),
        ("/retry", "no message yet"),
        ("/undo", "no message yet"),
        ("/list", "no conversation is kept"),
        ("/open 1", "no conversation is kept"),
        ("/save", "nothing is kept yet"),
        ("/save x.md", "nothing to save yet"),
        ("/save x.txt", "ends with .md"),
        ("/dance", "no command; /help"),
    ],
)
def test_commands_say_what_they_did(chat_run, line, said):
    assert said in converse(chat_run, line)[1]


def test_settings_hold_for_the_next_answer(chat_run):
    out, _, terminal = converse(chat_run, "/max_tokens 4", "/seed 3", "/top_k 1", ENDLESS)
    assert len(out) < 20
    assert (terminal.session.params.seed, terminal.session.params.top_k) == (3, 1)


def test_clear_undo_and_retry_change_the_conversation(chat_run):
    assert converse(chat_run, ACCENTS, "/clear")[2].session.turns == 0
    assert converse(chat_run, ACCENTS, SUM, "/undo")[2].session.turns == 1
    out, _, terminal = converse(chat_run, ACCENTS, "/retry")
    assert out.count(FRENCH) == 2 and terminal.session.turns == 1


def test_a_message_too_long_is_one_line_and_the_chat_goes_on(chat_run):
    out, notes, terminal = converse(chat_run, "word " * CONTEXT, ACCENTS)
    assert "context is full" in notes and FRENCH in out and terminal.session.turns == 1


def test_conversations_are_listed_and_opened(chat_run, tmp_path):
    converse(chat_run, ACCENTS, folder=tmp_path)
    _, notes, terminal = converse(chat_run, SUM, "/list", "/open 2", "/open 9", "/save", folder=tmp_path)
    assert notes.index(SUM) < notes.index(ACCENTS)
    assert FRENCH in notes and "expected a number of /list" in notes
    assert f"{terminal.session.conversation.id}.json" in notes
    assert terminal.session.conversation.title == ACCENTS


def test_a_saved_conversation_can_be_read_and_trained_on(chat_run, tmp_path):
    page, lines = tmp_path / "talk.md", tmp_path / "talk.jsonl"
    turn = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    lines.write_text(json.dumps({"messages": turn}))  # without an end of line
    saves = (f"/save {page}", f"/save {page}", f"/save {lines}", f"/save {tmp_path}/no/a.md")
    _, notes, _ = converse(chat_run, "/system Be brief.", SUM, *saves)
    assert "exists already" in notes and "appended to" in notes and "cannot write" in notes
    assert "**You**\n\nWhat is 12 + 30?\n\n**heart/sft**\n\nIt is <<12+30=42>>42.\n" in page.read_text()
    first, second = (json.loads(line)["messages"] for line in lines.read_text().splitlines())
    assert first[1]["content"] == "b"
    assert [message["role"] for message in second] == ["system", "user", "assistant"]
    assert second[2]["content"][1] == {"type": "python", "text": "12+30"}
    made = read_own_conversations(parse_pairs("own_conversations", []), out=tmp_path / "made", files=[lines])
    assert (made.metrics["conversations"], made.metrics["skipped"]) == (2, {})


def test_many_lines_are_one_message():
    assert read_message(reader("one \\", "two")) == ("one \ntwo", False)
    assert read_message(reader('"""one', "", '/two"""')) == ("one\n\n/two", True)
    assert read_message(reader('"""one"""')) == ("one", True)
    assert read_message(reader('"""one', "two")) == ("one\ntwo", True)
    assert read_message(reader("one\\")) == ("one\\", False)


def test_a_quoted_message_may_begin_with_a_slash(chat_run):
    _, notes, terminal = converse(chat_run, '"""', "/help", '"""', " /help")
    assert "lists them" not in notes.replace("/help lists the commands", "")
    assert [m["content"] for m in terminal.session.messages if m["role"] == "user"] == ["/help", "/help"]


def test_commands_and_names_are_completed(chat_run):
    terminal = converse(chat_run)[2]
    words = lambda beginning: options(terminal, beginning)  # noqa: E731
    assert complete("/te", "/te", words) == ["/temperature "]
    assert complete("/re", "/re", words) == ["/retry"]
    assert complete("heart/s", "/stage heart/s", words) == ["heart/sft"]
    assert complete("no", "/seed no", words) == ["none"]
    assert complete("x", "/clear x", words) == complete("x", "/nothing x", words) == []


def test_where_answers_are_redirected_the_prompt_is_not_among_them(monkeypatch, tmp_path, capsys):
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stdin", io.StringIO("one\ntwo"))
    keyboard = Keyboard(tmp_path / "none" / "history", lambda beginning: (), screen)
    assert [keyboard("> "), keyboard("> ")] == ["one", "two"]
    with pytest.raises(EOFError):
        keyboard("> ")
    assert screen.getvalue() == "> > > " and capsys.readouterr().out == ""


@given(st.text())
def test_nothing_a_terminal_would_obey_passes(text):
    shown = cli.visible(text)
    assert not any((ord(c) < 32 and c not in "\n\t") or 127 <= ord(c) < 160 or "\u202a" <= c <= "\u202e" for c in shown)


def test_an_escape_sequence_is_shown():
    assert cli.visible("\x1b]0;owned\x07\x9b2J\r\u202e") == "␛]0;owned␇\\x9b2J␍\\u202e"
    assert cli.visible(FRENCH + "\n\t👩‍🚀") == FRENCH + "\n\t👩‍🚀"


def test_a_reader_that_has_enough_ends_the_chat_quietly(chat_run):
    process = script(chat_run, ENDLESS, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.read(6) == "la li "
    process.stdout.close()
    assert (process.wait(timeout=30), [x for x in process.stderr.read().splitlines() if "loading" not in x]) == (0, [])


def test_ctrl_c_ends_one_answer_with_the_exit_code_of_shells(chat_run):
    process = script(chat_run, ENDLESS, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.read(6) == "la li "
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130
    error = process.stderr.read()
    assert "stopped" in error and "Traceback" not in error


def test_a_seed_below_zero_is_an_error_of_the_command_line(chat_run):
    process = script(chat_run, "--seed", "-1", "hi", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=-1)
    out, error = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert error.splitlines()[-1].endswith("argument --seed: -1: expected 0 or more")


def test_a_wrong_name_is_an_error_of_one_line(chat_run):
    process = script(chat_run, "--stage", "rl", "hi", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=-1)
    out, error = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert error.splitlines()[-1].startswith("error: there is no model 'rl'")


class Typist:
    """A person at a real terminal."""

    def __init__(self, command, **environment):
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("terminal.py"), *command],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=REPOSITORY,
            env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
            start_new_session=True,
        )
        os.close(slave)
        self.seen = bytearray()
        self._mark = 0
        self._grew = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        try:
            while piece := os.read(self.master, 4096):
                with self._grew:
                    self.seen.extend(piece)
                    self._grew.notify_all()
        except OSError:  # the other side of a closed terminal
            pass

    def wait_for(self, text, seconds=60):
        """Wait until `text` is shown after what was waited for before."""
        deadline = time.monotonic() + seconds
        with self._grew:
            while (place := self.seen.find(text.encode(), self._mark)) < 0:
                assert self._grew.wait(deadline - time.monotonic()), self.seen.decode(errors="replace")[-2000:]
            self._mark = place + len(text.encode())

    def type(self, text):
        os.write(self.master, text.encode())

    def insist(self, text, answer):
        """Type again until there is an answer: Python misses a Ctrl-C that comes just before it waits for a line."""
        for _ in range(20):
            self.type(text)
            try:
                return self.wait_for(answer, seconds=2)
            except AssertionError:
                continue
        return self.wait_for(answer)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        os.close(self.master)


def test_ctrl_c_stops_the_answer_and_neither_the_chat_nor_who_waits_for_it(chat_run, tmp_path):
    """As under Snakemake: a process waits for the chat in the same process group, and hears Ctrl-C no more than it."""
    settings = SETTINGS.model_copy(update={"conversations": str(tmp_path / "kept")}).model_dump_json()
    chat = [sys.executable, "-m", "workflow_scripts.chat_cli", "--run", str(chat_run), "--chat", settings]
    with Typist(chat, TERM="dumb") as typist:
        typist.wait_for("> ")
        typist.type(f"{ENDLESS}\n")
        typist.wait_for("la li lo la li lo")
        typist.type("\x03")
        typist.wait_for("stopped")
        typist.wait_for("> ")
        typist.insist("\x03", "Ctrl-D ends the chat")
        typist.wait_for("> ")
        typist.type(f"/cl\t\n{SUM}\n")
        typist.wait_for("[12+30 = 42]42.")
        typist.wait_for("> ")
        typist.type("\x04")
        typist.wait_for("the chat ended with 0")
        assert typist.process.wait(timeout=15) == 0
    history = tmp_path / "kept" / cli.HISTORY
    assert history.read_text().splitlines() == [ENDLESS, "/clear", SUM]
    assert history.stat().st_mode & 0o077 == 0
    assert b"\x1b[2m" not in typist.seen
    assert len(list((tmp_path / "kept").glob("*.json"))) == 2
