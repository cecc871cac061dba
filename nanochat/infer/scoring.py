"""Likelihoods instead of samples: losses of given continuations, logits after a prompt, in batches by length."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nanochat.model.gpt import GPT
from nanochat.model.loss import soft_cap, token_losses


@dataclass(frozen=True)
class Span:
    """A token sequence of which the part from `start` on is to be judged.

    Attributes:
        tokens: context and continuation, with `<|bos|>` in front.
        start: first token of the continuation, at least 1.
    """

    tokens: tuple[int, ...]
    start: int


@dataclass(frozen=True)
class SpanLoss:
    """How a model judges a continuation.

    Attributes:
        total: its negative log-likelihood in nats.
        tokens: its length.
        greedy: whether each of its tokens is the model's most likely one.
    """

    total: float
    tokens: int
    greedy: bool

    @property
    def mean(self) -> float:
        """Loss per token."""
        return self.total / self.tokens


def crop(span: Span, context: int) -> Span:
    """The last `context` tokens of a span, its start moved along."""
    over = max(0, len(span.tokens) - context)
    return Span(span.tokens[over:], max(1, span.start - over)) if over else span


def _batches(lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """Indices in batches of like length, of at most `tokens` tokens with padding, longest first."""
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    start = 0
    while start < len(order):
        rows = max(1, tokens // lengths[order[start]])
        yield order[start : start + rows]
        start += rows


def _padded(sequences: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    # Padding stands on the right, where no token before it looks.
    rows = torch.zeros((len(sequences), max(map(len, sequences))), dtype=torch.int64)
    for row, sequence in enumerate(sequences):
        rows[row, : len(sequence)] = torch.tensor(sequence)
    return rows.to(device)


@torch.inference_mode()
def span_losses(model: GPT, spans: Sequence[Span], device_batch_size: int) -> list[SpanLoss]:
    """Judge continuations; the head is applied to their positions only.

    Args:
        model: in evaluation mode.
        spans: longer ones than the context are cropped on the left.
        device_batch_size: full rows in one forward pass; of shorter ones accordingly more.
    """
    context = model.config.sequence_length
    spans = [crop(span, context) for span in spans]
    results: list[SpanLoss | None] = [None] * len(spans)
    for batch in _batches([len(span.tokens) for span in spans], device_batch_size * context):
        hidden = model.hidden(_padded([spans[index].tokens[:-1] for index in batch], model.device))
        rows, places, targets, owners = [], [], [], []
        for row, index in enumerate(batch):
            span = spans[index]
            count = len(span.tokens) - span.start
            rows += [row] * count
            places += range(span.start - 1, len(span.tokens) - 1)
            targets += span.tokens[span.start :]
            owners += [row] * count
        picked = hidden[torch.tensor(rows, device=hidden.device), torch.tensor(places, device=hidden.device)]
        wanted = torch.tensor(targets, device=hidden.device)
        losses, correct = token_losses(picked, model.head.weight, wanted, model.config.softcap)
        owner = torch.tensor(owners)
        total = torch.zeros(len(batch), dtype=torch.float64).index_add_(0, owner, losses.double().cpu())
        hits = torch.zeros(len(batch), dtype=torch.int64).index_add_(0, owner, correct.cpu().long())
        for row, index in enumerate(batch):
            count = len(spans[index].tokens) - spans[index].start
            results[index] = SpanLoss(float(total[row]), count, int(hits[row]) == count)
    return [result for result in results if result is not None]


@torch.inference_mode()
def next_logits(model: GPT, prompts: Sequence[Sequence[int]], device_batch_size: int, tokens: Sequence[int]) -> Tensor:
    """Logits of some tokens right after each prompt.

    Args:
        model: in evaluation mode.
        prompts: of at most the context's length.
        device_batch_size: full rows in one forward pass; of shorter ones accordingly more.
        tokens: the K tokens that are asked about.

    Returns:
        (prompts, K) float32, on the CPU.
    """
    result = torch.empty((len(prompts), len(tokens)))
    asked = model.head.weight[torch.tensor(tokens, device=model.device)]
    for batch in _batches([len(prompt) for prompt in prompts], device_batch_size * model.config.sequence_length):
        hidden = model.hidden(_padded([prompts[index] for index in batch], model.device))
        last = torch.tensor([len(prompts[index]) - 1 for index in batch], device=hidden.device)
        picked = hidden[torch.arange(len(batch), device=hidden.device), last]
        # In float32: rounded to bfloat16, near-equal letters would tie and the first one win.
        logits = soft_cap(picked.float() @ asked.float().T, model.config.softcap)
        result[torch.tensor(batch)] = logits.cpu()
    return result
