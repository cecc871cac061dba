"""Causal attention inside documents and windows: which way it is computed, and what all layers of one window share.

Three ways give the same result: `dense` (additive masks and PyTorch's fused attention, the plain twin of the others),
`tiled` (CPUs) and `flex` (FlexAttention on GPUs). Only the last two make windows and packing save time.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, Union

import torch
import torch.nn.functional as F
from torch import Tensor

from nanochat.model.layout import TreeLayout
from nanochat.model.tiled_attention import Tiles, plan_tiles, plan_tree_tiles, tiled_attention

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

BLOCK = 128
"""Positions of a block of FlexAttention, the size its kernels work with; it needs contexts of whole blocks."""
AttentionKind = Literal["auto", "dense", "tiled", "flex"]
Mask = Union[Tensor, Tiles, "BlockMask", None]
"""Additive mask (batch or 1, 1, queries, keys) in the compute type; None where plain causal is meant; tiles; blocks."""
Masks = dict[int, Mask]
"""Window → mask."""


def _additive(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    # Scaled dot product attention would turn a boolean mask into this one again in every layer.
    return torch.zeros_like(allowed, dtype=dtype).masked_fill_(~allowed, float("-inf")).unsqueeze(1)


def _choose(window: int, length: int, device: torch.device, dtype: torch.dtype) -> AttentionKind:
    if device.type == "cpu":
        # In float32 the products of tiles are no faster than the fused kernel: there they pay by what they skip.
        return "tiled" if dtype != torch.float32 or window < length else "dense"
    return "dense"


def training_masks(
    windows: Iterable[int],
    length: int,
    segments: Tensor | None,
    device: torch.device,
    dtype: torch.dtype,
    kind: AttentionKind = "auto",
) -> Masks:
    """Masks of a forward pass without cache.

    Args:
        windows: the windows that occur in the model; a query at i sees the keys j with 0 <= i - j < window.
        length: T, positions of the rows.
        segments: (B, T) document of each position, never falling along a row, or None where each row is one document.
        device: where the masks are needed.
        dtype: compute type.
        kind: the way to compute; `auto` takes the fastest one of those that need no compiler.
    """
    different = set(windows)
    chosen = {window: _choose(window, length, device, dtype) if kind == "auto" else kind for window in different}
    masks: Masks = {}
    masks |= plan_tiles((w for w in different if chosen[w] == "tiled"), length, segments, dtype)
    blocked = [w for w in different if chosen[w] == "flex"]
    if blocked:
        from nanochat.model.flex_attention import block_masks

        masks |= block_masks(blocked, length, segments, device)
    dense = [w for w in different if chosen[w] == "dense"]
    if dense:
        masks |= _dense_masks(dense, length, segments, device, dtype)
    return masks


def tree_masks(windows: Iterable[int], layout: TreeLayout, dtype: torch.dtype, kind: AttentionKind = "auto") -> Masks:
    """Masks of a forward pass over rows of trees.

    Args:
        windows: the windows that occur in the model; a query at position p of its sequence sees the positions q with
            0 <= p - q < window.
        layout: where the masks are needed.
        dtype: compute type.
        kind: `dense`, or on CPUs `tiled`; `auto` takes the fastest.

    Raises:
        ValueError: if the kind cannot compute trees.
    """
    if kind == "auto":
        kind = "tiled" if layout.segments.device.type == "cpu" else "dense"
    if kind == "tiled":
        masks: Masks = {}
        return masks | plan_tree_tiles(windows, layout, dtype)
    if kind != "dense":
        raise ValueError(f"attention of kind {kind} does not compute rows of trees; expected auto, dense or tiled")
    stretches, trunks = (numbers.int() for numbers in layout.stretches)  # half the memory of (B, T, T) comparisons
    positions = layout.positions.int()
    places = torch.arange(stretches.shape[1], device=stretches.device)
    theirs = stretches[:, None, :]
    seen = (theirs == stretches[:, :, None]) | (theirs == trunks[:, :, None])
    seen &= places[:, None] >= places
    distance = positions[:, :, None] - positions[:, None, :]
    return {window: _additive(seen & (distance < window), dtype) for window in set(windows)}


def _dense_masks(
    windows: Iterable[int], length: int, segments: Tensor | None, device: torch.device, dtype: torch.dtype
) -> Masks:
    positions = torch.arange(length, device=device)
    distance = positions[:, None] - positions[None, :]
    same = None if segments is None else segments[:, :, None] == segments[:, None, :]
    masks: Masks = {}
    for window in windows:
        if same is None and window >= length:
            masks[window] = None
            continue
        allowed = ((distance >= 0) & (distance < window))[None]
        masks[window] = _additive(allowed if same is None else allowed & same, dtype)
    return masks


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Mask, scale: float) -> Tensor:
    """Scaled dot product attention.

    Args:
        q: queries, (B, T, heads, head_dim).
        k: keys, (B, S, kv_heads, head_dim); kv_heads divides heads.
        v: values, alike.
        mask: of `training_masks` or `tree_masks`.
        scale: factor on q·k.

    Returns:
        (B, T, heads * head_dim).
    """
    if isinstance(mask, Tiles):
        return tiled_attention(q, k, v, mask, scale)
    if mask is not None and not isinstance(mask, Tensor):
        from nanochat.model.flex_attention import flex_attend

        return flex_attend(q, k, v, mask, scale)
    out = F.scaled_dot_product_attention(
        q.transpose(1, 2),
        k.transpose(1, 2),
        v.transpose(1, 2),
        attn_mask=mask,
        is_causal=mask is None,
        scale=scale,
        enable_gqa=k.shape[2] != q.shape[2],
    )
    return out.transpose(1, 2).flatten(2)
