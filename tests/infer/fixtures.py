"""A small tokenizer and random models for the tests of generation and evaluation."""

import pytest
import torch

from nanochat.config import TokenizerSettings
from nanochat.data.tokenizer import Tokenizer
from nanochat.model.gpt import GPT, GPTConfig

TEXTS = [
    "Anna lives in Ashford. Anna has a dog. The dog is called Milo. What is 12 + 7? 12 + 7 = 19.",
    "The word cat is spelled c,a,t. How many letters r are in strawberry? 'strawberry'.count('r') is 3.",
    "Question: Which letter is red?\n- red=A\n- blue=B\n- green=C\n- black=D\nAnswer: A",
    "def add(a, b):\n    return a + b\n",
] * 5


def make_tokenizer() -> Tokenizer:
    return Tokenizer.train(TEXTS, TokenizerSettings(vocab_size=512, max_digits=1))


def make_model(vocab_size: int, arch: str = "modern", seed: int = 1, context: int = 96, windows: str = "SL") -> GPT:
    config = GPTConfig(
        arch=arch,
        depth=3,
        width=32,
        heads=4,
        kv_heads=2,
        head_dim=8,
        vocab_size=vocab_size,
        sequence_length=context,
        window_pattern=windows if arch == "modern" else "L",
    )
    model = GPT(config)
    model.init_weights(seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        # Zero output projections and scalars would hide attention, smear and backout from the tests.
        for parameter in model.parameters():
            parameter += torch.randn(parameter.shape, generator=generator) * (0.2 if parameter.dim() > 1 else 0.3)
    return model.eval()


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return make_tokenizer()


@pytest.fixture(scope="session")
def model(tokenizer: Tokenizer) -> GPT:
    return make_model(tokenizer.vocab_size)
