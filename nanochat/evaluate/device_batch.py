"""Rows that an evaluation computes at a time."""

from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from nanochat.headroom import usable_bytes
from nanochat.model.config import GPTConfig
from nanochat.model.memory import MemorySettings, inference_memory
from nanochat.runtime import World, inference_dtype

MOST_ROWS = 32
"""Fixed wherever it fits, since another number could change the last bit of a logit."""


def evaluation_rows(asked: int | Literal["auto"], model: Path, world: World) -> int:
    """What `device_batch_size` means for an evaluation: as asked, or 32 halved until it fits the memory.

    Args:
        asked: rows, or auto.
        model: checkpoint directory; where it cannot be read, the evaluation will say so.
        world: the ranks; they agree.
    """
    if asked != "auto":
        return asked
    try:
        config = GPTConfig.model_validate_json((model / "model.json").read_text())
    except (OSError, ValidationError):
        return MOST_ROWS
    dtype = str(inference_dtype(config.precision, world.device)).removeprefix("torch.")
    settings = MemorySettings(device=world.device.type, dtype=dtype)
    usable = usable_bytes(world)
    rows = MOST_ROWS
    while rows > 1 and inference_memory(config, rows=rows, settings=settings) > usable:
        rows //= 2
    return rows
