"""Rows of fixed length from pieces of different lengths, and the batch that training and evaluation read.

Lengths are counted in (input, target) pairs: n tokens give n - 1 pairs, the last token being a target only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from nanochat.errors import DataError

IGNORED = -1
"""Target of a position that carries no loss."""

Piece = tuple[int, int, int]
"""(item, start, length): `length` pairs of `item` from pair `start` on."""


def best_fit(lengths: Sequence[int], capacity: int) -> list[list[Piece]]:
    """Pack items into rows by best-fit decreasing; nothing is lost, nothing doubled.

    An item longer than a row is split: full rows first, its remainder packed like the others. Items of length 0 are
    left out. Among items of equal length the earlier one is placed first. The number of rows depends on the
    multiset of lengths only, not on their order. Takes O(n log n) for sorting and O(capacity / 64) for each piece.

    Args:
        lengths: length of each item, at least 0.
        capacity: length of a row, at least 1.

    Raises:
        DataError: for a negative length or a capacity below 1.
    """
    if capacity < 1:
        raise DataError(f"row capacity is {capacity}, expected at least 1")
    sizes = np.asarray(lengths, dtype=np.int64)
    if sizes.size and sizes.min() < 0:
        raise DataError(f"item {int(sizes.argmin())} has length {int(sizes.min())}, expected 0 or more")
    rows: list[list[Piece]] = []
    for item in np.flatnonzero(sizes > capacity).tolist():
        full = int(sizes[item]) // capacity
        rows += [[(item, number * capacity, capacity)] for number in range(full)]
    rest = np.where(sizes > capacity, sizes % capacity, sizes)
    starts = sizes - rest
    order = np.argsort(-rest, kind="stable")
    order = order[rest[order] > 0]

    open_rows: list[list[list[Piece]]] = [[] for _ in range(capacity + 1)]  # by space left
    spaces = 0  # bit s is set where a row with s pairs left is open
    for item, start, length in zip(order.tolist(), starts[order].tolist(), rest[order].tolist(), strict=True):
        fitting = spaces >> length
        if fitting:
            space = length + (fitting & -fitting).bit_length() - 1
            row = open_rows[space].pop()
            if not open_rows[space]:
                spaces ^= 1 << space
        else:
            space = capacity
            row = []
            rows.append(row)
        row.append((item, start, length))
        left = space - length
        if left:
            open_rows[left].append(row)
            spaces |= 1 << left
    return rows


def exact_fit(lengths: Sequence[int], capacity: int) -> list[list[Piece]]:
    """Pack items into rows one row after the other, completing each exactly where that is possible; nothing is cut.

    A row starts with the longest item left and is completed by one item, or by the most even pair, that fills it to the
    last position; where there is none, by the longest that fits. Among items of equal length the earlier one goes
    first, and the number of rows depends on the multiset of lengths only. With the lengths of conversations it wastes a
    tenth of what best fit does (after Krell et al., arXiv 2107.02027). Takes O(capacity) for each row.

    Args:
        lengths: length of each item, 0 (left out) to `capacity`.
        capacity: length of a row, at least 1.

    Raises:
        DataError: for a length outside of that, or a capacity below 1.
    """
    if capacity < 1:
        raise DataError(f"row capacity is {capacity}, expected at least 1")
    sizes = np.asarray(lengths, dtype=np.int64)
    wrong = np.flatnonzero((sizes < 0) | (sizes > capacity))
    if wrong.size:
        raise DataError(f"item {wrong[0]} has length {sizes[wrong[0]]}, expected 0 to {capacity}")
    waiting: list[list[int]] = [[] for _ in range(capacity + 1)]
    for item in reversed(range(len(sizes))):
        waiting[sizes[item]].append(item)
    there = np.array([bool(items) for items in waiting])

    def take(length: int) -> Piece:
        item = waiting[length].pop()
        there[length] = bool(waiting[length])
        return item, 0, length

    def next_lengths(space: int) -> list[int]:
        """Of the items to go on with."""
        if there[space]:
            return [space]
        shorter = 1 + np.flatnonzero(there[1 : space // 2 + 1] & there[space - 1 : space - space // 2 - 1 : -1])
        if len(shorter) and 2 * shorter[-1] == space and len(waiting[space // 2]) < 2:
            shorter = shorter[:-1]
        if len(shorter):
            return [space - int(shorter[-1]), int(shorter[-1])]
        fitting = np.flatnonzero(there[1 : space + 1])
        return [int(fitting[-1]) + 1] if len(fitting) else []

    rows = []
    longest = capacity
    while True:
        while longest and not there[longest]:
            longest -= 1
        if not longest:
            return rows
        row = [take(longest)]
        space = capacity - longest
        while space and (chosen := next_lengths(space)):
            row += [take(length) for length in chosen]
            space -= sum(chosen)
        rows.append(row)


def best_fit_full(lengths: Sequence[int], capacity: int) -> list[list[Piece]]:
    """Like `best_fit`, but into exactly ceil(sum(lengths) / capacity) rows, cutting as few items as that takes.

    The emptiest rows of the best fit are dissolved and their pieces cut to fill the gaps of the others, so that
    less than one row is wasted in all and the number of rows is known without packing.

    Raises:
        DataError: as `best_fit`.
    """
    rows = best_fit(lengths, capacity)
    needed = row_count(int(np.sum(lengths)), capacity)
    if len(rows) == needed:
        return rows
    fill = [sum(length for _, _, length in row) for row in rows]
    order = sorted(range(len(rows)), key=lambda index: -fill[index])
    kept, dissolved = order[:needed], order[needed:]
    # Largest gaps first: fewer cuts.
    gaps = iter([(index, capacity - fill[index]) for index in reversed(kept) if fill[index] < capacity])
    place, gap = next(gaps)
    for index in dissolved:
        for item, start, length in rows[index]:
            while length:
                if not gap:
                    place, gap = next(gaps)
                taken = min(gap, length)
                rows[place].append((item, start, taken))
                start, length, gap = start + taken, length - taken, gap - taken
    return [rows[index] for index in sorted(kept)]


def row_count(pairs: int, capacity: int) -> int:
    """Rows that `pairs` fill when nothing is wasted but the end of the last."""
    return -(-pairs // capacity)


@dataclass
class Batch:
    """Rows of tokens, as numpy arrays."""

    inputs: np.ndarray
    """(rows, T) int32 token ids."""
    targets: np.ndarray
    """(rows, T) int32, the token after each input; -1 carries no loss."""
    segments: np.ndarray
    """(rows, T) int32, which document of the row a position belongs to, from 0; padding has a number of its own."""
    weights: np.ndarray | None = None
    """(rows, T) float32 weight of each target's loss; None means 1."""

    @classmethod
    def padding(cls, rows: int, sequence_length: int, token: int) -> "Batch":
        """Rows that hold nothing yet: `token` everywhere, every target ignored, segment 0."""
        shape = (rows, sequence_length)
        return cls(
            inputs=np.full(shape, token, dtype=np.int32),
            targets=np.full(shape, IGNORED, dtype=np.int32),
            segments=np.zeros(shape, dtype=np.int32),
        )

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.inputs.shape[0]

    @property
    def valid_targets(self) -> int:
        """Number of targets that carry loss."""
        return int((self.targets != IGNORED).sum())

    @property
    def tokens(self) -> int:
        """Positions up to the last target of each row: what is computed, padding left out."""
        if self.rows == 0:
            return 0
        used = self.targets != IGNORED
        length = used.shape[1]
        return int(np.where(used.any(axis=1), length - used[:, ::-1].argmax(axis=1), 0).sum())

    def slice(self, start: int, stop: int) -> "Batch":
        """Rows start … stop - 1, sharing memory."""
        weights = None if self.weights is None else self.weights[start:stop]
        return Batch(self.inputs[start:stop], self.targets[start:stop], self.segments[start:stop], weights)

    def padded_to(self, rows: int) -> "Batch":
        """With rows added at the end, up to `rows`, that carry no loss."""
        missing = rows - self.rows
        more = Batch.padding(missing, self.inputs.shape[1], 0)
        arrays = zip((self.inputs, self.targets, self.segments), (more.inputs, more.targets, more.segments))
        weights = self.weights
        if weights is not None:
            weights = np.concatenate((weights, np.zeros(more.inputs.shape, dtype=weights.dtype)))
        return Batch(*(np.concatenate(pair) for pair in arrays), weights)


class RowSource(Protocol):
    """A deterministic, endless sequence of rows; a position in it is one integer."""

    sequence_length: int
    """Positions in a row."""
    rows_per_epoch: int
    """Rows until the data has been seen once; the next epoch follows in another order."""

    def read(self, start: int, count: int) -> Batch:
        """Rows start … start + count - 1 of the global order, whatever was read before."""
        ...
