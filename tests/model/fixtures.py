"""A small model for tests of models."""

import torch

from nanochat.model.gpt import GPT, GPTConfig


def make_model(arch: str = "modern", seed: int = 0, **changes) -> GPT:
    """A small model whose every part does something: weights that start at zero are filled too."""
    shape = dict(
        arch=arch,
        depth=4,
        width=48,
        heads=4,
        kv_heads=2,
        head_dim=12,
        vocab_size=61,
        sequence_length=32,
        window_pattern="SSSL" if arch == "modern" else "L",
    )
    model = GPT(GPTConfig(**(shape | changes)))
    model.init_weights(seed)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model
