import torch

from nanochat.optim.adamw import adam_update


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
        adam_update(weights, gradients, average, square, step=step, lr=0.03, beta1=0.8, beta2=0.95, epsilon=1e-10)
    assert torch.allclose(weights, reference.detach(), atol=1e-5)
