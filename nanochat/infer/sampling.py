"""Choosing the next token: greedy, temperature, top-k, top-p, min-p, for many rows at once, each with its own seed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class SamplingParams:
    """How one completion is sampled.

    Attributes:
        max_tokens: length limit of the completion, forced tool output included.
        temperature: 0 is greedy.
        top_k: only the k most likely tokens.
        top_p: only the most likely tokens that together hold this probability (arXiv 1904.09751).
        min_p: only tokens at least this share as likely as the likeliest one (arXiv 2407.01082).
        seed: of this completion's random numbers; equal requests with equal seeds give equal tokens.
        stop: tokens that end the completion (kept as its last token); None: `<|assistant_end|>` and `<|bos|>`.
    """

    max_tokens: int = 256
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    seed: int = 0
    stop: frozenset[int] | None = None

    def __post_init__(self) -> None:
        checks = (
            ("max_tokens", self.max_tokens >= 1, "at least 1"),
            ("temperature", self.temperature >= 0, "0 (greedy) or more"),
            ("top_k", self.top_k is None or self.top_k >= 1, "at least 1, or None"),
            ("top_p", self.top_p is None or 0 < self.top_p <= 1, "in (0, 1], or None"),
            ("min_p", self.min_p is None or 0 <= self.min_p <= 1, "in [0, 1], or None"),
            ("seed", self.seed >= 0, "0 or more"),
        )
        for name, fine, expected in checks:
            if not fine:
                raise ValueError(f"SamplingParams: {name} = {getattr(self, name)}, expected {expected}")


def uniforms(seed: int, count: int) -> np.ndarray:
    """The random numbers of one completion: (count,) float64 in [0, 1), a function of seed and position only."""
    return np.random.Generator(np.random.Philox(key=seed % 2**64)).random(count)


@dataclass(frozen=True)
class RowSampling:
    """The sampling parameters of the rows of a batch, as tensors; made once and used for many steps."""

    temperature: Tensor
    top_k: Tensor
    top_p: Tensor
    min_p: Tensor
    plain: Tensor
    """Rows drawn from all tokens."""
    filtered: Tensor
    """Rows drawn after a filter."""
    largest_k: int
    """Most candidates any filtered row needs."""

    @classmethod
    def of(cls, rows: Sequence[SamplingParams], vocab_size: int, device: torch.device) -> "RowSampling":
        """Collect the parameters of the rows, in order."""

        def column(values: list[float], dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.tensor(values, dtype=dtype, device=device)[:, None]

        def is_filtered(row: SamplingParams) -> bool:
            return row.top_k is not None or row.top_p is not None or row.min_p is not None

        drawn = [place for place, row in enumerate(rows) if row.temperature > 0]
        filtered = [place for place in drawn if is_filtered(rows[place])]
        plain = [place for place in drawn if not is_filtered(rows[place])]
        candidates = [min(row.top_k or vocab_size, vocab_size) for row in rows]
        return cls(
            temperature=column([row.temperature or 1.0 for row in rows]),
            top_k=column(candidates, torch.int64),
            top_p=column([row.top_p or 1.0 for row in rows]),
            min_p=column([row.min_p or 0.0 for row in rows]),
            plain=torch.tensor(plain, dtype=torch.int64, device=device),
            filtered=torch.tensor(filtered, dtype=torch.int64, device=device),
            largest_k=max((candidates[place] for place in filtered), default=0),
        )


def sample(logits: Tensor, rows: RowSampling, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Choose one token per row.

    The filters apply in the order top-k, top-p, min-p, each on the probabilities that the one before left. A row's
    choice depends on its own logits, parameters and random number only.

    Args:
        logits: (rows, vocab_size) float32.
        rows: parameters of each row.
        uniform: (rows,) random numbers in [0, 1).

    Returns:
        (rows,) int64 tokens, and (rows,) float32 log-probabilities under the model itself, that is at temperature 1
        and before any filter.
    """
    tokens = logits.argmax(dim=-1)
    # Each kind of row has its own path, whatever stands beside it: the order in which the running sum is taken
    # decides which token a random number means.
    if len(rows.plain):
        part = rows.plain
        probabilities = torch.softmax(logits[part] / rows.temperature[part], dim=-1)
        tokens[part] = _invert(probabilities, uniform[part])
    if len(rows.filtered):
        tokens[rows.filtered] = _sample_filtered(logits, rows, uniform)
    chosen = logits.gather(-1, tokens[:, None])[:, 0]
    return tokens, chosen - torch.logsumexp(logits, dim=-1)


def _sample_filtered(logits: Tensor, rows: RowSampling, uniform: Tensor) -> Tensor:
    part = rows.filtered
    values, order = torch.topk(logits[part] / rows.temperature[part], rows.largest_k, dim=-1)
    rank = torch.arange(rows.largest_k, device=values.device)
    probabilities = torch.softmax(values.masked_fill(rank >= rows.top_k[part], float("-inf")), dim=-1)
    before = probabilities.cumsum(dim=-1) - probabilities
    kept = ((before < rows.top_p[part]) | (rank == 0)) & (probabilities >= rows.min_p[part] * probabilities[:, :1])
    return order.gather(-1, _invert(probabilities * kept, uniform[part])[:, None])[:, 0]


def _invert(weights: Tensor, uniform: Tensor) -> Tensor:
    """Index at which the running sum of (unnormalised) weights passes `uniform` of the whole."""
    # In double precision a tail token of probability 1e-9 is still drawn, and only as often as it should be.
    running = weights.to(torch.float64).cumsum(dim=-1)
    target = uniform.to(torch.float64)[:, None] * running[:, -1:]
    index = torch.searchsorted(running, target, right=True)[:, 0]
    return index.clamp(max=weights.shape[-1] - 1)
