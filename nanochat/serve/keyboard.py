"""Where the lines of a terminal chat come from: a person, with history and completion, and messages of many lines."""

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

QUOTES = '"""'
HISTORY_LINES = 2000

Read = Callable[[str], str]
"""Gives the next line, asked for with a prompt, without its end. Raises EOFError, or KeyboardInterrupt at Ctrl-C."""


def read_message(read: Read) -> tuple[str, bool]:
    r"""The next message, and whether it was quoted: then it is one even if it begins with a slash.

    A line that ends with `\` goes on in the next one; what stands between two `\"\"\"` may have any number of lines.

    Raises:
        EOFError: at the end of input, if nothing was typed before it.
        KeyboardInterrupt: at Ctrl-C.
    """
    line = read("> ")
    if line.lstrip().startswith(QUOTES):
        text = line.lstrip().removeprefix(QUOTES)
        with contextlib.suppress(EOFError):
            while not text.rstrip().endswith(QUOTES):
                text += "\n" + read("... ")
        return text.rstrip().removesuffix(QUOTES).strip("\n"), True
    with contextlib.suppress(EOFError):
        while line.endswith("\\"):
            line = line[:-1] + "\n" + read("... ")
    return line, False


def complete(text: str, line: str, options: Callable[[str], Sequence[str]]) -> list[str]:
    """What the word being typed may become.

    Args:
        text: the word.
        line: all that stands on the line up to there.
        options: the words that may follow this much of the line.
    """
    return [word for word in options(line[: len(line) - len(text)]) if word.startswith(text)]


class Keyboard:
    """Lines that a person types, with editing, history and completion where this Python has readline.

    Args:
        history: file in which what was typed is kept; readable for its owner only.
        options: the words that may follow the beginning of a line.
        screen: where the prompt is written.
    """

    def __init__(self, history: Path, options: Callable[[str], Sequence[str]], screen: TextIO) -> None:
        self._history = history
        self._screen = screen
        self._options = options
        self._found: list[str] = []
        try:
            import readline
        except ImportError:  # as on Windows
            self._readline = None
            return
        self._readline = readline
        readline.set_completer_delims(" ")
        readline.set_completer(self._complete)
        libedit = "libedit" in (readline.__doc__ or "")
        readline.parse_and_bind("bind ^I rl_complete" if libedit else "tab: complete")
        readline.set_auto_history(False)
        with contextlib.suppress(OSError):  # a history that cannot be kept is no reason not to chat
            readline.read_history_file(history)
        readline.set_history_length(HISTORY_LINES)

    def __call__(self, prompt: str) -> str:
        """The next line."""
        line = input(prompt) if self._screen is sys.stdout else self._plain(prompt)
        if self._readline is not None and line.strip():
            self._readline.add_history(line)
            with contextlib.suppress(OSError):
                self._history.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                os.close(os.open(self._history, os.O_CREAT | os.O_APPEND, 0o600))
                self._readline.append_history_file(1, self._history)
        return line

    def _plain(self, prompt: str) -> str:
        """A line without editing, where standard output is not the screen and must hold answers alone."""
        self._screen.write(prompt)
        self._screen.flush()
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line.removesuffix("\n")

    def _complete(self, text: str, state: int) -> str | None:
        if self._readline is None:
            return None
        if state == 0:
            self._found = complete(text, self._readline.get_line_buffer()[: self._readline.get_endidx()], self._options)
        return self._found[state] if state < len(self._found) else None
