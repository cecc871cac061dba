import pytest
import torch

from nanochat.optim.adamw import adam_update

RATES = {"lr": 0.03, "beta1": 0.8, "beta2": 0.95, "epsilon": 1e-10}


def test_it_is_adam():
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(20, generator=generator)
    reference = torch.nn.Parameter(weights.clone())
    optimizer = torch.optim.Adam([reference], lr=0.03, betas=(0.8, 0.95), eps=1e-10)
    average, square = torch.zeros(20), torch.zeros(20)
    for step in range(1, 6):
        gradients = torch.randn(20, generator=generator)
        reference.grad = gradients.clone()
        optimizer.step()
        adam_update(weights, gradients, average, square, step=step, **RATES)
    assert torch.allclose(weights, reference.detach(), atol=1e-5)


def first_step(gradients: torch.Tensor, **options) -> torch.Tensor:
    weights = torch.zeros_like(gradients)
    state = torch.zeros_like(gradients), torch.zeros_like(gradients)
    adam_update(weights, gradients.clone(), *state, step=1, **RATES, **options)
    return weights


def test_what_is_small_within_its_row_takes_small_steps():
    # One row of small gradients, and a single small one among larger ones.
    gradients = torch.tensor([[1e-6, -1e-6, 1e-6, 1e-6], [1.0, -1.0, 1e-6, 1.0]])
    found = first_step(gradients, row_share=0.03).abs()
    assert torch.allclose(found[0], torch.tensor(0.03), rtol=0.05)
    assert torch.allclose(found[1, [0, 1, 3]], torch.tensor(0.03), rtol=0.05)
    assert found[1, 2] < 1e-4 * 0.03
    assert first_step(gradients)[1, 2].abs() == pytest.approx(0.03, rel=1e-3)


def test_below_the_floor_nothing_moves():
    gradients = torch.tensor([[1e-9, -1e-3, 0.0, 2e-9]])
    found = first_step(gradients, floor=torch.tensor(1e-7))
    assert (found == 0).tolist() == [[True, False, True, True]]
