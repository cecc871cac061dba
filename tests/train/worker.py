"""Pretrain a tiny model in a process of its own, which can be told to die: `worker.py DATA OUT [what step]`."""

import dataclasses
import os
import signal
import sys
from pathlib import Path

import torch

from nanochat.artifact import Manifest
from nanochat.config import BaseSettings, ModelSettings
from nanochat.config.stages import BaseStage
from nanochat.runtime import World
from nanochat.train import checkpoint, prefetch, pretrain
from nanochat.train.execution import Execution

SETTINGS = BaseStage(
    depth=2,
    model=ModelSettings(sequence_length=64, aspect_ratio=16, head_dim=16, precision="float32"),
    base=BaseSettings(
        steps=8,
        total_batch_size=512,
        eval_every=4,
        eval_tokens=2048,
        grad_clip=1.0,
        # Gentle rates: ranks and micro-batches are compared, and large steps blow rounding up.
        embedding_lr=0.2,
        scalar_lr=0.05,
    ),
)
EXECUTION = Execution(device_batch_size=3, checkpoint_steps=2)


def run(data: Path, out: Path, execution: Execution = EXECUTION, settings: BaseStage = SETTINGS) -> Manifest:
    """Pretrain on `data`, as conftest.tiny_data made it."""
    with World.open("cpu") as world:
        return pretrain.run(
            settings,
            out=out,
            tokenizer=data / "tokenizer",
            train_tokens=[data / "train"],
            val_tokens=[data / "val"],
            execution=execution,
            world=world,
            sample_prompts=("Anna lives in",),
        )


def send_at(step: int, number: int, in_save: bool) -> None:
    """Send this process a signal when training asks for the rows of the 0-based `step`, or while a state is written.

    The second is done by the thread that writes, at the end of the file, when `step` / 2 checkpoints are there.
    """
    if in_save:
        original = checkpoint.save_tensors

        def save(path: Path, tensors: dict[str, torch.Tensor]) -> str:
            digest = original(path, tensors)
            if len(list(path.parent.parent.glob("0*"))) == step // 2:
                os.kill(os.getpid(), number)
            return digest

        checkpoint.save_tensors = save
        return
    read = prefetch.Prefetched.read

    def reading(self: prefetch.Prefetched, at: int) -> object:
        if at == step:
            os.kill(os.getpid(), number)
        return read(self, at)

    prefetch.Prefetched.read = reading


if __name__ == "__main__":
    torch.set_num_threads(1)
    what, step = (sys.argv[3], int(sys.argv[4])) if len(sys.argv) > 3 else ("", 0)
    if what == "steps":
        SETTINGS = SETTINGS.model_copy(update={"base": SETTINGS.base.model_copy(update={"steps": step})})
    elif what:
        number = signal.SIGTERM if what == "terminate" else signal.SIGKILL
        send_at(step, number, in_save=what == "kill-in-save")
    ranks = int(os.environ.get("WORLD_SIZE", 1))
    run(Path(sys.argv[1]), Path(sys.argv[2]), dataclasses.replace(EXECUTION, device_batch_size=3 // ranks), SETTINGS)
