"""The kernel of `squared_relu`; importing this module needs Triton."""

import triton
import triton.language as tl

# Rows of tiles whose programs run side by side, so that they find each other's columns in the L2 cache.
_GROUP = tl.constexpr(8)


@triton.jit
def squared_relu_kernel(
    left: tl.tensor,
    right: tl.tensor,
    first: tl.tensor,
    second: tl.tensor,
    size: tl.tensor,
    width: tl.tensor,
    length: tl.tensor,
    left_row_stride: tl.tensor,
    left_column_stride: tl.tensor,
    right_row_stride: tl.tensor,
    right_column_stride: tl.tensor,
    GRADIENT: tl.constexpr,
    EVEN: tl.constexpr,
    WIDEN: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
) -> None:
    """One tile of (size, length) · (length, width).

    Writes relu of the product to `first` and its square to `second`; with GRADIENT, twice the product times what
    `second` holds to `first`.
    """
    place = tl.program_id(0)
    down = tl.cdiv(size, ROWS)
    across = tl.cdiv(width, COLUMNS)
    group = place // (_GROUP * across)
    high = tl.minimum(down - group * _GROUP, _GROUP)
    within = place % (_GROUP * across)
    rows = (group * _GROUP + within % high) * ROWS + tl.arange(0, ROWS)
    columns = (within // high) * COLUMNS + tl.arange(0, COLUMNS)
    steps = tl.arange(0, DEPTH)
    left_places = left + rows.to(tl.int64)[:, None] * left_row_stride + steps[None, :] * left_column_stride
    right_places = right + steps[:, None] * right_row_stride + columns.to(tl.int64)[None, :] * right_column_stride
    sums = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(0, length, DEPTH):
        if EVEN:
            a = tl.load(left_places)
            b = tl.load(right_places)
        else:
            inside = start + steps < length
            a = tl.load(left_places, mask=(rows < size)[:, None] & inside[None, :], other=0.0)
            b = tl.load(right_places, mask=(columns < width)[None, :] & inside[:, None], other=0.0)
        if WIDEN:
            # The interpreter multiplies the bit patterns of bfloat16; in float32 the products are those of a GPU.
            a = a.to(tl.float32)
            b = b.to(tl.float32)
        sums = tl.dot(a, b, sums, input_precision="ieee")
        left_places += DEPTH * left_column_stride
        right_places += DEPTH * right_row_stride

    places = rows.to(tl.int64)[:, None] * width + columns[None, :]
    inside = (rows < size)[:, None] & (columns < width)[None, :]
    if GRADIENT:
        hidden = tl.load(second + places, mask=inside, other=0.0).to(tl.float32)
        tl.store(first + places, (2.0 * sums * hidden).to(first.dtype.element_ty), mask=inside)
    else:
        # A comparison, since a maximum would turn NaN into 0 and hide it.
        hidden = tl.where(sums < 0, 0.0, sums).to(first.dtype.element_ty)
        tl.store(first + places, hidden, mask=inside)
        rounded = hidden.to(tl.float32)
        tl.store(second + places, (rounded * rounded).to(second.dtype.element_ty), mask=inside)
