"""Products of generation: a handful of rows with weights that are read whole each time.

A library may compute a row of a product differently beside other rows: the last bits of its sums then depend on what
else is in the batch, and with them, now and then, a token. oneDNN's float32 products treat each row alike from four
rows on (measured: bit for bit on AVX-512 from 3 to 2048 rows), and are the faster ones for weights that are not in
the cache. PyTorch takes them only where less than float32 is allowed, so that has to be allowed around the call, and
only where a trial shows that the processor computes in true float32 all the same. For batches of small products it is
the other way round. So each product is made in the way that suits it, whatever the process has chosen for others. A
row on its own is twice as fast in MKL's products with a vector, which equal the others up to rounding: `alone` asks
for them.
"""

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, ParamSpec

import torch
import torch.nn.functional as F
from torch import Tensor

from nanochat.model.pointwise import EPSILON

P = ParamSpec("P")

ROWS = 4
"""Products are computed with multiples of so many rows. oneDNN makes and keeps a program for each number: with fewer of
them, less time and memory go into that (measured: 170 MB of a server's memory, milliseconds at each new number)."""


def _multiplying(precision: Literal["ieee", "bf16"]) -> Callable[[Callable[P, Tensor]], Callable[P, Tensor]]:
    """Allow float32 products on the CPU to be of this precision, and of no other, while the function runs."""

    def decorate(function: Callable[P, Tensor]) -> Callable[P, Tensor]:
        @functools.wraps(function)
        def wrapped(*args: P.args, **kwargs: P.kwargs) -> Tensor:
            matmul = torch.backends.mkldnn.matmul
            before, matmul.fp32_precision = matmul.fp32_precision, precision
            try:
                return function(*args, **kwargs)
            finally:
                matmul.fp32_precision = before

        return wrapped

    return decorate


def _plain(x: Tensor, weight: Tensor, base: Tensor | None) -> Tensor:
    return torch.mm(x, weight) if base is None else torch.addmm(base, x, weight)


_mkl, _onednn = _multiplying("ieee")(_plain), _multiplying("bf16")(_plain)


@functools.cache
def onednn_is_exact() -> bool:
    """Whether oneDNN is there and its products are true float32 here; bfloat16 would be wrong in the third digit."""
    if not torch.backends.mkldnn.is_available():
        return False
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(shape, generator=generator) for shape in ((8, 256), (256, 64)))
    exact = x.double() @ weight.double()
    return bool((_onednn(x, weight, None) - exact).abs().max() < 1e-3)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: what a single row takes is too little to share, and waking others takes longer."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def lay_out(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """A copy of a weight (outputs, inputs) for `product`: (inputs, outputs), its longer side contiguous.

    A product with one row reads long stretches up to four times faster than short ones.
    """
    weight = weight.detach().to(dtype)
    if weight.shape[0] > weight.shape[1]:
        return weight.t().contiguous()
    return weight.contiguous().t()


def product(x: Tensor, weight: Tensor, base: Tensor | None = None, *, alone: bool = False) -> Tensor:
    """X · weight (+ base).

    Args:
        x: (N, inputs).
        weight: (inputs, outputs) of `lay_out`.
        base: (N, outputs), added.
        alone: a single row, as fast as it goes.
    """
    rows = x.shape[0]
    if x.device.type != "cpu" or x.dtype != torch.float32 or not onednn_is_exact():
        return _plain(x, weight, base)
    if alone:
        return _mkl(x, weight, base)
    if missing := -rows % ROWS:
        more = (0, 0, 0, missing)
        return _onednn(F.pad(x, more), weight, None if base is None else F.pad(base, more))[:rows]
    return _onednn(x, weight, base)


@_multiplying("ieee")
def attend_one(
    q: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scale: float, *, alone: bool = False
) -> Tensor:
    """Attention of one query per row.

    On a CPU as plain products of vectors: as fast as the fused kernel, and each row's sums are its
    own, whatever the batch and however many masked places follow, as long as `places` is a multiple of 16 (vectors
    without a rest) and at least 64 (PyTorch computes products of less than 400 multiplications in another way).

    Args:
        q: (rows, heads, head_dim).
        keys: (rows, kv_heads, places, head_dim); kv_heads divides heads.
        values: alike.
        mask: additive, (rows, 1, 1, places), or None.
        scale: factor on q·k.
        alone: a single row, as fast as it goes.

    Returns:
        (rows, heads * head_dim).
    """
    rows, heads, size = q.shape
    kv_heads = keys.shape[1]
    if q.device.type != "cpu" or alone:
        out = F.scaled_dot_product_attention(
            q.unsqueeze(2), keys, values, attn_mask=mask, scale=scale, enable_gqa=heads != kv_heads
        )
        return out.reshape(rows, heads * size)
    keys, values = (x.flatten(0, 1) for x in (keys, values))
    # One query at a time for each key head: several in one product would be summed in another order.
    mixed = []
    for part in q.view(rows, kv_heads, heads // kv_heads, size).unbind(2):
        scores = torch.bmm(part.reshape(-1, 1, size), keys.transpose(1, 2)).mul_(scale)
        if mask is not None:
            scores.view(rows, kv_heads, 1, -1).add_(mask)
        mixed.append(torch.bmm(torch.softmax(scores, dim=-1), values).view(rows, kv_heads, size))
    return (mixed[0] if len(mixed) == 1 else torch.stack(mixed, dim=2)).reshape(rows, heads * size)


@_multiplying("ieee")
def attend_many(q: Tensor, keys: Tensor, values: Tensor, mask: Tensor, scale: float) -> Tensor:
    """Attention of several queries per row; on CPUs in plain products, whose sums do not depend on the batch.

    Args:
        q: (rows, T, heads, head_dim).
        keys: (rows, kv_heads, places, head_dim); kv_heads divides heads.
        values: alike.
        mask: additive, (T, places).
        scale: factor on q·k.

    Returns:
        (rows, T, heads * head_dim).
    """
    q = q.transpose(1, 2)
    shares = q.shape[1] // keys.shape[1]
    if q.device.type != "cpu":
        out = F.scaled_dot_product_attention(q, keys, values, attn_mask=mask, scale=scale, enable_gqa=shares > 1)
    else:
        keys, values = (x.repeat_interleave(shares, dim=1) if shares > 1 else x for x in (keys, values))
        scores = torch.matmul(q, keys.transpose(-1, -2)).mul_(scale).add_(mask)
        out = torch.matmul(torch.softmax(scores, dim=-1), values)
    return out.transpose(1, 2).flatten(2)


def normalised(x: Tensor) -> Tensor:
    """RMSNorm over the last dimension, without weights.

    On CPUs with fewer launches than the library's, a fifth of the time of a step with one row: the root of the mean of
    the squares and epsilon is a hypotenuse.

    Args:
        x: (…, width).
    """
    width = x.shape[-1]
    if x.device.type != "cpu" or x.dtype != torch.float32:
        return F.rms_norm(x, (width,), eps=EPSILON)
    size = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / torch.hypot(size, size.new_full((), math.sqrt(width * EPSILON))).mul_(1 / math.sqrt(width))
