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
"""Chunks counted at a time; above, the rarest are forgotten."""


ONE_WORD = re.compile(r" ?[A-Za-z]+|[0-9]| ?[!-/:-@\[-`{-~]+")
"""Matches chunks that `tokenizer.split_pattern` leaves whole, whatever its length of numbers: most of them."""


class WordCounter:
    """Counts the chunks of texts (chunks.py), and splits each different one into words at the end.

    Memory follows the number of different chunks, at most `limit` and those of a batch. Where a text has more, the
    rarest are forgotten, as merges hardly see them; how many of all occurrences that were is kept in `forgotten`.

    Args:
        limit: different chunks to keep.
    """

    def __init__(self, limit: int = DISTINCT_LIMIT) -> None:
        self._limit = limit
        self._counts: dict[str, int] = {}
        self.characters = 0
        """Characters counted."""
        self.forgotten = 0
        """Occurrences of chunks that were forgotten."""

    def count(self, batches: Iterable[pa.LargeStringArray], threads: int = 1) -> None:
        """Count the texts of all batches, on several threads."""
        counts = self._counts

        def of(batch: pa.LargeStringArray) -> tuple[int, list[str], list[int]]:
            chunks = cut(batch)
            return _characters(batch), chunks.distinct.to_pylist(), chunks.counts().tolist()

        for characters, distinct, numbers in in_order(of, batches, threads):
            self.characters += characters
            for chunk, number in zip(distinct, numbers):
                counts[chunk] = counts.get(chunk, 0) + number
            if len(counts) > self._limit:
                self._forget()

    def _forget(self) -> None:
        numbers = np.fromiter(self._counts.values(), dtype=np.int64, count=len(self._counts))
        least = int(np.partition(numbers, len(numbers) // 2)[len(numbers) // 2])
        self.forgotten += int(numbers[numbers <= least].sum())
        for chunk in [chunk for chunk, number in self._counts.items() if number <= least]:
            del self._counts[chunk]
        log.info(
            "more than %d different words: those seen up to %d times are forgotten (%d occurrences of %d characters)",
            self._limit,
            least,
            self.forgotten,
            self.characters,
        )

    def words(self, split: PreTokenizer) -> dict[str, int]:
        """Words (units that merges never cross) and how often each occurs.

        Args:
            split: splits by `tokenizer.split_pattern`.
        """
        is_one_word = ONE_WORD.fullmatch
        words: dict[str, int] = {}
        for chunk, number in self._counts.items():
            if is_one_word(chunk):
                words[chunk] = words.get(chunk, 0) + number
            else:
                for word, _ in split.pre_tokenize_str(chunk):
                    words[word] = words.get(word, 0) + number
        return words


def _characters(batch: pa.LargeStringArray) -> int:
    return pc.sum(pc.utf8_length(batch)).as_py() or 0
