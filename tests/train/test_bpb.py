import math

import numpy as np
import pytest
import torch

from nanochat.data.packing import Batch
from nanochat.evaluate.bpb import bits_per_byte, evaluate_loss
from nanochat.model.gpt import GPT, GPTConfig
from nanochat.runtime import World

CONFIG = GPTConfig(depth=1, width=32, heads=2, kv_heads=2, head_dim=16, vocab_size=50, sequence_length=16)
WIDTHS = np.array([0] * 5 + [2] * 45, dtype=np.int32)


class Rows:
    """Random rows; every fourth target is special (no bytes), some are ignored."""

    sequence_length = 16
    rows_per_epoch = 10

    def read(self, start: int, count: int) -> Batch:
        ids = np.array(
            [np.random.default_rng(row).integers(5, 50, 17) for row in range(start, start + count)], np.int32
        )
        ids[:, 4::4] = 1
        targets = ids[:, 1:].copy()
        targets[:, :2] = -1
        return Batch(ids[:, :-1], targets, np.zeros((count, 16), np.int32))


def model() -> GPT:
    made = GPT(CONFIG)
    made.init_weights(0)
    with torch.no_grad():
        made.head.weight.zero_()
    return made


def alone(rank: int = 0, size: int = 1) -> World:
    return World(rank, rank, size, torch.device("cpu"))


def test_a_model_that_knows_nothing_needs_the_log_of_the_vocabulary():
    """14 targets with loss per row, 4 of them special: 10 of 2 bytes."""
    expected = math.log2(50) / 2
    assert bits_per_byte(model(), Rows(), WIDTHS, 10**6, 3, alone()) == pytest.approx(expected, rel=1e-5)
    loss = evaluate_loss(model(), Rows(), WIDTHS, 10**6, 3, alone())
    assert (loss.tokens, loss.bytes) == (10 * 14, 10 * 10 * 2)
    assert loss.nats_per_token == pytest.approx(math.log(50), rel=1e-5)


def test_it_reads_no_more_than_asked_for():
    assert evaluate_loss(model(), Rows(), WIDTHS, 5 * 16, 2, alone()).tokens == 5 * 14


def test_the_micro_batch_makes_no_difference():
    values = [bits_per_byte(model(), Rows(), WIDTHS, 10**6, size, alone()) for size in (1, 4, 32)]
    assert values == pytest.approx([values[0]] * 3, rel=1e-6)
