"""Training compiled: the same model as without, for every way micro-batches may be cut."""

import numpy as np
import pytest
import torch
import torch._dynamo.testing

from nanochat.config import BaseSettings, ModelSettings
from nanochat.data.packing import Batch
from nanochat.model.gpt import GPT
from nanochat.model.scaling import base_plan, model_config
from nanochat.optim.sharded import MuonAdamW
from nanochat.runtime import World
from nanochat.train import acceleration
from nanochat.train.accumulate import accumulate

ALONE = World(0, 0, 1, torch.device("cpu"))
MODEL = ModelSettings(sequence_length=64, aspect_ratio=16, head_dim=16, precision="float32")
PLAN = base_plan(2, MODEL, BaseSettings(steps=4, total_batch_size=512), 64)


def rows(count: int, weighted: bool = False) -> Batch:
    chance = np.random.default_rng(count)
    ids = chance.integers(0, 64, (count, 65)).astype(np.int32)
    segments = np.repeat(np.arange(2, dtype=np.int32)[None], count, 0).repeat(32, axis=1)
    weights = chance.normal(size=(count, 64)).astype(np.float32) if weighted else None
    return Batch(ids[:, :-1], ids[:, 1:].copy(), segments, weights)


@pytest.fixture
def counter(monkeypatch):
    """Compile with what captures graphs but leaves machine code out, and count the graphs."""
    made = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    original = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function, **options: original(function, backend=made, **options))
    torch._dynamo.reset()
    return made


def trained(how: str, recompute: bool = False) -> tuple[dict[str, torch.Tensor], GPT]:
    model = GPT(model_config(2, MODEL, 64))
    model.init_weights(0)
    model.recompute = recompute
    acceleration.accelerate(model, how)
    optimizer = MuonAdamW(model.parameter_groups(), PLAN, ALONE, dtype=model.dtype)
    # Whole micro-batches, a smaller last one, and RL's: few rows, with weights.
    for batch in (rows(8), rows(7), rows(3, weighted=True), rows(8)):
        accumulate(model, optimizer, batch, 100.0, 4)
        optimizer.reduce()
        optimizer.step(1.0, 0.9)
    return model.state_dict(), model


@pytest.mark.parametrize("recompute", [False, True])
def test_a_compiled_model_learns_the_same(counter, recompute):
    plain, _ = trained("never", recompute)
    compiled, model = trained("always", recompute)
    assert model.compiled
    assert counter.frame_count > 0
    for name in plain:
        assert torch.allclose(plain[name], compiled[name], atol=1e-4), name


def test_there_is_one_program_for_each_of_few_shapes(counter):
    """A resumed run meets shapes in another order: none may get a program that was made for several of them."""
    model = GPT(model_config(2, MODEL, 64))
    model.init_weights(0)
    acceleration.accelerate(model, "always")
    optimizer = MuonAdamW(model.parameter_groups(), PLAN, ALONE, dtype=model.dtype)
    programs = []
    for count in (8, 6, 5, 7, 3, 8, 2, 1):  # micro-batches of 4; of 4 and 2; of 4 and 1; then the same again
        accumulate(model, optimizer, rows(count), 100.0, 4)
        programs.append(counter.frame_count)
    assert programs[0] < programs[1] < programs[2]
    assert programs[2:] == [programs[2]] * 6


def test_filling_up_leaves_loss_and_gradient_alone():
    model = GPT(model_config(2, MODEL, 64))
    model.init_weights(0)
    optimizer = MuonAdamW(model.parameter_groups(), PLAN, ALONE, dtype=model.dtype)
    found = []
    for compiled in (False, True):
        model.compiled = compiled  # only fills up: nothing is compiled here
        loss, size = accumulate(model, optimizer, rows(7, weighted=True), 100.0, 4)
        found.append([loss, *(p.grad.clone() for p in model.parameters())])
        assert size == 4
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(*found, strict=True))


def test_a_cpu_does_not_compile_by_itself():
    model = GPT(model_config(2, MODEL, 64))
    acceleration.accelerate(model, "auto")
    assert not model.compiled
