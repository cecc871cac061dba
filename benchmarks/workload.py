"""What the benchmarks train on, made-up text and conversations of realistic lengths, and the training of one step."""

import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from shape import Shape

from nanochat.artifact import Manifest
from nanochat.data.packing import Batch
from nanochat.data.tokens import TokenFile, id_type
from nanochat.model.gpt import GPT
from nanochat.model.scaling import Plan
from nanochat.optim.schedule import lr_multiplier, momentum
from nanochat.optim.sharded import MuonAdamW
from nanochat.runtime import World, compute_dtype, set_deterministic
from nanochat.train.acceleration import accelerate
from nanochat.train.accumulate import accumulate

SEED = 0
BOS = 0
CompileWhen = Literal["auto", "always", "never"]


def _zipf(vocab_size: int, count: int, generator: np.random.Generator) -> np.ndarray:
    """Ids as frequent as words are: the r-th most frequent has a share of about 1 / r (Zipf-Mandelbrot)."""
    shares = 1.0 / (np.arange(1, vocab_size) + 2.7)
    ends = np.cumsum(shares / shares.sum())
    return 1 + np.searchsorted(ends[:-1], generator.random(count))


def documents(vocab_size: int, tokens: int, seed: int = SEED, median_length: float = 400.0) -> TokenFile:
    """A token file of made-up documents, in memory.

    Args:
        vocab_size: ids are below it; 0 begins each document.
        tokens: in all, about.
        seed: of lengths and ids.
        median_length: of a document in tokens. Lengths are log-normal with a standard deviation of 1 in the logarithm,
            as those of web pages about are.
    """
    generator = np.random.default_rng([seed, 1])
    lengths: list[int] = []
    while sum(lengths) < tokens:
        drawn = np.exp(np.log(median_length) + generator.standard_normal(256))
        lengths += np.clip(drawn, 8, 50 * median_length).astype(int).tolist()
    offsets = np.cumsum([0, *lengths])
    ids = _zipf(vocab_size, int(offsets[-1]), generator)
    ids[offsets[:-1]] = BOS
    manifest = Manifest(
        stage="tokens", fingerprint="", created="", settings={}, inputs={}, files={}, code={}, libraries={}
    )
    return TokenFile(Path("made-up"), ids.astype(id_type(vocab_size)), offsets, manifest)


def conversations(vocab_size: int, count: int, row: int, seed: int = SEED) -> list[tuple[list[int], list[int]]]:
    """Made-up rendered conversations: (ids, mask) with mask 1 on what the assistant says.

    Most have 50 to 300 tokens, one in seven is longer, one in thirty longer than a row of `row` tokens.
    """
    generator = np.random.default_rng([seed, 2])
    kinds = generator.random(count)
    short = np.clip(np.exp(np.log(130) + 0.5 * generator.standard_normal(count)), 50, 300)
    middle = generator.uniform(300, max(301, row), count)
    long = generator.uniform(row + 2, 4 * row, count)
    lengths = np.where(kinds < 1 / 30, long, np.where(kinds < 1 / 7, middle, short)).astype(int)
    made = []
    for length in lengths.tolist():
        ids = _zipf(vocab_size, length, generator)
        ids[0] = BOS
        mask = np.zeros(length, dtype=int)
        turns = int(generator.integers(1, 4))
        ends = np.linspace(1, length, turns + 1).astype(int)
        for start, end in pairwise(ends.tolist()):
            # Questions are shorter than answers; an answer ends its turn.
            mask[start + int((end - start) * generator.uniform(0.2, 0.5)) : end] = 1
        made.append((ids.tolist(), mask.tolist()))
    return made


class Trainee:
    """A model in training: the pieces of the loop, without checkpoints and metrics."""

    def __init__(
        self,
        shape: Shape,
        device: torch.device,
        compile_when: CompileWhen,
        model: GPT | None = None,
        optimizer: Callable[[GPT, Plan], Any] | None = None,
    ) -> None:
        """Make a model ready, as a training stage does.

        Args:
            shape: of model and batch.
            device: where to train.
            compile_when: as in `accelerate`.
            model: another one than `GPT`, which is then left as it is and not accelerated.
            optimizer: makes another one than `MuonAdamW`.
        """
        set_deterministic(SEED)
        self.plan = shape.plan
        self.model = GPT(shape.config) if model is None else model
        self.model.init_weights(SEED)
        self.model.to(device)
        self.model.dtype = compute_dtype(shape.precision, device)
        if model is None:
            accelerate(self.model, compile_when)
        world = World(0, 0, 1, device)
        self.optimizer = (
            MuonAdamW(self.model.parameter_groups(), self.plan, world, dtype=self.model.dtype)
            if optimizer is None
            else optimizer(self.model, self.plan)
        )
        self.device_batch_size = shape.device_batch_size
        self.steps = 0

    def step(self, batch: Batch) -> float:
        """One optimizer step on these rows; returns the mean loss in nats per target. Ends when the update has."""
        valid = max(1, batch.valid_targets)
        done = accumulate(self.model, self.optimizer, batch, valid, self.device_batch_size)
        assert done is not None  # nothing asks it to stop
        summed, self.device_batch_size = done
        norm = self.optimizer.reduce()
        loss, _ = torch.stack([summed, norm.double()]).tolist()
        self.optimizer.step(lr_multiplier(self.plan, self.steps), momentum(self.plan, self.steps))
        self.steps += 1
        if self.model.device.type == "cuda":
            torch.cuda.synchronize()
        return loss / valid

    def timed_step(self, read: Callable[[], Batch]) -> tuple[float, float, Batch]:
        """Seconds of a step with the wait for its rows, its loss, and the rows."""
        start = time.perf_counter()
        batch = read()
        loss = self.step(batch)
        return time.perf_counter() - start, loss, batch
