"""The gradient of one step, in micro-batches that fit the memory."""

import logging
from collections.abc import Callable

import numpy as np
import torch

from nanochat.data.packing import Batch
from nanochat.errors import TrainingError
from nanochat.model.gpt import GPT
from nanochat.optim.sharded import MuonAdamW

log = logging.getLogger(__name__)


def _is_out_of_memory(error: RuntimeError) -> bool:
    # CPU allocators raise a plain RuntimeError.
    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in text or "can't allocate memory" in text


def _forward_backward(model: GPT, rows: Batch, valid: float) -> torch.Tensor:
    """Accumulate the gradient of some rows; returns the sum of their unweighted losses, a float64 scalar."""
    device = model.device

    def tensor(array: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
        # Copied as it is, from pinned memory if the rows were prefetched, and converted there.
        return torch.from_numpy(np.ascontiguousarray(array)).to(device, non_blocking=True).to(dtype)

    targets = tensor(rows.targets, torch.int64)
    if rows.weights is None:
        weights = torch.full(targets.shape, 1.0 / valid, device=device)
    else:
        weights = tensor(rows.weights, torch.float32) / valid
    segments = None
    # A compiled model is one program for each shape: with and without segments would be two.
    if model.compiled or (rows.segments != rows.segments[:, :1]).any():
        segments = tensor(rows.segments, torch.int32)
    total, losses = model.weighted_loss(tensor(rows.inputs, torch.int64), targets, weights, segments)
    total.backward()
    return losses.double().sum()


def _micro_batch(rows: Batch, start: int, size: int, padded: bool) -> Batch:
    """Rows start … start + size - 1, as far as there are any.

    Padded, their number is a power of two, so that a compiled model meets few shapes: which program computes a
    micro-batch then depends on its own size only, not on what was computed before.
    """
    part = rows.slice(start, start + size)
    wanted = min(size, 1 << (part.rows - 1).bit_length()) if padded else part.rows
    return part if wanted == part.rows else part.padded_to(wanted)


def accumulate(
    model: GPT,
    optimizer: MuonAdamW,
    rows: Batch,
    valid: float,
    size: int,
    should_stop: Callable[[], bool] | None = None,
) -> tuple[torch.Tensor, int] | None:
    """Make the gradient of a whole step in micro-batches that fit.

    Args:
        model: on its device.
        optimizer: whose gradients are cleared first.
        rows: of this rank, any number of them.
        valid: targets with loss on all ranks; the loss is divided by it.
        size: rows of a micro-batch; halved, and the step repeated, where they do not fit the memory.
        should_stop: asked before each micro-batch; once it says so, the step is abandoned.

    Returns:
        The sum of the unweighted losses of this rank, a float64 scalar on the model's device (nothing waits for it),
        and the size that did fit; None if the step was abandoned.

    Raises:
        TrainingError: if a single row does not fit.
    """
    while True:
        optimizer.zero_grad()
        try:
            total = torch.zeros((), dtype=torch.float64, device=model.device)
            for start in range(0, rows.rows, size):
                if should_stop is not None and should_stop():
                    return None
                if start + size >= rows.rows:
                    optimizer.expect_last()
                total += _forward_backward(model, _micro_batch(rows, start, size, model.compiled), valid)
            return total, size
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
            if size == 1:
                raise TrainingError(
                    f"out of memory with a single row of {rows.inputs.shape[1]} tokens on {model.device}; lower "
                    "model.sequence_length or depth, or use a device with more memory"
                ) from None
        # Outside the handler, whose traceback would keep the tensors alive.
        size //= 2
        if model.device.type == "cuda":
            torch.cuda.empty_cache()
        log.warning("out of memory: device_batch_size is now %d, step repeated", size)
