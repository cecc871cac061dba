"""relu² between the two products of the MLP (Primer, arXiv 2109.08668), made where the first product's sums are.

The product with the upper weights writes relu and its square straight from its sums, and in the backward pass the
product with the lower weights is multiplied by the slope before it is written: no pass over (N, F) of their own.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nanochat.model.kernels.tiles import Tiles, product_tiles, shared_memory

_TYPES = (torch.bfloat16, torch.float32)


def squared_relu_linear_plain(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Twin of `squared_relu_linear` in plain torch."""
    hidden = F.relu(x @ weight.mT)
    return hidden, hidden.square()


def squared_relu_gradient_plain(gradient: Tensor, weight: Tensor, hidden: Tensor) -> Tensor:
    """Twin of `squared_relu_gradient` in plain torch."""
    return (gradient @ weight).mul_(hidden).mul_(2.0)


def squared_relu_mlp_plain(x: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """Twin of `squared_relu_mlp` in plain torch."""
    return F.linear(F.relu(F.linear(x, up)).square(), down)


def _launch(left: Tensor, right: Tensor, first: Tensor, second: Tensor, gradient: bool, tiles: list[int]) -> None:
    """Multiply (N, D) by (D, F), both of any strides; see the kernel for `first` and `second`, (N, F) contiguous."""
    import triton

    from nanochat.model.kernels.squared_relu_triton import squared_relu_kernel

    rows, length = left.shape
    columns = right.shape[1]
    high, wide, depth, warps, stages = tiles
    if not rows * columns:
        return
    with torch.cuda.device_of(left):
        squared_relu_kernel[(triton.cdiv(rows, high) * triton.cdiv(columns, wide),)](
            left,
            right,
            first,
            second,
            rows,
            columns,
            length,
            left.stride(0),
            left.stride(1),
            right.stride(0),
            right.stride(1),
            GRADIENT=gradient,
            EVEN=rows % high == 0 and columns % wide == 0 and length % depth == 0,
            WIDEN=not left.is_cuda,
            ROWS=high,
            COLUMNS=wide,
            DEPTH=depth,
            num_warps=warps,
            num_stages=stages,
        )


@torch.library.custom_op("nanochat::squared_relu_linear", mutates_args=())
def _linear(x: Tensor, weight: Tensor, tiles: list[int]) -> tuple[Tensor, Tensor]:
    hidden = x.new_empty(x.shape[0], weight.shape[0])
    activation = torch.empty_like(hidden)
    _launch(x, weight.mT, hidden, activation, False, tiles)
    return hidden, activation


@_linear.register_fake
def _(x: Tensor, weight: Tensor, tiles: list[int]) -> tuple[Tensor, Tensor]:
    shape = x.shape[0], weight.shape[0]
    return x.new_empty(shape), x.new_empty(shape)


@torch.library.custom_op("nanochat::squared_relu_gradient", mutates_args=())
def _gradient(gradient: Tensor, weight: Tensor, hidden: Tensor, tiles: list[int]) -> Tensor:
    result = torch.empty_like(hidden, memory_format=torch.contiguous_format)
    _launch(gradient, weight, result, hidden.contiguous(), True, tiles)
    return result


@_gradient.register_fake
def _(gradient: Tensor, weight: Tensor, hidden: Tensor, tiles: list[int]) -> Tensor:
    return torch.empty_like(hidden, memory_format=torch.contiguous_format)


def _checked(left: Tensor, right: Tensor, inner: tuple[int, int], tiles: Tiles | None) -> list[int]:
    if left.dim() != 2 or right.dim() != 2 or left.dtype not in _TYPES or left.dtype != right.dtype:
        raise ValueError(
            f"{left.dtype} of shape {tuple(left.shape)} with {right.dtype} of shape {tuple(right.shape)}: expected"
            " two matrices of one type, bfloat16 or float32"
        )
    if inner[0] != inner[1]:
        raise ValueError(f"shapes {tuple(left.shape)} and {tuple(right.shape)} do not fit: {inner[0]} ≠ {inner[1]}")
    return list(tiles or product_tiles(shared_memory(left.device), left.dtype))


def squared_relu_linear(x: Tensor, weight: Tensor, *, tiles: Tiles | None = None) -> tuple[Tensor, Tensor]:
    """relu(x · weightᵀ) and its square, from one product with float32 sums.

    The square is taken of the rounded relu, so it can be made again from the first result to the last bit.

    Args:
        x: (N, D) bfloat16 or float32, of any strides.
        weight: (F, D) of the same type.
        tiles: to be used instead of the device's own.

    Returns:
        Two (N, F) tensors of that type: hidden and activation.

    Raises:
        ValueError: if types or shapes do not fit.
    """
    sizes = _checked(x, weight, (x.shape[-1], weight.shape[-1]), tiles)
    hidden, activation = _linear(x, weight, sizes)
    return hidden, activation


def squared_relu_gradient(gradient: Tensor, weight: Tensor, hidden: Tensor, *, tiles: Tiles | None = None) -> Tensor:
    """2 · hidden · (gradient · weight): the gradient before the relu, from that after the lower product.

    Args:
        gradient: (N, D) bfloat16 or float32, of any strides.
        weight: (D, F), the lower weights, of the same type.
        hidden: (N, F), first result of `squared_relu_linear`.
        tiles: to be used instead of the device's own.

    Returns:
        (N, F) of that type.

    Raises:
        ValueError: if types or shapes do not fit.
    """
    sizes = _checked(gradient, weight, (gradient.shape[-1], weight.shape[0]), tiles)
    if hidden.shape != (gradient.shape[0], weight.shape[1]) or hidden.dtype != gradient.dtype:
        raise ValueError(
            f"hidden states: {hidden.dtype} of shape {tuple(hidden.shape)}, expected {gradient.dtype} of shape"
            f" {(gradient.shape[0], weight.shape[1])}"
        )
    return _gradient(gradient, weight, hidden, sizes)


class _SquaredReluMLP(torch.autograd.Function):
    """The MLP; keeps (N, F) twice for the backward pass, as the plain form does."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, up: Tensor, down: Tensor) -> Tensor:
        flat = x.flatten(0, -2)
        hidden, activation = squared_relu_linear(flat, up)
        ctx.save_for_backward(flat, up, down, hidden, activation)
        return F.linear(activation, down).view(*x.shape[:-1], down.shape[0])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, up, down, hidden, activation = ctx.saved_tensors
        flat = gradient.flatten(0, -2)
        x_gradient = up_gradient = down_gradient = None
        if ctx.needs_input_grad[0] or ctx.needs_input_grad[1]:
            hidden_gradient = squared_relu_gradient(flat, down, hidden)
            if ctx.needs_input_grad[0]:
                x_gradient = (hidden_gradient @ up).view(*gradient.shape[:-1], up.shape[1])
            if ctx.needs_input_grad[1]:
                up_gradient = hidden_gradient.mT @ x
        if ctx.needs_input_grad[2]:
            down_gradient = flat.mT @ activation
        return x_gradient, up_gradient, down_gradient


def squared_relu_mlp(x: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """relu(x · upᵀ)² · downᵀ, differentiable once in all three.

    Args:
        x: (…, D) bfloat16 or float32, at least two dimensions.
        up: (F, D) of the same type; cast float32 master weights before, autograd then returns float32 gradients.
        down: (E, F) of the same type.

    Returns:
        (…, E) of that type.

    Raises:
        ValueError: if types or shapes do not fit.
    """
    return _SquaredReluMLP.apply(x, up, down)
