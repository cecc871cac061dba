"""Products whose result is symmetric, at half the work: what the steps of Muon's orthogonalisation are made of.

Only tiles on and below the diagonal are computed; each is written to its place and, mirrored, to the other side.
"""

import torch
from torch import Tensor

from nanochat.model.kernels.tiles import Tiles, shared_memory, square_tiles


def gram_plain(x: Tensor) -> Tensor:
    """Twin of `gram` in plain torch."""
    return x @ x.mT


def symmetric_polynomial_plain(gram: Tensor, b: float, c: float) -> Tensor:
    """Twin of `symmetric_polynomial` in plain torch."""
    return torch.baddbmm(gram, gram, gram, beta=b, alpha=c)


@torch.library.custom_op("nanochat::symmetric_product", mutates_args=())
def _symmetric_product(x: Tensor, polynomial: bool, b: float, c: float, tiles: list[int]) -> Tensor:
    import triton

    from nanochat.model.kernels.symmetric_triton import symmetric_product_kernel

    count, rows, columns = x.shape
    result = x.new_empty(count, rows, rows)
    block, _, depth, warps, stages = tiles
    across = triton.cdiv(rows, block)
    if result.numel():
        with torch.cuda.device_of(x):
            symmetric_product_kernel[(across * (across + 1) // 2, count)](
                x,
                result,
                rows,
                columns,
                x.stride(0),
                x.stride(1),
                x.stride(2),
                b,
                c,
                POLYNOMIAL=polynomial,
                EVEN=rows % block == 0 and columns % depth == 0,
                WIDEN=not x.is_cuda,
                BLOCK=block,
                DEPTH=depth,
                num_warps=warps,
                num_stages=stages,
            )
    return result


@_symmetric_product.register_fake
def _(x: Tensor, polynomial: bool, b: float, c: float, tiles: list[int]) -> Tensor:
    return x.new_empty(x.shape[0], x.shape[1], x.shape[1])


def _checked(x: Tensor, tiles: Tiles | None) -> list[int]:
    if x.dtype not in (torch.bfloat16, torch.float32) or x.dim() != 3:
        raise ValueError(f"{x.dtype} of shape {tuple(x.shape)}: expected (K, n, m) bfloat16 or float32")
    tiles = tiles or square_tiles(shared_memory(x.device), x.dtype)
    if tiles.rows != tiles.columns:
        raise ValueError(f"tiles of {tiles.rows} × {tiles.columns}: expected as many columns as rows, to be mirrored")
    return list(tiles)


def gram(x: Tensor, *, tiles: Tiles | None = None) -> Tensor:
    """Gram matrix x · xᵀ of each matrix of a stack, summed in float32; float32 input is multiplied in full precision.

    Args:
        x: (K, n, m) bfloat16 or float32, of any strides (a transposed view needs no copy).
        tiles: to be used instead of the device's own.

    Returns:
        (K, n, n) of the same type, contiguous.

    Raises:
        ValueError: if the type or the number of dimensions is another.
    """
    return _symmetric_product(x, False, 0.0, 1.0, _checked(x, tiles))


def symmetric_polynomial(gram: Tensor, b: float, c: float, *, tiles: Tiles | None = None) -> Tensor:
    """Even polynomial b · G + c · G · G of each symmetric matrix G of a stack, rounded once.

    Args:
        gram: (K, n, n) symmetric, which is not checked: what is computed is b · G + c · G · Gᵀ on and below the
            diagonal.
        b: factor of the matrix.
        c: factor of its square.
        tiles: to be used instead of the device's own.

    Returns:
        (K, n, n) of the same type, contiguous.

    Raises:
        ValueError: if the type or the shape is another.
    """
    sizes = _checked(gram, tiles)
    if gram.shape[1] != gram.shape[2]:
        raise ValueError(f"matrices of shape {tuple(gram.shape[1:])}: expected square, symmetric ones")
    return _symmetric_product(gram, True, b, c, sizes)
