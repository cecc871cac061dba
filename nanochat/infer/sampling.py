"""Choosing the next token: greedy, temperature, top-k, top-p, min-p, for many rows at once, each with its own seed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

_BLOCK = 64
"""Tokens whose probabilities are summed first, so that running sums are short."""


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
        logprobs: whether the log-probability of each token is wanted.
        top_logprobs: how many of the most likely tokens are wanted beside it.
    """

    max_tokens: int = 256
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    seed: int = 0
    stop: frozenset[int] | None = None
    logprobs: bool = False
    top_logprobs: int = 0

    def __post_init__(self) -> None:
        checks = (
            ("max_tokens", self.max_tokens >= 1, "at least 1"),
            ("temperature", self.temperature >= 0, "0 (greedy) or more"),
            ("top_k", self.top_k is None or self.top_k >= 1, "at least 1, or None"),
            ("top_p", self.top_p is None or 0 < self.top_p <= 1, "in (0, 1], or None"),
            ("min_p", self.min_p is None or 0 <= self.min_p <= 1, "in [0, 1], or None"),
            ("seed", self.seed >= 0, "0 or more"),
            ("top_logprobs", self.top_logprobs >= 0, "0 or more"),
        )
        for name, fine, expected in checks:
            if not fine:
                raise ValueError(f"SamplingParams: {name} = {getattr(self, name)}, expected {expected}")

    @property
    def filtered(self) -> bool:
        """Whether it draws from some of the tokens only."""
        return self.top_k is not None or self.top_p is not None or self.min_p is not None


def uniforms(seed: int, count: int) -> np.ndarray:
    """The random numbers of one completion: (count,) float64 in [0, 1), a function of seed and position only."""
    return np.random.Generator(np.random.Philox(key=seed % 2**64)).random(count)


@dataclass(frozen=True)
class _Kind:
    """Rows that choose their token in the same way.

    Attributes:
        rows: which; None for all.
        candidates: most likely tokens looked at; None for all, without a filter.
        temperature, top_p, min_p: (rows, 1).
    """

    rows: Tensor | None
    candidates: int | None
    temperature: Tensor
    top_p: Tensor
    min_p: Tensor


@dataclass(frozen=True)
class RowSampling:
    """The sampling parameters of the rows of a batch, as tensors; made once and used for many steps."""

    kinds: tuple[_Kind, ...]
    """Of the rows that are not greedy."""
    logprobs: bool
    """Whether any row wants log-probabilities."""
    top: int
    """The most that any row wants of most likely tokens."""

    @classmethod
    def of(cls, rows: Sequence[SamplingParams], vocab_size: int, device: torch.device) -> "RowSampling":
        """Collect the parameters of the rows, in order."""
        # Rows of one kind are computed alike whatever stands beside them: the order in which a running sum is taken
        # decides which token a random number means.
        places: dict[int | None, list[int]] = {}
        for place, row in enumerate(rows):
            if row.temperature > 0:
                candidates = min(row.top_k or vocab_size, vocab_size) if row.filtered else None
                places.setdefault(candidates, []).append(place)

        def kind(candidates: int | None, chosen: list[int]) -> _Kind:
            def column(values: list[float]) -> Tensor:
                return torch.tensor(values, dtype=torch.float32, device=device)[:, None]

            return _Kind(
                rows=None if len(chosen) == len(rows) else torch.tensor(chosen, device=device),
                candidates=candidates,
                temperature=column([rows[place].temperature for place in chosen]),
                top_p=column([rows[place].top_p or 1.0 for place in chosen]),
                min_p=column([rows[place].min_p or 0.0 for place in chosen]),
            )

        return cls(
            tuple(kind(*entry) for entry in places.items()),
            logprobs=any(row.logprobs or row.top_logprobs for row in rows),
            top=min(max((row.top_logprobs for row in rows), default=0), vocab_size),
        )


@dataclass(frozen=True)
class Choice:
    """The tokens chosen for the rows of a batch; log-probabilities are at temperature 1 and before any filter.

    Attributes:
        tokens: (rows,) int64.
        logprobs: (rows,) float32 of them; None where no row wants them.
        top: (rows, n) int64, the most likely tokens, best first, and (rows, n) float32; None where no row wants them.
    """

    tokens: Tensor
    logprobs: Tensor | None = None
    top: tuple[Tensor, Tensor] | None = None


def sample(logits: Tensor, rows: RowSampling, uniform: Tensor) -> Choice:
    """Choose one token per row.

    The filters apply in the order top-k, top-p, min-p, each on the probabilities that the one before left. A row's
    choice depends on its own logits, parameters and random number only.

    Args:
        logits: (rows, vocab_size) float32.
        rows: parameters of each row.
        uniform: (rows,) random numbers in [0, 1).
    """
    every = len(rows.kinds) == 1 and rows.kinds[0].rows is None
    tokens = torch.empty(logits.shape[0], dtype=torch.int64, device=logits.device) if every else logits.argmax(dim=-1)
    for kind in rows.kinds:
        part, numbers = (logits, uniform) if kind.rows is None else (logits[kind.rows], uniform[kind.rows])
        drawn = _draw(part, kind, numbers)
        tokens = drawn if kind.rows is None else tokens.index_copy_(0, kind.rows, drawn)
    if not rows.logprobs:
        return Choice(tokens)
    whole = torch.logsumexp(logits, dim=-1)
    chosen = logits.gather(-1, tokens[:, None])[:, 0] - whole
    if not rows.top:
        return Choice(tokens, chosen)
    values, order = torch.topk(logits, rows.top, dim=-1)
    return Choice(tokens, chosen, (order, values - whole[:, None]))


def _draw(logits: Tensor, kind: _Kind, uniform: Tensor) -> Tensor:
    if kind.candidates is None:
        return _invert(torch.softmax(logits / kind.temperature, dim=-1), uniform)
    values, order = torch.topk(logits / kind.temperature, kind.candidates, dim=-1)
    probabilities = torch.softmax(values, dim=-1)
    before = probabilities.cumsum(dim=-1) - probabilities
    kept = (before < kind.top_p) & (probabilities >= kind.min_p * probabilities[:, :1])
    kept[:, 0] = True
    return order.gather(-1, _invert(probabilities * kept, uniform)[:, None])[:, 0]


def _invert(weights: Tensor, uniform: Tensor) -> Tensor:
    """Index at which the running sum of (unnormalised) weights passes `uniform` of the whole.

    In two steps, first among the sums of blocks: a running sum over the whole vocabulary takes longer than the model.
    """
    rows, count = weights.shape
    blocks = F.pad(weights, (0, -count % _BLOCK)).view(rows, -1, _BLOCK)
    block, left = _pass(blocks.sum(dim=-1), uniform.to(torch.float64))
    inside, _ = _pass(blocks[torch.arange(rows, device=weights.device), block], left)
    return block * _BLOCK + inside


def _pass(weights: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Where the running sum passes `share` (rows,) of the whole, and which share of that place's own weight is left."""
    # In double precision a tail token of probability 1e-9 is still drawn, and only as often as it should be.
    running = weights.to(torch.float64).cumsum(dim=-1)
    whole = running[:, -1:]
    # Below the whole, so that the place found has a weight.
    target = torch.minimum(share[:, None] * whole, torch.nextafter(whole, torch.zeros_like(whole)))
    index = torch.searchsorted(running, target, right=True)
    own = weights.gather(-1, index).to(torch.float64)
    left = (target - (running.gather(-1, index) - own)) / own
    return index[:, 0], left[:, 0].clamp(0.0, 1.0)
