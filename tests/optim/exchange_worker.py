"""Steps of the optimizer as one of several ranks, with all that can happen to their order: `exchange_worker.py OUT`.

Each rank has one micro-batch of its own, so that the sum over ranks, made in pairs, is what one process accumulates.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from nanochat.config import BaseSettings, ModelSettings
from nanochat.model.gpt import GPT
from nanochat.model.scaling import base_plan, model_config
from nanochat.optim.sharded import MuonAdamW
from nanochat.runtime import World

MODEL = ModelSettings(sequence_length=32, aspect_ratio=16, head_dim=16)
PLAN = base_plan(4, MODEL, BaseSettings(steps=4, total_batch_size=64), 64)
RANKS = 3
IDLE_STEP = 2
"""In this 0-based step only the first rank has rows, as in RL, where rewards can be equal in all of a rank's groups."""


def start(world: World, **options: int) -> tuple[GPT, MuonAdamW]:
    """A model and its optimizer."""
    model = GPT(model_config(4, MODEL, 64))
    model.init_weights(0)
    return model, MuonAdamW(model.parameter_groups(), PLAN, world, dtype=torch.float32, **options)


def backward(model: GPT, step: int, rank: int) -> None:
    """Add the gradient of a rank's rows."""
    if step == IDLE_STEP and rank:
        return
    x = torch.randint(0, 64, (2, 33), generator=torch.Generator().manual_seed(100 * step + rank))
    model.weighted_loss(x[:, :-1], x[:, 1:], torch.full((2, 32), 1 / 64))[0].backward()


def steps(model: GPT, optimizer: MuonAdamW, world: World, repeat_on: int | None = None) -> list[float]:
    """Four steps; returns the norms of the gradients. In the second, rank `repeat_on` makes its passes twice."""
    norms = []
    for step in range(4):
        optimizer.zero_grad()
        optimizer.expect_last()
        backward(model, step, world.rank)
        if step == 1 and world.rank == repeat_on:
            # As after running out of memory at the very end of a backward pass.
            optimizer.zero_grad()
            optimizer.expect_last()
            backward(model, step, world.rank)
        begun = sum(part.slab.begun for part in optimizer._parts)
        expected = 0 if step == IDLE_STEP and world.rank else len(optimizer._parts)
        assert begun == expected, f"rank {world.rank}, step {step}: {begun} sums begun in the backward pass"
        norms.append(float(optimizer.reduce()))
        optimizer.step(1.0, 0.9, 0.5, wait=False)
        optimizer.wait()
    return norms


if __name__ == "__main__":
    torch.set_num_threads(1)
    out = Path(sys.argv[1])
    with World.open("cpu") as world:
        for name, options, repeat_on in (("whole", {}, None), ("cut", {"bucket_bytes": 1}, None), ("again", {}, 1)):
            model, optimizer = start(world, **options)
            norms = torch.tensor(steps(model, optimizer, world, repeat_on), dtype=torch.float64)
            save_file({"norms": norms} | model.state_dict(), out / f"{name}-{world.rank}.safetensors")
            state = optimizer.state_dict()
            if world.is_main:
                save_file(state, out / f"{name}-state.safetensors")
            again = start(world, **options)[1]
            again.load_state_dict(state)
            ours, theirs = ([part.state for part in each._parts] for each in (optimizer, again))
            assert all(torch.equal(a[kind], b[kind]) for a, b in zip(ours, theirs) for kind in a)
