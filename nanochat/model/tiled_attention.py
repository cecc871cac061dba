"""Attention on CPUs, tile by tile: only keys that a tile's queries can see are multiplied.

A tile is a block of queries of some rows and the stretch of keys that reaches from the earliest one any of them sees
to the block's end. What lies in the future, before the window or in another document costs nothing beyond the grain
of the tiles. Batched products keep the matrix units of a CPU busy, which its fused attention does not: 2.5 to 3 times
faster forward and backward (docs/benchmarks.md). The probabilities are kept for the backward pass.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nanochat.model.layout import TreeLayout

_BLOCK = 128
"""Queries of a tile: small enough to skip most of what is masked, large enough for the products."""
_GRAIN = 64
"""Keys start at multiples of this, so that more rows share a tile."""
_APART = 2.0
"""Rows that see different stretches of keys share a tile unless tiles of their own have so many times less to do."""


@dataclass(frozen=True)
class Tile:
    """Queries [start, stop) of some rows with keys [first, stop).

    Attributes:
        rows: indices of the rows, or None for all.
        mask: additive, (rows or 1, 1, queries, keys) in the compute type.
    """

    rows: Tensor | None
    start: int
    stop: int
    first: int
    mask: Tensor

    def take(self, tensor: Tensor, first: int) -> Tensor:
        """(rows, heads, stop - first, head_dim) of a (B, heads, T, head_dim) tensor; a view where all rows are in."""
        part = tensor[:, :, first : self.stop]
        return part if self.rows is None else part.index_select(0, self.rows)

    def add_to(self, tensor: Tensor, first: int, value: Tensor) -> None:
        """Add what belongs to positions [first, stop) of the tile's rows."""
        part = tensor[:, :, first : self.stop]
        if self.rows is None:
            part.add_(value)
        else:
            part.index_add_(0, self.rows, value.to(part.dtype))


@dataclass(frozen=True)
class Tiles:
    """All tiles of a forward pass for one window; every query of every row is in exactly one."""

    tiles: tuple[Tile, ...]


def _starts(segments: np.ndarray) -> np.ndarray:
    """(B, T) position at which the document of each position starts."""
    length = segments.shape[1]
    begins = np.ones(segments.shape, dtype=bool)
    begins[:, 1:] = segments[:, 1:] != segments[:, :-1]
    return np.maximum.accumulate(np.where(begins, np.arange(length), 0), axis=1)


def plan_tiles(windows: Iterable[int], length: int, segments: Tensor | None, dtype: torch.dtype) -> dict[int, Tiles]:
    """Tiles for each window.

    Args:
        windows: a query at i sees the keys j with 0 <= i - j < window.
        length: T.
        segments: (B, T) document of each position, never falling along a row, or None where rows are documents.
        dtype: compute type, of the masks.
    """
    whole = np.zeros((1, length), dtype=np.int64) if segments is None else _starts(segments.numpy())
    planned = {}
    for window in set(windows):
        first = np.maximum(whole, np.arange(length) - window + 1)
        planned[window] = _tiles(first, partial(_seen_in_documents, first), dtype)
    return planned


def plan_tree_tiles(windows: Iterable[int], layout: TreeLayout, dtype: torch.dtype) -> dict[int, Tiles]:
    """Tiles for each window, of rows of trees; what is between a trunk and a branch of it is masked.

    Args:
        windows: a query at position p of its sequence sees the positions q with 0 <= p - q < window.
        layout: on the CPU.
        dtype: compute type, of the masks.
    """
    stretches, trunks = (numbers.numpy() for numbers in layout.stretches)
    positions = layout.positions.numpy()
    starts, tree_starts = _starts(stretches), _starts(trunks)
    begins = np.take_along_axis(positions, starts, axis=1)  # 0 in a trunk, its length in a branch
    planned = {}
    for window in set(windows):
        earliest = np.maximum(positions - window + 1, 0)
        first = np.where(earliest < begins, tree_starts + earliest, starts + earliest - begins)
        seen = partial(_seen_in_trees, stretches, trunks, positions, window)
        planned[window] = _tiles(first, seen, dtype)
    return planned


def _seen_in_documents(first: np.ndarray, rows: np.ndarray, start: int, stop: int, keys: int) -> np.ndarray:
    seen = first[rows, start:stop]
    seen = seen[:1] if (seen == seen[:1]).all() else seen
    places = np.arange(keys, stop)
    return (places >= seen[:, :, None]) & (places <= np.arange(start, stop)[:, None])


