"""Many short pieces of text to token ids, each as if it stood alone."""

import json
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tokenizers

from nanochat.data.merging import Merger
from nanochat.data.words import ONE_WORD

_PIECES = 256
_GROUP_CHARACTERS = 100_000
_GROUPS_AT_ONCE = 16
_LONGEST_WORD = 64


class PieceEncoder:
    """Several times as fast as the tokenizer: single words are merged on arrays, the rest goes to it in groups.

    Args:
        core: a byte-level BPE whose split leaves what `words.ONE_WORD` matches whole.
        id_of_byte: (256,) its token of each byte.
        token_bytes: (vocab_size,) bytes of its tokens.
    """

    def __init__(self, core: tokenizers.Tokenizer, id_of_byte: np.ndarray, token_bytes: np.ndarray) -> None:
        self._core = core
        self._id_of_byte = id_of_byte
        self._token_bytes = token_bytes
        model = json.loads(core.to_str())["model"]
        number = model["vocab"]
        self._merger = Merger([(number[left], number[right], number[left + right]) for left, right in model["merges"]])

    def encode(self, pieces: Sequence[str], kind: np.dtype) -> tuple[np.ndarray, np.ndarray]:
        """Token ids of pieces.

        Args:
            pieces: none empty.
            kind: type of the ids.

        Returns:
            All ids, one piece after the other, and (pieces,) int64 how many each has.
        """
        # Merging goes on for as many rounds as the longest word has merges: long ones are for the library.
        is_word = [len(piece) <= _LONGEST_WORD and ONE_WORD.fullmatch(piece) is not None for piece in pieces]
        parts = []
        for wanted, encode in ((True, self._merge_words), (False, self._encode_others)):
            places = np.flatnonzero(np.array(is_word, dtype=bool) == wanted)
            if len(places):
                parts.append((places, *encode([pieces[place] for place in places.tolist()], kind)))
        counts = np.zeros(len(pieces), dtype=np.int64)
        for places, _, found in parts:
            counts[places] = found
        begin = np.cumsum(counts) - counts
        ids = np.empty(int(counts.sum()), dtype=kind)
        for places, part, found in parts:
            inside = np.arange(len(part)) - np.repeat(np.cumsum(found) - found, found)
            ids[np.repeat(begin[places], found) + inside] = part
        return ids, counts

    def _merge_words(self, words: list[str], kind: np.dtype) -> tuple[np.ndarray, np.ndarray]:
        text = pa.array(words, pa.large_string())
        content = np.frombuffer(text.buffers()[2], dtype=np.uint8)
        ids, counts = self._merger.apply(self._id_of_byte[content], np.frombuffer(text.buffers()[1], dtype=np.int64))
        return ids.astype(kind), counts

    def _encode_others(self, pieces: list[str], kind: np.dtype) -> tuple[np.ndarray, np.ndarray]:
        found: list[np.ndarray] = []
        groups = _groups(pieces)
        # Few at a time: the library keeps a hundred bytes and more for each token.
        while some := list(islice(groups, _GROUPS_AT_ONCE)):
            encoded = self._core.encode_batch_fast(some, is_pretokenized=True, add_special_tokens=False)
            found += [np.array(encoding.ids, dtype=kind) for encoding in encoded]
        ids = np.concatenate(found)
        # A piece ends where its bytes do.
        piece_ends = np.cumsum(pc.binary_length(pa.array(pieces, pa.large_string())).to_numpy())
        ends = 1 + np.searchsorted(np.cumsum(self._token_bytes[ids]), piece_ends)
        return ids, np.diff(ends, prepend=0)


def _groups(pieces: Sequence[str]) -> Iterator[list[str]]:
    """Pieces in groups of some hundred, or of one long one: the encoder holds many times the bytes of a group."""
    group: list[str] = []
    characters = 0
    for piece in pieces:
        group.append(piece)
        characters += len(piece)
        if len(group) == _PIECES or characters > _GROUP_CHARACTERS:
            yield group
            group, characters = [], 0
    if group:
        yield group
