"""How a stage runs on this machine: nothing in here changes what it makes."""

from dataclasses import dataclass
from typing import Literal

from nanochat.config import WandbSettings


@dataclass(frozen=True)
class Execution:
    """The part of a stage's arguments that is not in its settings.

    Attributes:
        device_batch_size: rows in one forward pass of one rank; `auto`: as many as fit the memory; halved on
            out-of-memory.
        activation_checkpointing: whether blocks are computed again in the backward pass; see `ExecutionSettings`.
        checkpoint_steps: steps between step checkpoints; None leaves it to the clock.
        checkpoint_minutes: minutes between step checkpoints.
        keep_checkpoints: step checkpoints kept.
        compile: whether training is compiled; see `ExecutionSettings`.
        wandb: with `mode` resolved to online, offline or disabled.
        run: name of the run, for wandb.
    """

    device_batch_size: int | Literal["auto"] = "auto"
    activation_checkpointing: Literal["auto", "always", "never"] = "auto"
    checkpoint_steps: int | None = None
    checkpoint_minutes: float = 10.0
    keep_checkpoints: int = 2
    compile: Literal["auto", "always", "never"] = "auto"
    wandb: WandbSettings = WandbSettings(mode="disabled")  # noqa: RUF009 (frozen)
    run: str = "run"
