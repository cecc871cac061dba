"""The terminal chat: streaming, commands, one answer to a prompt or to what a pipe holds."""

import secrets
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

from nanochat.config import ChatSettings
from nanochat.errors import NanochatError
from nanochat.infer.sampling import SamplingParams
from nanochat.serve.commands import obey, options
from nanochat.serve.conversations import Store
from nanochat.serve.display import as_lines
from nanochat.serve.display import status as status_line
from nanochat.serve.events import Done, Event, TextDelta, ToolCall
from nanochat.serve.foreground import foreground, interruptible
from nanochat.serve.keyboard import Keyboard, Read, read_message
from nanochat.serve.registry import Registry
from nanochat.serve.session import ChatSession

HISTORY = ".input_history"
"""Beside the conversations: what was typed."""
INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""

_SEEN = {number: chr(0x2400 + number) for number in range(0x20) if chr(number) not in "\n\t"} | {0x7F: "\u2421"}
# C1 controls are escape sequences of one character; the others turn the direction of all that follows.
_SEEN |= {n: f"\\x{n:02x}" for n in range(0x80, 0xA0)}
_SEEN |= {n: f"\\u{n:04x}" for n in (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))}


def visible(text: str) -> str:
    """Text whose control characters are shown as signs, so that a terminal obeys none of them."""
    return text.translate(_SEEN)


@dataclass
class Terminal:
    """A chat over text streams.

    Attributes:
        session: the conversation.
        read: where messages come from.
        out: where answers are written.
        notes: where everything else is written.
        seed: of every answer; None draws a new one each time.
        color: whether notes may be dimmed.
    """

    session: ChatSession
    read: Read
    out: TextIO
    notes: TextIO
    seed: int | None = None
    color: bool = False

    def converse(self) -> None:
        """Take messages and commands until the end of input or /quit."""
        self.note(f"Talking to {self.session.model}. /help lists the commands, Ctrl-D ends.")
        while True:
            try:
                text, quoted = read_message(self.read)
                if text.strip() == "/quit" and not quoted:
                    return
                if text.startswith("/") and not quoted:
                    obey(self, text.strip())
                elif text.strip():
                    self.answer(text.strip())
            except EOFError:
                self.note("")
                return
            except KeyboardInterrupt:
                self.note("\nCtrl-D ends the chat")
            except NanochatError as error:
                self.note(str(error))

    def answer(self, text: str, *, status: bool = True) -> Done:
        """Send one message and write the answer as it comes; Ctrl-C stops it.

        Args:
            text: the message.
            status: whether a note about speed and context follows.
        """
        return self._write(text, status=status)

    def answer_again(self) -> None:
        """Another answer to the last message."""
        self._write(None, status=True)

    def note(self, text: str) -> None:
        """Write something that is no answer."""
        text = visible(text)
        self.notes.write(f"\x1b[2m{text}\x1b[0m\n" if self.color and text.strip() else f"{text}\n")
        self.notes.flush()

    def _write(self, text: str | None, *, status: bool) -> Done:
        session = self.session
        seed = secrets.randbelow(1 << 31) if self.seed is None else self.seed
        session.params = replace(session.params, seed=seed)
        with interruptible() as cancel:
            events = session.retry(cancel) if text is None else session.send(text, cancel)
            done = self._stream(events, seed, status=status)
        return done

    def _stream(self, events: Iterator[Event], seed: int, *, status: bool) -> Done:
        done: Done | None = None
        for event in events:
            if isinstance(event, Done):
                done = event
                self._say("\n")
                if status or event.finish != "stop":
                    self.note(status_line(self.session.model, event, seed))
            elif isinstance(event, ToolCall):
                self._say(f"[{as_lines(event.expression, event.result)}]")
            elif isinstance(event, TextDelta):
                self._say(event.text)
        if done is None:
            raise AssertionError("a reply ends with Done")
        return done

    def _say(self, text: str) -> None:
        self.out.write(visible(text))
        self.out.flush()


def run(
    run_folder: Path,
    settings: ChatSettings,
    prompt: str | None,
    *,
    model: str = "auto",
    seed: int | None = None,
    color: bool = False,
) -> int:
    """Chat in the terminal with the checkpoints below `run_folder`.

    The answer to a prompt, or to what a pipe holds, is all that is written to standard output, and is not kept. A
    conversation is kept beside those of the chat window.

    Args:
        run_folder: a run folder or a checkpoint directory.
        settings: sampling, system prompt, and where conversations are kept.
        prompt: answer this and return. None: answer what a pipe holds, or converse where a person types.
        model: name or stage of the checkpoint that answers first; `auto` takes `settings.stage`.
        seed: of every answer; None draws a new one each time.
        color: whether what is no answer may be dimmed.

    Returns:
        The exit code.

    Raises:
        ArtifactError: if there is no checkpoint, or the chosen one is damaged.
        UnknownModelError: if there is none of this name.
        ContextFullError: if a prompt does not fit the context.
    """
    person = prompt is None and sys.stdin.isatty()
    if prompt is None and not person:
        prompt = sys.stdin.read()
    if prompt is not None and not prompt.strip():
        return 0
    registry = Registry(run_folder, settings=settings)
    params = SamplingParams(
        max_tokens=settings.max_new_tokens,
        temperature=settings.temperature,
        top_k=settings.top_k,
        top_p=settings.top_p,
    )
    store = Store(Path(settings.conversations)) if person else None
    session = ChatSession.begin(registry, model, params, system=settings.system, store=store)
    if prompt is not None:
        terminal = Terminal(session, _no_line, sys.stdout, sys.stderr, seed)
        done = terminal.answer(prompt.strip(), status=False)
        return INTERRUPTED if done.finish == "cancelled" else 0
    with foreground(sys.stdin.fileno()):
        session.choose(session.model)  # loaded and verified before the first message
        notes = sys.stdout if sys.stdout.isatty() else sys.stderr
        terminal = Terminal(session, _no_line, sys.stdout, notes, seed, color)
        history = Path(settings.conversations) / HISTORY
        terminal.read = Keyboard(history, lambda beginning: options(terminal, beginning), notes)
        terminal.converse()
    return 0


def _no_line(prompt: str) -> str:
    raise EOFError
