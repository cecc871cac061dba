"""Pretrain 50 steps as one of several ranks: `ranks_worker.py DATA OUT [step to die at]`; rows per rank differ."""

import json
import os
import signal
import sys
from pathlib import Path

import torch

from nanochat.config import BaseSettings, ModelSettings
from nanochat.config.stages import BaseStage
from nanochat.model.gpt import GPT
from nanochat.model.scaling import base_plan, model_config
from nanochat.optim.sharded import MuonAdamW
from nanochat.runtime import World
from nanochat.train import pretrain
from nanochat.train.execution import Execution

# The dial's own rates, weight decay and clipping; no warm-up, which would make it easier.
SETTINGS = BaseStage(
    depth=2,
    model=ModelSettings(sequence_length=128, aspect_ratio=32, head_dim=32, precision="float32"),
    base=BaseSettings(steps=50, total_batch_size=1024, eval_every=50, eval_tokens=2048, grad_clip=1.0),
)
DEVICE_BATCH = {1: 3, 2: 4, 4: 1}
"""Ranks → rows of a micro-batch: 3 + 3 + 2, 4, 1 + 1, so that no gradient is summed in the same order."""


def optimizer_bytes(world: World, vocab_size: int) -> int:
    """Optimizer state that this rank holds for the model."""
    model = GPT(model_config(SETTINGS.depth, SETTINGS.model, vocab_size))
    plan = base_plan(SETTINGS.depth, SETTINGS.model, SETTINGS.base, vocab_size)
    return MuonAdamW(model.parameter_groups(), plan, world, dtype=torch.float32).state_bytes


def die_at(step: int) -> None:
    """End this process without warning in the update of a 1-based step, its gradients being reduced."""
    update = MuonAdamW.step

    def dying(self: MuonAdamW, *arguments: object, **options: object) -> None:
        if self.steps + 1 == step:
            os.kill(os.getpid(), signal.SIGKILL)
        update(self, *arguments, **options)

    MuonAdamW.step = dying


def run(data: Path, out: Path) -> None:
    """Pretrain on `data`, as conftest.tiny_data made it; leave the bytes each rank held in OUT.json."""
    with World.open("cpu") as world:
        held = world.gather_objects(optimizer_bytes(world, 384))
        if world.is_main:
            (out.parent / f"{out.name}.json").write_text(json.dumps(held))
        pretrain.run(
            SETTINGS,
            out=out,
            tokenizer=data / "tokenizer",
            train_tokens=[data / "train"],
            val_tokens=[data / "val"],
            execution=Execution(device_batch_size=DEVICE_BATCH[world.size], checkpoint_steps=20),
            world=world,
            sample_prompts=("Anna lives in",),
        )


if __name__ == "__main__":
    torch.set_num_threads(1)
    if len(sys.argv) > 3:
        die_at(int(sys.argv[3]))
    run(Path(sys.argv[1]), Path(sys.argv[2]))
