"""Learned byte-pair merges applied to many words at once, on numpy arrays."""

from collections.abc import Sequence

import numpy as np

_NONE = np.iinfo(np.int32).max


class Merger:
    """Applies learned merges to many words at once.

    Args:
        merges: (left, right, token that they become), in the order they were learned.
    """

    def __init__(self, merges: Sequence[tuple[int, int, int]]) -> None:
        table = np.array(merges, dtype=np.int64).reshape(-1, 3)
        key = table[:, 0] << 32 | table[:, 1]
        order = np.argsort(key)
        self._key = np.append(key[order], np.iinfo(np.int64).max)
        self._rank = np.append(order, _NONE).astype(np.int32)
        self._made = table[:, 2].astype(np.int32)

    def _ranks(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Place of each pair in the order of merges, `_NONE` where it is not merged."""
        key = left.astype(np.int64) << 32 | right
        place = np.searchsorted(self._key, key)
        return np.where(self._key[place] == key, self._rank[place], _NONE)

    def apply(self, tokens: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Merge each word until nothing in it can be merged, the earliest learned pair first.

        Args:
            tokens: (positions,) words, one after the other.
            offsets: (words + 1,) where each begins; none is empty.

        Returns:
            (tokens,) the words merged, one after the other, and (words,) how many tokens each has.
        """
        words = len(offsets) - 1
        tokens = tokens.astype(np.int32)
        lengths = np.diff(offsets)
        word = np.arange(words)
        rank = self._ranks(tokens, np.append(tokens[1:], 0))
        rank[offsets[1:] - 1] = _NONE
        done: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        while len(word):
            best = np.minimum.reduceat(rank, np.cumsum(lengths) - lengths)
            ready = best == _NONE
            if ready.any():
                is_ready = np.repeat(ready, lengths)
                done.append((word[ready], tokens[is_ready], lengths[ready]))
                tokens, rank = tokens[~is_ready], rank[~is_ready]
                word, lengths, best = word[~ready], lengths[~ready], best[~ready]
                if not len(word):
                    break
            place = _every_other(np.flatnonzero(rank == np.repeat(best, lengths)))
            tokens[place] = self._made[rank[place]]
            stays = np.ones(len(tokens), dtype=bool)
            stays[place + 1] = False
            tokens, rank = tokens[stays], rank[stays]
            lengths = np.add.reduceat(stays, np.cumsum(lengths) - lengths, dtype=np.int64)
            # New are the pairs that begin with a merged token, and those before them.
            place = place - np.arange(len(place))
            changed = np.concatenate([place, place[place > 0] - 1])
            is_last = np.zeros(len(tokens), dtype=bool)
            is_last[np.cumsum(lengths) - 1] = True
            after = tokens[np.minimum(changed + 1, len(tokens) - 1)]
            rank[changed] = np.where(is_last[changed], _NONE, self._ranks(tokens[changed], after))
        return _in_order(done, words)


def _every_other(place: np.ndarray) -> np.ndarray:
    """Of neighbouring places (`aaa`), every other one from the left."""
    goes_on = np.diff(place, prepend=-2) == 1
    if not goes_on.any():
        return place
    number = np.arange(len(place))
    begin = np.maximum.accumulate(np.where(goes_on, 0, number))
    return place[(number - begin) % 2 == 0]


def _in_order(done: list[tuple[np.ndarray, np.ndarray, np.ndarray]], words: int) -> tuple[np.ndarray, np.ndarray]:
    """Put words that were finished in any order one after the other: (word, tokens, lengths) of each lot."""
    lengths = np.zeros(words, dtype=np.int64)
    for word, _, counts in done:
        lengths[word] = counts
    begin = np.cumsum(lengths) - lengths
    tokens = np.empty(int(lengths.sum()), dtype=np.int32)
    for word, found, counts in done:
        first = np.cumsum(counts) - counts
        tokens[np.arange(len(found)) + np.repeat(begin[word] - first, counts)] = found
    return tokens, lengths
