"""Byte-pair merges learned from counted words (Sennrich et al., arXiv 1508.07909), on numpy arrays.

The words lie one after the other in flat arrays, linked to their neighbours; every position knows which pair starts at
it. A merge touches the positions of its pair only. Pairs of equal count that share no token in a way that matters are
merged in one step: most of a vocabulary is learned where counts are small and ties long, so that some thousand steps do
the work of ten thousands of merges. Against the trainer of `tokenizers` the merges differ in the order of ties only, in
a third of the time.
"""

from collections.abc import Sequence

import numpy as np

_ACTIVE = 1024  # pairs looked at for the next merge; the others are rarer than all of these


class _Growing:
    """An array that is appended to."""

    def __init__(self, values: np.ndarray) -> None:
        self._values = values
        self.size = len(values)

    def append(self, values: np.ndarray) -> None:
        end = self.size + len(values)
        if end > len(self._values):
            self._values = np.concatenate([self._values, np.empty(end, dtype=self._values.dtype)])
        self._values[self.size : end] = values
        self.size = end

    @property
    def all(self) -> np.ndarray:
        return self._values[: self.size]


class _Pairs:
    """Every pair that ever was: its tokens, how often it occurs now, and where it occurred when it came to be."""

    def __init__(self) -> None:
        self.left = _Growing(np.empty(0, dtype=np.int32))
        self.right = _Growing(np.empty(0, dtype=np.int32))
        self.count = _Growing(np.empty(0, dtype=np.int64))
        self.begin = _Growing(np.empty(0, dtype=np.int64))
        self.length = _Growing(np.empty(0, dtype=np.int64))
        self.places = _Growing(np.empty(0, dtype=np.int32))

    def add(self, left: np.ndarray, right: np.ndarray, places: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Group occurrences by their tokens into new pairs; the id of the pair for each occurrence, in `places` order.

        Args:
            left: (n,) tokens.
            right: (n,) tokens after them.
            places: (n,) positions of the left ones.
            weights: (n,) counts of their words.
        """
        key = left.astype(np.int64) << 32 | right
        order = np.argsort(key, kind="stable")
        key = key[order]
        first = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
        lengths = np.diff(first, append=len(key))
        ids = self.count.size + np.arange(len(first))
        self.left.append(key[first] >> 32)
        self.right.append(key[first] & 0xFFFFFFFF)
        self.count.append(np.add.reduceat(weights[order], first))
        self.begin.append(self.places.size + first)
        self.length.append(lengths)
        self.places.append(places[order])
        pair = np.empty(len(key), dtype=np.int32)
        pair[order] = np.repeat(ids, lengths)
        return pair

    def places_of(self, pair: int) -> np.ndarray:
        """Where it occurred when it came to be, a superset of where it does now."""
        begin = self.begin.all[pair]
        return self.places.all[begin : begin + self.length.all[pair]]


class _Words:
    """The words as linked positions.

    Attributes:
        token: (positions,) int32, -1 where the position has been merged away.
        weight: (positions,) int64, how often the word occurs.
        pair: (positions,) int32, the pair that starts here, -1 for none.
        next, previous: (positions,) int32 neighbours in the word, -1 for none.
    """

    def __init__(self, tokens: np.ndarray, offsets: np.ndarray, counts: np.ndarray) -> None:
        lengths = np.diff(offsets)
        self.token = tokens.astype(np.int32)
        self.weight = np.repeat(counts.astype(np.int64), lengths)
        size = len(tokens)
        self.next = np.arange(1, size + 1, dtype=np.int32)
        self.previous = np.arange(-1, size - 1, dtype=np.int32)
        used = lengths > 0
        self.next[offsets[1:][used] - 1] = -1
        self.previous[offsets[:-1][used]] = -1
        self.pair = np.full(size, -1, dtype=np.int32)
        self._is_merged = np.zeros(size, dtype=bool)
        self.pairs = _Pairs()
        self._join(np.flatnonzero(self.next >= 0).astype(np.int32))

    def _join(self, places: np.ndarray) -> int:
        """Make pairs of the tokens at `places` and after them; the id of the first new pair."""
        first = self.pairs.count.size
        if len(places):
            right = self.token[self.next[places]]
            self.pair[places] = self.pairs.add(self.token[places], right, places, self.weight[places])
        return first

    def merge(self, chosen: Sequence[int], tokens: Sequence[int]) -> int:
        """Put each chosen pair's new token in its place; the id of the first pair that this makes.

        No chosen pair may end with a token that another one begins with, nor, unless alone, with its own first.
        """
        pairs = self.pairs
        found = [pairs.places_of(pair) for pair in chosen]
        lengths = [len(places) for places in found]
        place = np.concatenate(found)
        still = self.pair[place] == np.repeat(chosen, lengths)
        place = place[still]
        made = np.repeat(np.array(tokens, dtype=np.int32), lengths)[still]
        only = chosen[0]
        if pairs.left.all[only] == pairs.right.all[only]:
            place = self._without_overlaps(np.sort(place), only)
            made = made[: len(place)]
        gone = self.next[place]
        before = self.previous[place]
        self.token[gone] = -1
        before = before[before >= 0]
        before = before[self.token[before] >= 0]  # of neighbours that merge both, `gone` has counted the first's end
        ending = np.concatenate([gone, before])
        ending = ending[self.pair[ending] >= 0]
        count = pairs.count.all
        np.subtract.at(count, self.pair[ending], self.weight[ending])
        count[np.asarray(chosen)] = 0
        after = self.next[gone]
        self.next[place] = after
        self.previous[after[after >= 0]] = place[after >= 0]
        self.token[place] = made
        self.pair[gone] = -1
        self.pair[place] = -1
        self._is_merged[place] = True
        before = self.previous[place]
        before = before[before >= 0]
        before = before[~self._is_merged[before]]
        self._is_merged[place] = False
        return self._join(np.concatenate([place[after >= 0], before]))

    def _without_overlaps(self, place: np.ndarray, pair: int) -> np.ndarray:
        """Of runs such as `aaa`, every other place from the left."""
        before = self.previous[place]
        goes_on = (before >= 0) & (self.pair[before] == pair)
        number = np.arange(len(place))
        begin = np.maximum.accumulate(np.where(goes_on, 0, number))
        return place[(number - begin) % 2 == 0]


class _Candidates:
    """The pairs that occur most often, without looking at all of them each time."""

    def __init__(self, pairs: _Pairs, min_count: int) -> None:
        self._pairs = pairs
        self._min_count = min_count
        self._floor = 0
        self._active = np.empty(0, dtype=np.int64)

    def add(self, first: int) -> None:
        """Take in the pairs from `first` on."""
        new = first + np.flatnonzero(self._pairs.count.all[first:] >= self._floor)
        self._active = np.concatenate([self._active, new])

    def best(self) -> np.ndarray:
        """All pairs of the highest count, by their tokens; empty where none is frequent enough."""
        count = self._pairs.count.all
        while True:
            counts = count[self._active]
            top = counts.max(initial=0)
            if top >= max(self._floor, self._min_count):
                break
            if not self._refill(count):
                return self._active
        best = self._active[counts == top]
        return best[np.lexsort((self._pairs.right.all[best], self._pairs.left.all[best]))]

    def _refill(self, count: np.ndarray) -> bool:
        found = np.flatnonzero(count >= self._min_count)
        self._floor = self._min_count
        if len(found) > _ACTIVE:
            self._floor = int(np.partition(count[found], -_ACTIVE)[-_ACTIVE])
        self._active = found[count[found] >= self._floor]
        return len(self._active) > 0


def _independent(best: np.ndarray, pairs: _Pairs, limit: int) -> list[int]:
    """The first of `best` and those after it that can be merged in the same step."""
    begins: set[int] = set()
    ends: set[int] = set()
    chosen: list[int] = []
    for pair, left, right in zip(best.tolist(), pairs.left.all[best].tolist(), pairs.right.all[best].tolist()):
        if left == right:
            if not chosen:
                return [pair]
            break
        if left in ends or right in begins:
            break
        begins.add(left)
        ends.add(right)
        chosen.append(pair)
        if len(chosen) == limit:
            break
    return chosen


def learn_merges(
    names: Sequence[bytes], tokens: np.ndarray, offsets: np.ndarray, counts: np.ndarray, size: int, min_count: int
) -> tuple[list[bytes], list[tuple[int, int]]]:
    """Merge the most frequent pair of tokens again and again.

    Args:
        names: bytes of the tokens that there are from the start.
        tokens: (positions,) the words as tokens, one after the other.
        offsets: (words + 1,) where each word begins.
        counts: (words,) how often each word occurs.
        size: tokens wanted.
        min_count: pairs that occur less often are not merged.

    Returns:
        Bytes of all tokens, at most `size`, and the merges (left, right) in order.
    """
    names = list(names)
    merges: list[tuple[int, int]] = []
    words = _Words(tokens, offsets, counts)
    pairs = words.pairs
    candidates = _Candidates(pairs, min_count)
    while len(names) < size:
        chosen = _independent(candidates.best(), pairs, size - len(names))
        if not chosen:
            break
        # No two merges make the same bytes: what is merged inside of a token depends on its bytes alone.
        made = range(len(names), len(names) + len(chosen))
        for pair in chosen:
            left, right = int(pairs.left.all[pair]), int(pairs.right.all[pair])
            merges.append((left, right))
            names.append(names[left] + names[right])
        candidates.add(words.merge(chosen, made))
    return names, merges
