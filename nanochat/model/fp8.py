"""Products in 8-bit floats for Hopper and Blackwell: twice the rate of bfloat16, at the price of rounding.

Each tensor is scaled by its largest magnitude when it is used (dynamic, tensorwise scaling, Micikevicius et al., arXiv
2209.05433): activations and weights as e4m3, gradients as e5m2, sums in float32.
"""

from typing import Any

import torch
from torch import Tensor

MULTIPLE = 16
"""What both sides of a weight must be divisible by."""


def _quantize(x: Tensor, kind: torch.dtype) -> tuple[Tensor, Tensor]:
    """X in 8 bits, and the float32 factor that brings it back."""
    largest = torch.finfo(kind).max
    factor = largest / x.abs().amax().float().clamp(min=1e-12)
    return (x.float() * factor).clamp(-largest, largest).to(kind), factor.reciprocal()


def _product(a: Tensor, a_scale: Tensor, b: Tensor, b_scale: Tensor, dtype: torch.dtype, exact: bool) -> Tensor:
    """(M, K) by (K, N); the first is wanted row by row, the second column by column."""
    return torch._scaled_mm(
        a.contiguous(),
        b.t().contiguous().t(),
        scale_a=a_scale,
        scale_b=b_scale,
        out_dtype=dtype,
        use_fast_accum=not exact,
    )


class _Fp8Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        small, scale = _quantize(flat, torch.float8_e4m3fn)
        matrix, matrix_scale = _quantize(weight, torch.float8_e4m3fn)
        ctx.save_for_backward(small, scale, matrix, matrix_scale)
        ctx.shape = x.shape
        return _product(small, scale, matrix.t(), matrix_scale, x.dtype, exact=False).view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        small, scale, matrix, matrix_scale = ctx.saved_tensors
        dtype = gradient.dtype
        flat = gradient.reshape(-1, gradient.shape[-1])
        rough, rough_scale = _quantize(flat, torch.float8_e5m2)
        to_input = _product(rough, rough_scale, matrix, matrix_scale, dtype, exact=True)
        # Positions are summed over here: their number must be a multiple of 16 too.
        missing = -rough.shape[0] % MULTIPLE
        if missing:
            rough, small = (torch.cat((t, t.new_zeros(missing, t.shape[1]))) for t in (rough, small))
        to_weight = _product(rough.t(), rough_scale, small, scale, torch.float32, exact=True)
        return to_input.view(ctx.shape), to_weight


def fp8_linear(x: Tensor, weight: Tensor) -> Tensor:
    """X · weightᵀ with all three products, forward and backward, in 8-bit floats.

    Args:
        x: (…, K) in bfloat16, K a multiple of 16.
        weight: (N, K) float32 master weight, N a multiple of 16; its gradient is float32.
    """
    return _Fp8Linear.apply(x, weight)


def fits(weight: Tensor) -> bool:
    """Whether a weight's shape allows 8-bit products."""
    return weight.shape[0] % MULTIPLE == 0 and weight.shape[1] % MULTIPLE == 0
