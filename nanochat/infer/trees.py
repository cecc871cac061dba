"""Sequences that begin alike as trees: the common beginning is computed once, and rows are packed without padding."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nanochat.data.packing import best_fit
from nanochat.model.layout import TreeLayout

_WORTH = 8
"""Sequences share a beginning where it saves at least one in so many tokens: other branches cost attention's tiles."""
_ROW = 256
"""Short trees are packed into rows of about so many positions: longer ones mean more tiles that are half empty."""


@dataclass(frozen=True)
class Span:
    """A token sequence of which the part from `start` on is to be judged.

    Attributes:
        tokens: context and continuation, with `<|bos|>` in front.
        start: first token of the continuation, at least 1.
    """

    tokens: tuple[int, ...]
    start: int


def crop(span: Span, context: int) -> Span:
    """The last `context` tokens of a span, its start moved along."""
    over = max(0, len(span.tokens) - context)
    return Span(span.tokens[over:], max(1, span.start - over)) if over else span


@dataclass(frozen=True)
class Tree:
    """Spans with a common beginning as one stretch of a row: the trunk, then what each goes on with.

    A span's last token is not in it: nothing is predicted from there. Arrays of (n,) positions, as in `TreeLayout`,
    and of (m,) judged tokens.

    Attributes:
        tokens, branches, positions, previous: of each position.
        places: position that a judged token is predicted from.
        targets: the judged token.
        owners: number of the span it belongs to.
    """

    tokens: np.ndarray
    branches: np.ndarray
    positions: np.ndarray
    previous: np.ndarray
    places: np.ndarray
    targets: np.ndarray
    owners: np.ndarray

    @property
    def size(self) -> int:
        """Positions."""
        return len(self.tokens)


def common_prefix(sequences: Sequence[np.ndarray]) -> int:
    """Length of the longest common prefix."""
    count = min(map(len, sequences))
    for other in sequences[1:]:
        different = sequences[0][:count] != other[:count]
        if different.any():
            count = int(different.argmax())
    return count


def grow(spans: Sequence[Span], context: int) -> list[Tree]:
    """Trees of spans that belong together, such as the choices of an item.

    Spans that are cropped to the context share nothing unless they are cropped at the same place.

    Args:
        spans: longer ones than `context` are cropped on the left, each on its own.
        context: most tokens of a span.
    """
    groups: dict[int, list[int]] = {}
    for number, span in enumerate(spans):
        groups.setdefault(max(0, len(span.tokens) - context), []).append(number)
    trees = []
    for numbers in groups.values():
        cropped = [crop(spans[number], context) for number in numbers]
        tokens = [np.array(span.tokens, dtype=np.int64) for span in cropped]
        starts = [span.start for span in cropped]
        trunk = common_prefix([ids[:-1] for ids in tokens])
        if len(numbers) > 1 and _WORTH * trunk * (len(numbers) - 1) < sum(map(len, tokens)):
            trees += [_tree([ids], [start], [n], len(ids) - 1) for ids, start, n in zip(tokens, starts, numbers)]
        else:
            trees.append(_tree(tokens, starts, numbers, trunk))
    return trees


def _tree(tokens: Sequence[np.ndarray], starts: Sequence[int], numbers: Sequence[int], trunk: int) -> Tree:
    parts = [tokens[0][:trunk], *(ids[trunk:-1] for ids in tokens)]
    sizes = np.array([len(part) for part in parts])
    begins = np.cumsum(sizes) - sizes
    branches = np.repeat(np.arange(len(parts)), sizes)
    place = np.arange(int(sizes.sum()))
    positions = place - begins[branches] + np.where(branches, trunk, 0)
    previous = np.where(positions > 0, place - 1, -1)
    first = begins[1:][sizes[1:] > 0]
    previous[first] = trunk - 1
    judged = [np.arange(start - 1, len(ids) - 1) for start, ids in zip(starts, tokens)]
    # What is predicted from the trunk lies there, the rest in the span's own branch.
    places = [np.where(at < trunk, at, at - trunk + begin) for at, begin in zip(judged, begins[1:])]
    return Tree(
        tokens=np.concatenate(parts),
        branches=branches,
        positions=positions,
        previous=previous,
        places=np.concatenate(places),
        targets=np.concatenate([ids[start:] for ids, start in zip(tokens, starts)]),
        owners=np.repeat(np.array(numbers), [len(at) for at in judged]),
    )


@dataclass(frozen=True)
class Rows:
    """Trees packed into rows.

    Attributes:
        tokens: (B, T) int64.
        layout: what stands where; what judged tokens are predicted from is wanted.
        targets: (m,) the judged tokens.
        trees: (m,) number of the tree that a judged token belongs to.
        owners: (m,) number of its span in that tree.
    """

    tokens: Tensor
    layout: TreeLayout
    targets: Tensor
    trees: np.ndarray
    owners: np.ndarray


def pack(trees: Sequence[Tree], row_length: int = _ROW) -> Rows:
    """Rows that hold each tree once, by best fit.

    Args:
        trees: at least one.
        row_length: what rows are made about as long as, unless a tree is longer.
    """
    sizes = [tree.size for tree in trees]
    longest = max(sizes)
    # Of the lengths that fill a row with whole trees of the longest kind, and those between, the least padding wins.
    several = max(1, row_length // longest)
    rows, length = min(
        ((best_fit(sizes, tried), tried) for tried in sorted({longest * several, longest, max(longest, row_length)})),
        key=lambda packed: (len(packed[0]) * packed[1], -packed[1]),
    )
    shape = (len(rows), length)
    tokens, segments, branches, positions = (np.zeros(shape, dtype=np.int64) for _ in range(4))
    previous = np.full(shape, -1, dtype=np.int64)
    places: list[np.ndarray] = [np.empty(0, dtype=np.int64)] * len(trees)
    for row, pieces in enumerate(rows):
        start = 0
        for segment, (number, _, size) in enumerate(pieces):
            tree, part = trees[number], slice(start, start + size)
            tokens[row, part] = tree.tokens
            segments[row, part] = segment
            branches[row, part] = tree.branches
            positions[row, part] = tree.positions
            previous[row, part] = np.where(tree.previous >= 0, tree.previous + start, -1)
            places[number] = row * length + start + tree.places
            start += size
        segments[row, start:] = len(pieces)
    return Rows(
        tokens=torch.from_numpy(tokens),
        layout=TreeLayout(*map(torch.from_numpy, (segments, branches, positions, previous, np.concatenate(places)))),
        targets=torch.from_numpy(np.concatenate([tree.targets for tree in trees])),
        trees=np.repeat(np.arange(len(trees)), [len(tree.targets) for tree in trees]),
        owners=np.concatenate([tree.owners for tree in trees]),
    )
