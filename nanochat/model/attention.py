"""Causal attention inside documents and windows: one function, and the masks that all layers of one window share."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

Masks = dict[int, Tensor | None]
"""Window → additive mask (batch or 1, 1, queries, keys) in the compute type, or None where plain causal is meant."""


def _additive(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    # Scaled dot product attention would turn a boolean mask into this one again in every layer.
    return torch.zeros_like(allowed, dtype=dtype).masked_fill_(~allowed, float("-inf")).unsqueeze(1)


def training_masks(
    windows: Iterable[int], length: int, segments: Tensor | None, device: torch.device, dtype: torch.dtype
) -> Masks:
    """Masks of a forward pass without cache.

    Args:
        windows: the windows that occur in the model; a query at i sees the keys j with 0 <= i - j < window.
        length: T, positions of the rows.
        segments: (B, T) document of each position, or None where each row is one document.
        device: where the masks are needed.
        dtype: compute type.

    Returns:
        One mask per different window; None for a window that covers the row when there are no segments.
    """
    positions = torch.arange(length, device=device)
    distance = positions[:, None] - positions[None, :]
    same = None if segments is None else segments[:, :, None] == segments[:, None, :]
    masks: Masks = {}
    for window in set(windows):
        if same is None and window >= length:
            masks[window] = None
            continue
        allowed = ((distance >= 0) & (distance < window))[None]
        masks[window] = _additive(allowed if same is None else allowed & same, dtype)
    return masks


def cached_masks(windows: Iterable[int], positions: Tensor, keys: int, dtype: torch.dtype) -> Masks:
    """Masks of a forward pass that continues cached rows.

    Args:
        windows: as in `training_masks`.
        positions: (B, T) position of each query in its own row.
        keys: S, how many cached positions are looked at; the ones beyond a row's length lie in its future.
        dtype: compute type.
    """
    distance = positions[:, :, None] - torch.arange(keys, device=positions.device)
    return {
        window: _additive((distance >= 0) & (distance < window) if window < keys else distance >= 0, dtype)
        for window in set(windows)
    }


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """Scaled dot product attention.

    Args:
        q: queries, (B, T, heads, head_dim).
        k: keys, (B, S, kv_heads, head_dim); kv_heads divides heads.
        v: values, alike.
        mask: additive, broadcastable to (B, heads, T, S); None means causal over T = S.
        scale: factor on q·k.

    Returns:
        (B, T, heads * head_dim).
    """
    batch, length, heads, head_dim = q.shape
    out = F.scaled_dot_product_attention(
        q.transpose(1, 2),
        k.transpose(1, 2),
        v.transpose(1, 2),
        attn_mask=mask,
        is_causal=mask is None,
        scale=scale,
        enable_gqa=k.shape[2] != heads,
    )
    return out.transpose(1, 2).reshape(batch, length, heads * head_dim)
