"""How a stream of tokens becomes text and tool calls, cut off where a stop string begins."""

import codecs
from collections.abc import Iterator, Sequence
from typing import Literal

from nanochat.data.tokenizer import Tokenizer
from nanochat.infer.requests import Token
from nanochat.serve.events import TextDelta, ToolCall

Said = TextDelta | ToolCall


class ReplyReader:
    """Turns the tokens of one reply into text and tool calls.

    Held back until more is known are bytes that do not yet make a character, and text that may become a stop string.
    Control tokens in places where they mean nothing are shown by name: what a model does wrong should be seen, not
    hidden.

    Args:
        tokenizer: of the model.
        stop: strings that end the reply; neither they nor what follows are part of it.

    Attributes:
        stopped: whether a stop string has been written; what comes after it is ignored.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = ()) -> None:
        self._calls = _Calls(tokenizer)
        self._stop = tuple(stop)
        self._ends = frozenset((tokenizer.bos, tokenizer.special["<|assistant_end|>"]))
        self._held = ""
        self.stopped = False
        # Tokens and the length of the text at which each begins, until that text has been handed out.
        self._tokens: list[tuple[int, Token]] = []
        self._read = self._said = 0
        self._released: list[Token] = []

    def push(self, token: Token) -> list[Said]:
        """Take one token; what it completes."""
        if self.stopped:
            return []
        if token.sampled and token.id not in self._ends:
            self._tokens.append((self._read, token))
        found: list[Said] = []
        for said in self._calls.push(token):
            found += self._pass(said)
        self._release()
        return found

    def finish(self) -> list[Said]:
        """What is still held back: an incomplete character as U+FFFD, an unfinished tool call without a result."""
        if self.stopped:
            return []
        found = [piece for said in self._calls.finish() for piece in self._pass(said)]
        found += self._let_go()
        self._released += [token for _, token in self._tokens]
        self._tokens = []
        return found

    def take_tokens(self) -> tuple[Token, ...]:
        """Sampled tokens whose text has been handed out since the last call; end tokens are not among them."""
        taken, self._released = tuple(self._released), []
        return taken

    def _pass(self, said: Said) -> list[Said]:
        if self.stopped:
            return []
        if isinstance(said, ToolCall):
            return [*self._let_go(), said]
        self._read += len(said.text)
        if not self._stop:
            self._said = self._read
            return [said]
        text = self._held + said.text
        places = [place for place in map(text.find, self._stop) if place >= 0]
        if places:
            self.stopped = True
            text, self._held = text[: min(places)], ""
        else:
            text, self._held = self._without_beginning(text)
        self._said += len(text)
        return [TextDelta(text)] if text else []

    def _without_beginning(self, text: str) -> tuple[str, str]:
        """Text, and what at its end may be the beginning of a stop string."""
        longest = max(map(len, self._stop)) - 1
        for length in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stop):
                return text[:-length], text[-length:]
        return text, ""

    def _let_go(self) -> list[Said]:
        text, self._held = self._held, ""
        self._said += len(text)
        return [TextDelta(text)] if text else []

    def _release(self) -> None:
        """Hand out tokens that begin in text that was handed out, or before where it was cut off."""
        if not self.stopped and self._said == self._read and not self._calls.holding:
            self._released += [token for _, token in self._tokens]
            self._tokens = []
            return
        kept = [place < self._said for place, _ in self._tokens]
        self._released += [token for (_, token), out in zip(self._tokens, kept) if out]
        self._tokens = [] if self.stopped else [entry for entry, out in zip(self._tokens, kept) if not out]


class _Calls:
    """Tokens to text and tool calls, before stop strings."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._names = {number: name for name, number in tokenizer.special.items()}
        self._state: Literal["text", "expression", "output"] = "text"
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = bytearray()
        self._expression: str | None = None

    @property
    def holding(self) -> bool:
        """Whether the bytes of a character are incomplete."""
        return bool(self._utf8.getstate()[0])

    def push(self, token: Token) -> Iterator[Said]:
        name = self._names.get(token.id)
        if name is None:
            piece = self._tokenizer.decode_bytes([token.id])
            if self._state != "text":
                self._held += piece
                return
            yield from self._unanswered()
            yield from _text(self._utf8.decode(piece))
        elif name == "<|python_start|>" and self._state == "text":
            yield from self._flush()
            self._state = "expression"
        elif name == "<|python_end|>" and self._state == "expression":
            self._expression = self._take()
            self._state = "text"
        # Output that the model made up itself is not the calculator's, and not shown as if it were.
        elif name == "<|output_start|>" and self._expression is not None and not token.sampled:
            self._state = "output"
        elif name == "<|output_end|>" and self._state == "output":
            yield ToolCall(self._expression or "", self._take())
            self._expression, self._state = None, "text"
        elif name in ("<|assistant_end|>", "<|bos|>"):
            yield from self.finish()
        elif self._state == "text":
            yield from self._flush()
            yield TextDelta(name)
        else:
            self._held += name.encode()

    def finish(self) -> Iterator[Said]:
        if self._state == "expression":
            self._expression = self._take()
        self._held.clear()
        self._state = "text"
        yield from self._flush()

    def _flush(self) -> Iterator[Said]:
        yield from self._unanswered()
        yield from _text(self._utf8.decode(b"", final=True))
        self._utf8.reset()

    def _unanswered(self) -> Iterator[ToolCall]:
        if self._expression is not None:
            yield ToolCall(self._expression, None)
            self._expression = None

    def _take(self) -> str:
        text = self._held.decode("utf-8", errors="replace")
        self._held.clear()
        return text


def _text(text: str) -> Iterator[TextDelta]:
    if text:
        yield TextDelta(text)
