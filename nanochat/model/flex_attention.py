"""Attention on GPUs by FlexAttention (Dong et al., arXiv 2412.05496): blocks that are masked whole are never touched.

Which blocks those are follows from the first and last document of each block of positions, since documents lie one
after the other in a row: no (T, T) mask is ever made.
"""

import logging
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from nanochat.model.attention import BLOCK

log = logging.getLogger(__name__)


def _ordered(chosen: Tensor) -> tuple[Tensor, Tensor]:
    """How many blocks of keys each block of queries has, and their numbers, the chosen ones first."""
    order = chosen.to(torch.int8).argsort(dim=-1, descending=True, stable=True)
    return chosen.sum(dim=-1).to(torch.int32), order.to(torch.int32).contiguous()


def block_masks(
    windows: Iterable[int], length: int, segments: Tensor | None, device: torch.device
) -> dict[int, BlockMask]:
    """Block masks for each window; arguments as in `attention.training_masks`, `length` a multiple of 128."""
    if segments is None:
        segments = torch.zeros((1, length), dtype=torch.int32, device=device)
    blocks = length // BLOCK
    inside = segments.view(segments.shape[0], blocks, BLOCK)
    first, last = inside[:, :, 0], inside[:, :, -1]
    number = torch.arange(blocks, device=device)
    distance = number[:, None] - number[None, :]
    # Documents are numbered upwards: two blocks share one if the keys' last is at least the queries' first.
    shared = (last[:, None, :] >= first[:, :, None]) & (distance >= 0)
    same = (first == last)[:, :, None] & (first == last)[:, None, :] & (first[:, :, None] == first[:, None, :])
    masks = {}
    for window in set(windows):
        touched = shared & ((distance - 1) * BLOCK + 1 < window)
        full = same & (distance >= 1) & ((distance + 1) * BLOCK - 1 < window)
        partial_count, partial_order = _ordered((touched & ~full).unsqueeze(1))
        full_count, full_order = _ordered((touched & full).unsqueeze(1))
        masks[window] = BlockMask.from_kv_blocks(
            partial_count,
            partial_order,
            full_count,
            full_order,
            BLOCK_SIZE=BLOCK,
            mask_mod=_mask_mod(segments, window),
            seq_lengths=(length, length),
        )
    return masks


def _mask_mod(segments: Tensor, window: int) -> Any:
    batched = segments.shape[0] > 1

    def allowed(b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
        row = b if batched else b * 0
        near = (query >= key) & (query - key < window)
        return near & (segments[row, query] == segments[row, key])

    return allowed


def works(device: torch.device) -> bool:
    """Whether FlexAttention compiles, runs and agrees with plain attention here, forward and backward.

    Some GPUs and installations (no C compiler, a Triton that does not know the GPU) cannot: then a warning says why.
    """
    try:
        _check(device)
    except Exception as error:  # whatever a compiler or driver may raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        log.warning("compiling does not work on %s (%s: %s): plain torch instead", device, type(error).__name__, reason)
        return False
    return True


def _check(device: torch.device) -> None:
    generator = torch.Generator().manual_seed(0)
    length, window, scale = 2 * BLOCK, 100, 0.125
    inputs = [torch.randn((2, length, 2, 64), generator=generator).to(device, torch.bfloat16) for _ in range(3)]
    segments = (torch.arange(length, device=device) >= torch.tensor([[37], [150]], device=device)).int()
    place = torch.arange(length, device=device)
    distance = place[:, None] - place
    allowed = (segments[:, :, None] == segments[:, None]) & (distance >= 0) & (distance < window)

    def gradients(attend: Any) -> list[Tensor]:
        leaves = [x.detach().requires_grad_() for x in inputs]
        with torch.enable_grad():
            out = attend(*leaves)
            return [out.float(), *(g.float() for g in torch.autograd.grad(out.float().square().sum(), leaves))]

    def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = torch.einsum("bqhd,bkhd->bhqk", q, k).float() * scale
        weights = scores.masked_fill(~allowed[:, None], float("-inf")).softmax(dim=-1)
        return torch.einsum("bhqk,bkhd->bqhd", weights.to(v.dtype), v).flatten(2)

    mask = block_masks([window], length, segments, device)[window]
    compiled = torch.compile(flex_attend)
    found = gradients(lambda q, k, v: compiled(q, k, v, mask, scale))
    for one, other in zip(found, gradients(plain), strict=True):
        error = float((one - other).norm() / other.norm())
        if not error < 0.05:
            raise ArithmeticError(f"FlexAttention is off by {error:.2g} from plain attention")


def flex_attend(q: Tensor, k: Tensor, v: Tensor, mask: BlockMask, scale: float) -> Tensor:
    """Scaled dot product attention with a block mask; arguments and result as in `attention.attend`.

    To be compiled: without that, FlexAttention is a slow reference.
    """
    out = flex_attention(
        q.transpose(1, 2),
        k.transpose(1, 2),
        v.transpose(1, 2),
        block_mask=mask,
        scale=scale,
        enable_gqa=k.shape[2] != q.shape[2],
    )
    return out.transpose(1, 2).flatten(2)
