"""Bits per byte: a validation loss that does not depend on the tokenizer."""

import math
from dataclasses import dataclass

import numpy as np
import torch

from nanochat.data.packing import RowSource
from nanochat.model.gpt import GPT
from nanochat.runtime import World


@dataclass(frozen=True)
class Loss:
    """Validation loss over some rows: nats and bytes of the targets, and how many targets."""

    nats: float
    """Of the targets that stand for bytes."""
    bytes: float
    nats_per_token: float
    """Mean over all targets, special tokens included."""
    tokens: int

    @property
    def bits_per_byte(self) -> float:
        """Bits per byte; NaN where no target stands for bytes."""
        return self.nats / (math.log(2) * self.bytes) if self.bytes else math.nan


@torch.inference_mode()
def evaluate_loss(
    model: GPT, source: RowSource, token_bytes: np.ndarray, max_tokens: int, device_batch_size: int, world: World
) -> Loss:
    """Loss over the first rows of `source`, sharded over ranks; equal on all of them.

    Args:
        model: the model.
        source: rows to evaluate on.
        token_bytes: (vocab_size,) UTF-8 bytes of each token, 0 for special ones.
        max_tokens: positions at most; the source is never read beyond its first epoch.
        device_batch_size: rows in one forward pass.
        world: the processes of the launch.
    """
    length = source.sequence_length
    rows = max(1, min(source.rows_per_epoch, max_tokens // length))
    widths = torch.from_numpy(np.ascontiguousarray(token_bytes)).to(model.device, torch.float64)
    sums = torch.zeros(4, dtype=torch.float64, device=model.device)
    mine = range(world.rank * rows // world.size, (world.rank + 1) * rows // world.size)
    for start in range(mine.start, mine.stop, device_batch_size):
        batch = source.read(start, min(device_batch_size, mine.stop - start))
        inputs, targets, segments = (
            torch.from_numpy(np.ascontiguousarray(array)).to(model.device, torch.int64)
            for array in (batch.inputs, batch.targets, batch.segments)
        )
        losses = model.token_losses(inputs, targets, segments)
        losses = losses.double()
        valid = targets >= 0
        sizes = torch.where(valid, widths[targets.clamp(min=0)], 0.0)
        sums += torch.stack((losses[sizes > 0].sum(), sizes.sum(), losses.sum(), valid.double().sum()))
    nats, size, total, count = world.sum_(sums).tolist()
    return Loss(nats, size, total / max(1.0, count), int(count))


def bits_per_byte(
    model: GPT, source: RowSource, token_bytes: np.ndarray, max_tokens: int, device_batch_size: int, world: World
) -> float:
    """Bits per byte of the model on `source`; see `evaluate_loss`.

    Returns:
        Σ loss / (ln 2 · Σ bytes) over targets that stand for bytes.
    """
    return evaluate_loss(model, source, token_bytes, max_tokens, device_batch_size, world).bits_per_byte
