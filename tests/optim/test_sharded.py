import pytest
import torch

from nanochat.config import BaseSettings, ModelSettings
from nanochat.model.gpt import GPT
from nanochat.model.scaling import base_plan, model_config
from nanochat.optim.sharded import MuonAdamW
from nanochat.runtime import World

MODEL = ModelSettings(sequence_length=32, aspect_ratio=16, head_dim=16)
PLAN = base_plan(4, MODEL, BaseSettings(steps=4, total_batch_size=64), 64)


def world(size: int = 1) -> World:
    return World(0, 0, size, torch.device("cpu"))


def make(size: int = 1) -> tuple[GPT, MuonAdamW]:
    model = GPT(model_config(4, MODEL, 64))
    model.init_weights(0)
    return model, MuonAdamW(model.parameter_groups(), PLAN, world(size), dtype=torch.float32)


def step(model: GPT, optimizer: MuonAdamW, seed: int, scale: float = 1.0) -> float:
    x = torch.randint(0, 64, (2, 33), generator=torch.Generator().manual_seed(seed))
    optimizer.zero_grad()
    loss, _ = model.weighted_loss(x[:, :-1], x[:, 1:], torch.full((2, 32), 1 / 64))
    loss.backward()
    norm = float(optimizer.reduce())
    optimizer.step(1.0, 0.9, scale)
    return norm


def test_the_norm_is_that_of_all_gradients():
    model, optimizer = make()
    norm = step(model, optimizer, 0)
    again, second = make()
    x = torch.randint(0, 64, (2, 33), generator=torch.Generator().manual_seed(0))
    second.zero_grad()
    again.weighted_loss(x[:, :-1], x[:, 1:], torch.full((2, 32), 1 / 64))[0].backward()
    assert norm == pytest.approx(float(torch.stack([p.grad.norm() for p in again.parameters()]).norm()), rel=1e-5)


def test_every_parameter_moves_and_stays_where_the_model_sees_it():
    model, optimizer = make()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    # Projections start at zero: what stands before them gets a gradient from the second step on.
    for seed in range(3):
        step(model, optimizer, seed)
    assert all(not torch.equal(before[name], p) for name, p in model.named_parameters())


def test_state_comes_back_exactly():
    model, optimizer = make()
    for seed in range(2):
        step(model, optimizer, seed)
    other, resumed = make()
    other.load_state_dict(model.state_dict())
    resumed.load_state_dict({name: value.clone() for name, value in optimizer.state_dict().items()})
    for seed in range(2, 4):
        step(model, optimizer, seed)
        step(other, resumed, seed)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    assert resumed.steps == 4


def test_clipping_scales_the_gradient():
    model, optimizer = make()
    other, clipped = make()
    step(model, optimizer, 0)
    step(other, clipped, 0, scale=0.5)
    first, second = optimizer.state_dict(), clipped.state_dict()
    assert torch.allclose(0.5 * first["head.weight.average"], second["head.weight.average"])


@pytest.mark.parametrize("ranks", [2, 4])
def test_a_rank_holds_its_share_of_the_state(ranks):
    whole, share = make()[1].state_bytes, make(ranks)[1].state_bytes
    assert share == pytest.approx(whole / ranks, rel=0.05)