def _seen_in_trees(
    stretches: np.ndarray,
    trunks: np.ndarray,
    positions: np.ndarray,
    window: int,
    rows: np.ndarray,
    start: int,
    stop: int,
    keys: int,
) -> np.ndarray:
    theirs = stretches[rows, None, keys:stop]
    seen = (theirs == stretches[rows, start:stop, None]) | (theirs == trunks[rows, start:stop, None])
    seen &= np.arange(keys, stop) <= np.arange(start, stop)[:, None]
    if window <= positions.max():
        seen &= positions[rows, start:stop, None] - positions[rows, None, keys:stop] < window
    return seen


def _tiles(first: np.ndarray, seen: Callable[[np.ndarray, int, int, int], np.ndarray], dtype: torch.dtype) -> Tiles:
    """All tiles of one window.

    Args:
        first: (B, T) first key that each position sees; (1, T) where all rows are alike.
        seen: which keys the queries of a tile see, (rows or 1, queries, keys), of its rows, start, stop and first key.
        dtype: of the masks.
    """
    length = first.shape[1]
    tiles = []
    for start in range(0, length, _BLOCK):
        stop = min(start + _BLOCK, length)
        grains = first[:, start:stop].min(axis=1) // _GRAIN * _GRAIN
        # Rows apart cost copies of their keys and values there and back.
        if _APART * (stop - grains).sum() > (stop - grains.min()) * len(grains):
            grains[:] = grains.min()
        for grain in np.unique(grains).tolist():
            rows = np.flatnonzero(grains == grain)
            every = len(rows) == len(grains)
            allowed = seen(rows, start, stop, grain)
            mask = torch.zeros(allowed.shape, dtype=dtype).masked_fill_(torch.from_numpy(~allowed), float("-inf"))
            tiles.append(Tile(None if every else torch.from_numpy(rows), start, stop, grain, mask.unsqueeze(1)))
    return Tiles(tuple(tiles))


class _TiledAttention(torch.autograd.Function):
    """Forward and backward over (B, heads, T, head_dim) tensors."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, tiles: Tiles, scale: float) -> Tensor:
        out = torch.empty_like(q)
        kept = []
        for tile in tiles.tiles:
            scores = tile.take(q, tile.start) @ tile.take(k, tile.first).transpose(-1, -2)
            probabilities = torch.add(tile.mask, scores, alpha=scale).softmax(dim=-1)
            mixed = probabilities @ tile.take(v, tile.first)
            if tile.rows is None:
                out[:, :, tile.start : tile.stop] = mixed
            else:
                out[:, :, tile.start : tile.stop].index_copy_(0, tile.rows, mixed)
            kept.append(probabilities)
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(q, k, v, *kept)
            ctx.tiles, ctx.scale = tiles, scale
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, *kept = ctx.saved_tensors
        gradient = gradient.contiguous()
        dq = torch.empty_like(q)
        # Several blocks of queries add to a key: their sum is kept in float32.
        dk, dv = (torch.zeros_like(x, dtype=torch.float32) for x in (k, v))
        for tile, probabilities in zip(ctx.tiles.tiles, kept, strict=True):
            dout = tile.take(gradient, tile.start)
            tile.add_to(dv, tile.first, probabilities.transpose(-1, -2) @ dout)
            dprobabilities = dout @ tile.take(v, tile.first).transpose(-1, -2)
            dscores = torch.ops.aten._softmax_backward_data(dprobabilities, probabilities, -1, q.dtype)
            tile.add_to(dk, tile.first, dscores.transpose(-1, -2) @ tile.take(q, tile.start))
            part = dscores @ tile.take(k, tile.first)
            if tile.rows is None:
                dq[:, :, tile.start : tile.stop] = part
            else:
                dq[:, :, tile.start : tile.stop].index_copy_(0, tile.rows, part)
        return dq.mul_(ctx.scale), dk.mul_(ctx.scale).to(k.dtype), dv.to(v.dtype), None, None


def tiled_attention(q: Tensor, k: Tensor, v: Tensor, tiles: Tiles, scale: float) -> Tensor:
    """Scaled dot product attention over tiles.

    Args:
        q: queries, (B, T, heads, head_dim).
        k: keys, (B, T, kv_heads, head_dim); kv_heads divides heads.
        v: values, alike.
        tiles: of `plan_tiles`.
        scale: factor on q·k.

    Returns:
        (B, T, heads * head_dim).
    """
    groups = q.shape[2] // k.shape[2]
    if groups > 1:
        k, v = (x.repeat_interleave(groups, dim=2) for x in (k, v))
    q, k, v = (x.transpose(1, 2).contiguous() for x in (q, k, v))
    return _TiledAttention.apply(q, k, v, tiles, scale).transpose(1, 2).flatten(2)
