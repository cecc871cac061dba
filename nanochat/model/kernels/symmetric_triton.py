"""The kernel of `symmetric`; importing this module needs Triton."""

import triton
import triton.language as tl


@triton.jit
def symmetric_product_kernel(
    x: tl.tensor,
    result: tl.tensor,
    size: tl.tensor,
    length: tl.tensor,
    stack_stride: tl.tensor,
    row_stride: tl.tensor,
    column_stride: tl.tensor,
    b: tl.tensor,
    c: tl.tensor,
    POLYNOMIAL: tl.constexpr,
    EVEN: tl.constexpr,
    WIDEN: tl.constexpr,
    BLOCK: tl.constexpr,
    DEPTH: tl.constexpr,
) -> None:
    """One tile of c · x · xᵀ (POLYNOMIAL: + b · x) on or below the diagonal, and its mirror image."""
    # The rows of tiles below the diagonal have 1, 2, … tiles. A long row and a short one are laid end to end, so that
    # all pairs are equally long and the place of a tile takes whole-number arithmetic only.
    place = tl.program_id(0)
    across = tl.cdiv(size, BLOCK)
    odd = across % 2
    pair = place // (across + 1 - odd)
    step = place % (across + 1 - odd)
    longer = step < across - pair
    i = tl.where(longer, across - 1 - pair, pair - odd)
    j = tl.where(longer, step, step - (across - pair))

    stack = tl.program_id(1).to(tl.int64)
    x += stack * stack_stride
    result += stack * size * size
    rows = i * BLOCK + tl.arange(0, BLOCK)
    columns = j * BLOCK + tl.arange(0, BLOCK)
    steps = tl.arange(0, DEPTH)
    row_offsets = rows.to(tl.int64) * row_stride
    column_offsets = columns.to(tl.int64) * row_stride
    left_places = x + row_offsets[:, None] + steps[None, :] * column_stride
    right_places = x + column_offsets[None, :] + steps[:, None] * column_stride
    sums = tl.zeros((BLOCK, BLOCK), tl.float32)
    for start in range(0, length, DEPTH):
        if EVEN:
            left = tl.load(left_places)
            right = tl.load(right_places)
        else:
            inside = start + steps < length
            left = tl.load(left_places, mask=(rows < size)[:, None] & inside[None, :], other=0.0)
            right = tl.load(right_places, mask=(columns < size)[None, :] & inside[:, None], other=0.0)
        if WIDEN:
            # The interpreter multiplies the bit patterns of bfloat16; in float32 the products are those of a GPU.
            left = left.to(tl.float32)
            right = right.to(tl.float32)
        sums = tl.dot(left, right, sums, input_precision="ieee")
        left_places += DEPTH * column_stride
        right_places += DEPTH * column_stride

    inside = (rows < size)[:, None] & (columns < size)[None, :]
    sums *= c
    if POLYNOMIAL:
        same = x + row_offsets[:, None] + columns[None, :] * column_stride
        sums += b * tl.load(same, mask=inside, other=0.0).to(tl.float32)
    tile = sums.to(result.dtype.element_ty)
    tl.store(result + rows[:, None] * size + columns[None, :], tile, mask=inside)
    # A tile on the diagonal is its own mirror image; writing it twice would be a race.
    if i != j:
        tl.store(result + columns[None, :] * size + rows[:, None], tile, mask=inside)
