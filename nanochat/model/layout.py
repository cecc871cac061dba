"""Rows that hold trees: sequences with a common beginning, which is there once."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True)
class TreeLayout:
    """What stands where in rows of trees: a trunk, then branches that each continue it, then the next tree.

    A position attends to the trunk of its tree and to its own branch. All tensors are (B, T) int64.

    Attributes:
        segments: tree of each position, from 0, never falling along a row; padding has one of its own.
        branches: 0 in the trunk, the branch's number, from 1 and rising, in a branch.
        positions: place in the sequence of trunk and branch, from 0: a branch's first one follows the trunk's last.
        previous: place in the row of the token before in that sequence, -1 where there is none.
        wanted: (m,) places in the flattened rows whose last hidden states are asked for; None: all. The last block then
            computes no more than keys and values of the others.
    """

    segments: Tensor
    branches: Tensor
    positions: Tensor
    previous: Tensor
    wanted: Tensor | None = None

    def to(self, device: torch.device) -> "TreeLayout":
        """The same on another device."""
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        return TreeLayout(**{name: None if tensor is None else tensor.to(device) for name, tensor in moved.items()})

    @property
    def stretches(self) -> tuple[Tensor, Tensor]:
        """(B, T) numbers that are equal inside of a trunk or branch only: of each position's own, and its trunk's."""
        trunks = self.segments * (self.branches.max() + 1)
        return trunks + self.branches, trunks
