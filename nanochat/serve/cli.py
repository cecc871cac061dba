"""The terminal chat: streaming, commands, one-shot with a prompt, reads a pipe."""

import contextlib
import secrets
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

from nanochat.config import ChatSettings
from nanochat.errors import NanochatError
from nanochat.infer.sampling import SamplingParams
from nanochat.serve.display import as_lines, status
from nanochat.serve.events import TextDelta, ToolCall
from nanochat.serve.registry import Registry
from nanochat.serve.session import ChatSession

HELP = """\
/stage [base|mid|sft|rl]   which checkpoint answers
/temperature [0..2]        0 is greedy
/system [text]             system prompt; /system none removes it
/seed [number]             fixed seed; /seed none takes a new one each time
/retry                     another answer to the last message
/undo                      forget the last message and its answer
/clear                     new conversation
/help                      this
/quit                      end (as Ctrl-D); Ctrl-C stops an answer
"""


@dataclass
class Terminal:
    """A chat over two text streams.

    Args:
        session: the conversation.
        source: where lines are typed.
        target: where everything is written.
        seed: of every reply; None draws a new one each time.
    """

    session: ChatSession
    source: TextIO
    target: TextIO
    seed: int | None = None

    def answer(self, text: str, *, note: bool) -> None:
        """Send one message and write the answer as it comes; Ctrl-C stops it.

        Args:
            text: the message.
            note: whether a line with speed and context use follows.
        """
        seed = secrets.randbelow(1 << 31) if self.seed is None else self.seed
        self.session.params = replace(self.session.params, seed=seed)
        with _interruptible() as cancel:
            for event in self.session.send(text, cancel):
                if isinstance(event, TextDelta):
                    self._write(event.text)
                elif isinstance(event, ToolCall):
                    self._write(f"[{as_lines(event.expression, event.result)}]")
                elif note:
                    self._write(f"\n{self._dim(status(self.session.stage, event, seed))}")
        self._write("\n")

    def converse(self) -> None:
        """Read messages and commands until the end of input or /quit."""
        self._write(f"Talking to {self.session.stage} of {self.session.registry.run}. /help lists the commands.\n")
        while True:
            line = self._ask()
            if line is None or line == "/quit":
                return
            try:
                if line.startswith("/"):
                    self.command(line)
                elif line:
                    self.answer(line, note=True)
            except NanochatError as error:
                self._write(f"{error}\n")

    def command(self, line: str) -> None:
        """Do what a line that starts with a slash says.

        Raises:
            ArtifactError: for a stage without a checkpoint.
        """
        name, _, value = line[1:].partition(" ")
        value = value.strip()
        session = self.session
        if name == "help":
            self._write(HELP)
        elif name == "stage":
            if value:
                session.stage = session.registry.get(value).stage
            self._write(f"stage {session.stage} of {', '.join(session.registry.stages)}\n")
        elif name == "temperature":
            self._set_temperature(value)
        elif name == "system":
            if value:
                session.system = "" if value == "none" else value
            self._write(f"system prompt: {session.system or 'none'}\n")
        elif name == "seed":
            if value and value != "none" and not value.isdecimal():
                self._write(f"seed {value!r}: expected a whole number or none\n")
                return
            if value:
                self.seed = None if value == "none" else int(value)
            self._write(f"seed {'new each time' if self.seed is None else self.seed}\n")
        elif name == "retry" and session.turns:
            self.answer(session.rewind(session.turns - 1), note=True)
        elif name == "undo" and session.turns:
            self._write(f"forgot: {session.rewind(session.turns - 1)}\n")
        elif name in ("retry", "undo"):
            self._write(f"/{name}: there is no message yet\n")
        elif name == "clear":
            session.messages = []
            self._write("new conversation\n")
        else:
            self._write(f"/{name} is no command; /help lists them\n")

    def _set_temperature(self, value: str) -> None:
        session = self.session
        if value:
            try:
                temperature = float(value)
            except ValueError:
                temperature = -1.0
            if not 0 <= temperature <= 2:
                self._write(f"temperature {value!r}: expected a number from 0 to 2\n")
                return
            session.params = replace(session.params, temperature=temperature)
        self._write(f"temperature {session.params.temperature:g}\n")

    def _ask(self) -> str | None:
        """The next line without blanks around it; None at the end of input or at Ctrl-C."""
        try:
            if self.source is sys.stdin and self.target is sys.stdout:
                return input("> ").strip()
            self._write("> ")
            line = self.source.readline()
        except (EOFError, KeyboardInterrupt):
            line = ""
        if not line:
            self._write("\n")
        return line.strip() if line else None

    def _write(self, text: str) -> None:
        self.target.write(text)
        self.target.flush()

    def _dim(self, text: str) -> str:
        return f"\x1b[2m{text}\x1b[0m" if self.target.isatty() else text


@contextlib.contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """A flag that Ctrl-C sets while inside, so that the model's work is never torn in the middle of a step."""
    flag = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return
    before = signal.signal(signal.SIGINT, lambda *_: flag.set())
    try:
        yield flag
    finally:
        signal.signal(signal.SIGINT, before)


def run(run_folder: Path, settings: ChatSettings, prompt: str | None) -> int:
    """Chat in the terminal with the checkpoints below `run_folder`.

    Args:
        run_folder: a run folder or a checkpoint directory.
        settings: stage and sampling.
        prompt: answer this and return. None: answer what a pipe holds, or converse where a person types.

    Returns:
        The exit code.

    Raises:
        ArtifactError: if there is no checkpoint, or the chosen one is damaged.
        ContextFullError: if a prompt does not fit the context.
    """
    registry = Registry(run_folder)
    params = SamplingParams(max_tokens=settings.max_new_tokens, temperature=settings.temperature, top_k=settings.top_k)
    session = ChatSession(registry, registry.get(settings.stage).stage, params)
    terminal = Terminal(session, sys.stdin, sys.stdout)
    if prompt is None and not sys.stdin.isatty():
        prompt = sys.stdin.read().strip()
    if prompt is None:
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  # gives input() a history and line editing
        terminal.converse()
    elif prompt.strip():
        terminal.answer(prompt, note=False)
    return 0
