"""The kernel of `cross_entropy`; importing this module needs Triton."""

import triton
import triton.language as tl


@triton.jit
def _tanh_and_slope(y: tl.tensor) -> tuple[tl.tensor, tl.tensor]:
    """tanh(y) and 1 - tanh²(y), both to a few units in the last place of float32, without overflow."""
    size = tl.abs(y)
    decay = tl.exp(-2.0 * size)
    share = 1.0 / (1.0 + decay)
    far = (1.0 - decay) * share
    far = tl.where(y < 0, -far, far)
    # Near 0 the difference above loses digits; there four terms of the Taylor series are exact to float32.
    square = y * y
    series = -1 / 3 + square * (2 / 15 + square * (-17 / 315 + square * (62 / 2835)))
    near = y + y * square * series
    # The slope as a product keeps its digits where tanh is all but 1.
    return tl.where(size < 0.25, near, far), 4.0 * decay * share * share


@triton.jit
def capped_cross_entropy_kernel(
    logits: tl.tensor,
    targets: tl.tensor,
    weights: tl.tensor,
    losses: tl.tensor,
    row_stride: tl.tensor,
    vocabulary: tl.tensor,
    softcap: tl.tensor,
    inverse_softcap: tl.tensor,
    GRADIENT: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """One row of logits per program: a pass for the loss, then a pass that writes the gradient over them."""
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(targets + row)
    logits += row * row_stride
    lanes = tl.arange(0, BLOCK)
    if target == -1:
        tl.store(losses + row, 0.0)
        if GRADIENT:
            for start in range(0, vocabulary, BLOCK):
                columns = start + lanes
                tl.store(logits + columns, tl.zeros((BLOCK,), logits.dtype.element_ty), mask=columns < vocabulary)
    else:
        exponentials = tl.zeros((BLOCK,), tl.float32)
        # The target's logit is picked from the lanes rather than loaded: nothing then reads what another thread may
        # already have overwritten.
        picked = tl.zeros((BLOCK,), tl.float32)
        for start in range(0, vocabulary, BLOCK):
            columns = start + lanes
            inside = columns < vocabulary
            y = tl.load(logits + columns, mask=inside, other=0.0).to(tl.float32) * inverse_softcap
            tanh, _ = _tanh_and_slope(y)
            capped = softcap * tanh
            exponentials += tl.where(inside, tl.exp(capped), 0.0)
            picked += tl.where(columns == target, capped, 0.0)
        total = tl.sum(exponentials, axis=0)
        loss = tl.log(total) - tl.sum(picked, axis=0)
        known = (target >= 0) & (target < vocabulary)
        tl.store(losses + row, tl.where(known, loss, float("nan")))
        if GRADIENT:
            weight = tl.load(weights + row)
            factor = weight / total
            for start in range(0, vocabulary, BLOCK):
                columns = start + lanes
                inside = columns < vocabulary
                y = tl.load(logits + columns, mask=inside, other=0.0).to(tl.float32) * inverse_softcap
                tanh, slope = _tanh_and_slope(y)
                gradient = tl.exp(softcap * tanh) * factor - tl.where(columns == target, weight, 0.0)
                tl.store(logits + columns, (gradient * slope).to(logits.dtype.element_ty), mask=inside)
