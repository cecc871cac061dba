"""What a line with a slash in front does in the terminal chat."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from nanochat.serve.notation import as_text
from nanochat.serve.session import ChatSession
from nanochat.serve.transcript import save

_SHOWN = 20
"""Conversations that /list shows."""
_LATEST_SEED = 2**31 - 1


class Chat(Protocol):
    """What the commands work on."""

    session: ChatSession
    seed: int | None
    """Of every answer; None draws a new one each time."""

    def note(self, text: str) -> None:
        """Say something that is no answer."""

    def answer_again(self) -> None:
        """Another answer to the last message."""


@dataclass(frozen=True)
class Command:
    """A command.

    Attributes:
        usage: its name and argument.
        about: one line.
        run: does it; given the chat and the text after the name.
        words: what its argument may be.
    """

    usage: str
    about: str
    run: Callable[[Chat, str], None]
    words: Callable[[Chat], Sequence[str]] = lambda chat: ()

    @property
    def name(self) -> str:
        """Its name, with the slash."""
        return self.usage.split()[0]


def obey(chat: Chat, line: str) -> None:
    """Do what a line with a slash in front says.

    Raises:
        NanochatError: if that cannot be done.
    """
    name, _, value = line.partition(" ")
    command = _BY_NAME.get(name.replace("-", "_"))
    if command is None:
        near = [known for known in _BY_NAME if known.startswith(name)]
        if len(near) != 1:
            chat.note(f"{name} is no command; /help lists them. A message may begin with a slash after a blank")
            return
        command = _BY_NAME[near[0]]
    command.run(chat, value.strip())


def options(chat: Chat, beginning: str) -> list[str]:
    """The words that may follow the beginning of a line, for completion."""
    if not beginning:
        return [*(f"{name} " if command.usage != name else name for name, command in _BY_NAME.items()), "/quit"]
    command = _BY_NAME.get(beginning.strip())
    return list(command.words(chat)) if command is not None else []


def _help(chat: Chat, value: str) -> None:
    width = max(len(command.usage) for command in COMMANDS)
    lines = [f"{command.usage:{width}}  {command.about}" for command in COMMANDS]
    lines += [
        f"{'/quit':{width}}  end, as Ctrl-D; Ctrl-C stops an answer",
        'A line that ends with \\ goes on in the next one; """ begins and ends a message of many lines.',
    ]
    chat.note("\n".join(lines))


def _stage(chat: Chat, value: str) -> None:
    session = chat.session
    if value:
        session.choose(value)
    chat.note(f"{session.model} of {', '.join(session.registry.names)}")


@dataclass(frozen=True)
class _Knob:
    """A number of the sampling parameters that a command sets."""

    field: str
    kind: type[int] | type[float]
    lowest: float
    highest: float
    off: str | None = None
    """The word for None."""

    def __call__(self, chat: Chat, value: str) -> None:
        if value:
            read = self._read(value)
            if read == "":
                ends = f" from {self.lowest:g}" + ("" if self.highest == math.inf else f" to {self.highest:g}")
                what = "a whole number" if self.kind is int else "a number"
                chat.note(f"{self.field} {value!r}: expected {what}{ends}{f', or {self.off}' if self.off else ''}")
                return
            if self.field == "seed":
                chat.seed = read
            else:
                chat.session.params = replace(chat.session.params, **{self.field: read})
        now: Any = chat.seed if self.field == "seed" else getattr(chat.session.params, self.field)
        chat.note(f"{self.field} {self.off if now is None else format(now, 'g' if self.kind is float else 'd')}")

    def _read(self, value: str) -> Any:
        """The number, None where it is off, or "" where it is neither."""
        if value == self.off:
            return None
        try:
            number = self.kind(value)
        except ValueError:
            return ""
        return number if self.lowest <= number <= self.highest else ""


def _knob(name: str, field: str, kind: type[int] | type[float], ends: tuple[float, float], off: str | None = None,
          about: str = "") -> Command:  # fmt: skip
    knob = _Knob(field, kind, *ends, off)
    return Command(
        f"/{name} [{'NUMBER' + (f'|{off}' if off else '')}]", about, knob, lambda chat: (off,) if off else ()
    )


def _system(chat: Chat, value: str) -> None:
    if value:
        chat.session.system = "" if value == "none" else value
    chat.note(f"system prompt: {chat.session.system or 'none'}")


def _retry(chat: Chat, value: str) -> None:
    if chat.session.turns:
        chat.answer_again()
    else:
        chat.note("/retry: there is no message yet")


def _undo(chat: Chat, value: str) -> None:
    chat.note(f"forgot: {chat.session.undo()}" if chat.session.turns else "/undo: there is no message yet")


def _clear(chat: Chat, value: str) -> None:
    chat.session.clear()
    chat.note("new conversation")


def _list(chat: Chat, value: str) -> None:
    kept = chat.session.kept()[:_SHOWN]
    lines = [
        f"{number:3}  {time.strftime('%Y-%m-%d %H:%M', time.localtime(one.updated))}  {one.title}"
        for number, one in enumerate(kept, 1)
    ]
    chat.note("\n".join(lines) or "no conversation is kept yet")


def _open(chat: Chat, value: str) -> None:
    session = chat.session
    kept = session.kept()
    if not value.isdecimal() or not 1 <= int(value) <= len(kept):
        chat.note(f"/open {value!r}: expected a number of /list" if kept else "no conversation is kept yet")
        return
    session.open(kept[int(value) - 1].id)
    for message in session.messages:
        chat.note(f"{'> ' if message['role'] == 'user' else ''}{as_text(message['content'])}")
    chat.note(f"going on with {session.model}")


def _save(chat: Chat, value: str) -> None:
    session = chat.session
    if value:
        path = Path(value).expanduser()
        chat.note(save(path, session.conversation.title, session.said(), session.model))
    elif session.store is None or not session.messages:
        chat.note("nothing is kept yet; a conversation is, after its first answer")
    else:
        session.save()
        chat.note(
            f"kept in {session.store.folder / session.conversation.id}.json; /save NAME.md or NAME.jsonl copies it"
        )


COMMANDS = (
    Command("/help", "this", _help),
    Command("/stage [NAME]", "which checkpoint answers", _stage, lambda chat: chat.session.registry.names),
    _knob("temperature", "temperature", float, (0, 2), about="0 takes the likeliest token"),
    _knob("top_k", "top_k", int, (1, math.inf), "all", "only the k likeliest tokens"),
    _knob("top_p", "top_p", float, (0.001, 1), "all", "only the likeliest tokens that hold this probability"),
    _knob("max_tokens", "max_tokens", int, (1, math.inf), about="length limit of an answer"),
    _knob("seed", "seed", int, (0, _LATEST_SEED), "none", "the same answer each time; none draws a new seed"),
    Command("/system [TEXT|none]", "system prompt", _system, lambda chat: ("none",)),
    Command("/retry", "another answer to the last message", _retry),
    Command("/undo", "forget the last message and its answer", _undo),
    Command("/clear", "new conversation; the old one is kept", _clear),
    Command("/list", "conversations that are kept, those of the window too", _list),
    Command("/open NUMBER", "go on with one of them", _open),
    Command("/save [FILE]", "where it is kept; or write it to FILE.md, or append it to FILE.jsonl", _save),
)
_BY_NAME = {command.name: command for command in COMMANDS}
