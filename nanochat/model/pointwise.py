"""RMSNorm, rotary positions and relu²: what stands between the products.

Each is an autograd function of its own because the derivatives that autograd puts together from elementary steps read
and write the activations many more times: on a CPU the backward pass of RMSNorm alone took 15 times longer, a fifth
of the whole training step (docs/benchmarks.md). Compilers see through them.
"""

from typing import Any

import torch
from torch import Tensor

EPSILON = 1e-6


class _RmsNorm(torch.autograd.Function):
    """y = x · r with r = 1 / √(mean x² + ε); the backward pass needs y and r only."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        size = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        scale = (size.square() / x.shape[-1] + EPSILON).rsqrt().to(x.dtype)
        y = x * scale
        ctx.save_for_backward(y, scale)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        y, scale = ctx.saved_tensors
        # The part of the gradient along y only changes the length, which the norm takes away again.
        along = torch.linalg.vecdot(gradient, y).unsqueeze(-1) / y.shape[-1]
        return torch.addcmul(gradient, y, along, value=-1).mul_(scale)


def norm(x: Tensor) -> Tensor:
    """RMSNorm over the last dimension, without weights (Zhang and Sennrich, arXiv 1910.07467)."""
    return _RmsNorm.apply(x)


class _Rotate(torch.autograd.Function):
    """x · cos + (halves of x swapped) · sin; its transpose is the rotation backwards."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        swapped = gradient.roll(gradient.shape[-1] // 2, -1)
        return torch.addcmul(gradient * cos, swapped, sin, value=-1), None, None


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions (Su et al., arXiv 2104.09864), in nanochat's and transformers' NanoChat's direction.

    Args:
        x: (B, T, heads, head_dim).
        cos: cosines of the angles for both halves of head_dim, (B or 1, T, 1, head_dim).
        sin: their sines, negated in the second half, alike.
    """
    return _Rotate.apply(x, cos, sin)


class _SquaredRelu(torch.autograd.Function):
    """relu(x)², keeping one tensor for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        positive = torch.relu(x)
        ctx.save_for_backward(positive)
        return positive.square()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (positive,) = ctx.saved_tensors
        return torch.addcmul(gradient.new_zeros(1), gradient, positive, value=2)


def squared_relu(x: Tensor) -> Tensor:
    """relu(x)² (Primer, arXiv 2109.08668)."""
    return _SquaredRelu.apply(x)


class _Mix(torch.autograd.Function):
    """a · x + b · y with scalars a and b that are learned."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, a: Tensor, y: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(x, a, y, b)
        return torch.addcmul(x * a.to(x.dtype), y, b.to(y.dtype))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, a, y, b = ctx.saved_tensors
        # Dot products row by row, summed in float32: one pass, and no rounding of a long sum.
        da, db = (torch.linalg.vecdot(gradient, value).sum(dtype=torch.float32).view_as(a) for value in (x, y))
        return gradient * a.to(x.dtype), da, gradient * b.to(y.dtype), db


def mix(x: Tensor, a: Tensor, y: Tensor, b: Tensor) -> Tensor:
    """A · x + b · y.

    Args:
        x: of any shape, compute type.
        a: float32 scalar.
        y: of the shape of x.
        b: float32 scalar.
    """
    return _Mix.apply(x, a, y, b)
