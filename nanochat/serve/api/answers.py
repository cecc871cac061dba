"""The JSON of answers: what is constant in one is written once, so that a chunk of a stream costs little."""

import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from nanochat.infer.requests import Token
from nanochat.serve.api.errors import ending
from nanochat.serve.events import Done
from nanochat.serve.model import ChatModel
from nanochat.serve.notation import text_of
from nanochat.serve.streams import Piece


def finish_reason(done: Done) -> str:
    """Why an answer ended, in the API's words.

    Raises:
        ApiError: 503, if the server ended it.
    """
    if done.finish == "cancelled":
        raise ending()
    return "stop" if done.finish == "stop" else "length"


def done_of(piece: Piece) -> Done | None:
    """The end of a choice, where it is in this piece."""
    last = piece.events[-1] if piece.events else None
    return last if isinstance(last, Done) else None


def usage(prompts: Sequence[Sequence[int]], produced: int) -> dict[str, int]:
    """Tokens of a request, each prompt counted once."""
    read = sum(map(len, prompts))
    return {"prompt_tokens": read, "completion_tokens": produced, "total_tokens": read + produced}


@dataclass
class Written:
    """A choice, collected for an answer in one piece."""

    texts: list[str] = field(default_factory=list)
    tokens: list[Token] = field(default_factory=list)
    end: Token | None = None
    done: Done | None = None

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(self.texts)

    def take(self, piece: Piece) -> None:
        """Add what has come."""
        self.texts.append(text_of(piece.events))
        self.tokens += piece.tokens
        self.end = piece.end or self.end
        self.done = done_of(piece) or self.done


class Envelope:
    """What all parts of one answer have in common.

    Args:
        model: who answers.
        kind: `chatcmpl` or `cmpl`, the beginning of the answer's id.
        name: `object` of the answer.
    """

    def __init__(self, model: ChatModel, kind: str, name: str) -> None:
        self._fields: dict[str, Any] = {
            "id": f"{kind}-{secrets.token_hex(12)}",
            "object": name,
            "created": int(time.time()),
            "model": model.name,
            "system_fingerprint": model.fingerprint,
        }

    def answer(self, choices: Sequence[dict[str, Any]], used: dict[str, int]) -> dict[str, Any]:
        """The whole answer."""
        return {**self._fields, "choices": list(choices), "usage": used}


class Chunks(Envelope):
    """The parts of a streamed answer, as server-sent events.

    Args:
        model, kind, name: as in `Envelope`.
        with_usage: whether the last chunk tells the tokens used; then all others have an empty field for it.
    """

    def __init__(self, model: ChatModel, kind: str, name: str, *, with_usage: bool) -> None:
        super().__init__(model, kind, name)
        head = json.dumps(self._fields)[:-1]
        nothing = ', "usage": null' if with_usage else ""
        self._head = f'data: {head}{nothing}, "choices": [{{"index": '
        self._last = f'data: {head}, "choices": [], "usage": '

    def chunk(self, index: int, content: str, logprobs: str = "null", finish: str | None = None) -> str:
        """One chunk with one choice.

        Args:
            index: number of the choice.
            content: what is new in it, as JSON with its name: `"text": "…"`.
            logprobs: as JSON.
            finish: why it ended, where it did.
        """
        reason = "null" if finish is None else f'"{finish}"'
        return f'{self._head}{index}, {content}, "logprobs": {logprobs}, "finish_reason": {reason}}}]}}\n\n'

    def usage(self, used: dict[str, int]) -> str:
        """The chunk that tells the tokens used."""
        return f"{self._last}{json.dumps(used)}}}\n\n"
