"""How often every word of a text occurs: what byte-pair merges are learned from."""

import logging
import re
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers.pre_tokenizers import PreTokenizer

from nanochat.data.chunks import cut
from nanochat.data.parallel import in_order

log = logging.getLogger(__name__)

DISTINCT_LIMIT = 3_000_000
"""Chunks counted at a time; above, the rarer ones are forgotten."""
DISTINCT_BYTES_LIMIT = 64_000_000
"""Their bytes; learning merges takes some 40 times as much memory."""
_LONG = 64


ONE_WORD = re.compile(r" ?[A-Za-z]+|[0-9]| ?[!-/:-@\[-`{-~]+")
"""Matches chunks that `tokenizer.split_pattern` leaves whole, whatever its length of numbers: most of them."""


class WordCounter:
    """Counts the chunks of texts (chunks.py), and splits each different one into words at the end.

    Memory follows the different chunks: `limit` of them at most, of `size_limit` bytes, and those of a batch. Where a
    text has more, the rarer half is forgotten, as merges hardly see it; how many of all occurrences that were is kept
    in `forgotten`.

    Args:
        split: splits by `tokenizer.split_pattern`.
        limit: different chunks to keep.
        size_limit: bytes of all of them.
    """

    def __init__(
        self, split: PreTokenizer, *, limit: int = DISTINCT_LIMIT, size_limit: int = DISTINCT_BYTES_LIMIT
    ) -> None:
        self._split = split
        self._limit = limit
        self._size_limit = size_limit
        self._counts: dict[str, int] = {}
        self._size = 0
        self.documents = 0
        """Texts counted."""
        self.characters = 0
        """Characters counted."""
        self.forgotten = 0
        """Occurrences of chunks that were forgotten."""

    def count(self, batches: Iterable[pa.LargeStringArray], threads: int = 1) -> None:
        """Count the texts of all batches, on several threads."""
        counts = self._counts
        for batch, found in in_order(self._count_batch, batches, threads):
            self.documents += len(batch)
            self.characters += pc.sum(pc.utf8_length(batch)).as_py() or 0
            for chunk, number in found:
                if chunk in counts:
                    counts[chunk] += number
                else:
                    counts[chunk] = number
                    self._size += _size(chunk)
            if len(counts) > self._limit or self._size > self._size_limit:
                self._forget()

    def _count_batch(self, batch: pa.LargeStringArray) -> tuple[pa.LargeStringArray, list[tuple[str, int]]]:
        chunks = cut(batch)
        found: list[tuple[str, int]] = []
        for chunk, number in zip(chunks.distinct.to_pylist(), chunks.counts().tolist()):
            if len(chunk) <= _LONG:
                found.append((chunk, number))
            else:  # of a script without blanks, a chunk is a document: its words come again, it does not
                found += [(word, number) for word, _ in self._split.pre_tokenize_str(chunk)]
        return batch, found

    def _forget(self) -> None:
        numbers = np.fromiter(self._counts.values(), dtype=np.int64, count=len(self._counts))
        rarest_first = np.argsort(numbers, kind="stable")
        dropped = set(rarest_first[: len(numbers) // 2].tolist())
        self.forgotten += int(numbers[list(dropped)].sum())
        kept = {chunk: number for place, (chunk, number) in enumerate(self._counts.items()) if place not in dropped}
        self._counts.clear()
        self._counts.update(kept)
        self._size = sum(map(_size, kept))
        log.info(
            "too many different words to count: the rarer half is forgotten (by now %d occurrences in %d characters)",
            self.forgotten,
            self.characters,
        )

    def words(self) -> dict[str, int]:
        """Words (units that merges never cross) and how often each occurs."""
        is_one_word = ONE_WORD.fullmatch
        words: dict[str, int] = {}
        for chunk, number in self._counts.items():
            if is_one_word(chunk):
                words[chunk] = words.get(chunk, 0) + number
            else:
                for word, _ in self._split.pre_tokenize_str(chunk):
                    words[word] = words.get(word, 0) + number
        return words


def _size(chunk: str) -> int:
    """Bytes of a chunk, about."""
    return len(chunk) if chunk.isascii() else 3 * len(chunk)
