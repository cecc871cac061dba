"""Log-probabilities in the two shapes of the OpenAI API."""

import codecs
from collections.abc import Iterable, Sequence
from typing import Any

from nanochat.data.tokenizer import Tokenizer

_NEVER = -9999.0
"""Stands for minus infinity, which JSON does not have."""

Top = Sequence[tuple[int, float]]
Judged = tuple[int, float | None, Top]
"""A token, its log-probability (None where nothing comes before it), the most likely tokens in its place."""


class TokenNames:
    """How tokens are written: as their text, bytes that are no character as numbers, control tokens by their names."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._special = {number: name for name, number in tokenizer.special.items()}

    def bytes_of(self, token: int) -> bytes | None:
        """The bytes of a token; None for control tokens and those that only fill the vocabulary up."""
        return self._tokenizer.decode_bytes([token]) or None

    def name(self, token: int, broken: str = "") -> str:
        """How a token is written.

        Args:
            token: its id.
            broken: put before bytes that are no characters.
        """
        content = self.bytes_of(token)
        if content is None:
            return self._special.get(token, f"<|unused_{token}|>")
        try:
            return content.decode()
        except UnicodeDecodeError:
            return broken + content.decode("ascii", "backslashreplace")

    def length(self, token: int, decoder: codecs.IncrementalDecoder) -> int:
        """Characters that a token adds to the text that `decoder` reads."""
        content = self.bytes_of(token)
        if content is None:
            return len(decoder.decode(b"", True)) + len(self._special.get(token, ""))
        return len(decoder.decode(content))


def for_chat(names: TokenNames, tokens: Iterable[Judged]) -> list[dict[str, Any]]:
    """`choices[].logprobs.content` of a chat completion."""

    def entry(token: int, logprob: float | None) -> dict[str, Any]:
        content = names.bytes_of(token)
        return {
            "token": names.name(token),
            "logprob": _finite(logprob or 0.0),
            "bytes": None if content is None else list(content),
        }

    return [
        {**entry(token, logprob), "top_logprobs": [entry(*other) for other in top]} for token, logprob, top in tokens
    ]


class TextLogprobs:
    """`choices[].logprobs` of a completion: four lists that grow with the text.

    Args:
        names: of the tokens.
        top: how many of the most likely tokens are told; the token itself is always among them.
    """

    def __init__(self, names: TokenNames, top: int) -> None:
        self._names, self._top = names, top
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._offset = 0

    def take(self, tokens: Iterable[Judged], begin: int, end: int) -> dict[str, Any]:
        """The lists for some more tokens.

        Args:
            tokens: in order.
            begin: where in the whole text that of these tokens begins.
            end: where it ends; no offset is beyond, also where a token is written otherwise than it reads.
        """
        offset = max(self._offset, begin)
        found: dict[str, list[Any]] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
        for token, logprob, top in tokens:
            found["tokens"].append(self._names.name(token, "bytes:"))
            found["token_logprobs"].append(None if logprob is None else _finite(logprob))
            found["top_logprobs"].append(None if logprob is None else self._likely(token, logprob, top))
            found["text_offset"].append(min(offset, end))
            offset += self._names.length(token, self._decoder)
        self._offset = min(offset, end)
        return found

    def _likely(self, token: int, logprob: float, top: Top) -> dict[str, float]:
        likely = {self._names.name(number, "bytes:"): _finite(value) for number, value in top[: self._top]}
        likely.setdefault(self._names.name(token, "bytes:"), _finite(logprob))
        return likely


def _finite(logprob: float) -> float:
    return max(logprob, _NEVER)
