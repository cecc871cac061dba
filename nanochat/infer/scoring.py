"""Likelihoods instead of samples: losses of given continuations, logits after a prompt, in batches by length."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from nanochat.infer.trees import Span, Tree, crop, grow, pack
from nanochat.model.gpt import GPT
from nanochat.model.loss import soft_cap, token_losses

__all__ = [
    "JudgedToken",
    "Span",
    "SpanLoss",
    "batches_by_length",
    "crop",
    "judge_tokens",
    "next_logits",
    "one_by_one",
    "span_losses",
    "tokens_at_once",
    "tree_losses",
]


_MOST_ALIKE = 16
"""Spans whose beginning is shared, where the caller does not say which belong together: rows would grow too long."""


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


_JUDGED_AT_ONCE = 256
"""Positions whose logits exist at once where each token is asked about."""

CPU_TOKENS = 2048
"""Positions of a forward pass on CPUs at most: what its layers hand on should stay in the processor's cache."""


def tokens_at_once(model: GPT, device_batch_size: int) -> int:
    """Positions of one forward pass: `device_batch_size` full rows, on CPUs no more than they are fastest with."""
    context = model.config.sequence_length
    tokens = device_batch_size * context
    return min(tokens, max(CPU_TOKENS, context)) if model.device.type == "cpu" else tokens


def batches_by_length(sizes: Sequence[int], tokens: int) -> list[list[int]]:
    """Indices in batches of like size, largest first, of at most `tokens` tokens; a larger one is alone."""
    batches: list[list[int]] = []
    space = 0
    for index in sorted(range(len(sizes)), key=lambda index: (-sizes[index], index)):
        if not batches or sizes[index] > space:
            batches.append([])
            space = tokens
        batches[-1].append(index)
        space -= sizes[index]
    return batches


@torch.inference_mode()
def tree_losses(model: GPT, items: Sequence[Sequence[Tree]]) -> list[list[SpanLoss]]:
    """Judge the spans of items in one forward pass; the head is applied to their judged positions only.

    Args:
        model: in evaluation mode.
        items: at least one, each the trees that its spans were grown to.

    Returns:
        For each item its spans' losses, in their order.
    """
    packed = pack([tree for trees in items for tree in trees])
    hidden = model.hidden(packed.tokens.to(model.device), packed.layout.to(model.device))
    targets = packed.targets.to(model.device)
    losses, correct = token_losses(hidden, model.head.weight, targets, model.config.softcap, double=True)
    # Each span of each item has a number of its own.
    item_of_tree = np.repeat(np.arange(len(items)), [len(trees) for trees in items])
    counts = [1 + max(int(tree.owners.max()) for tree in trees) for trees in items]
    first = np.cumsum([0, *counts])
    span = first[item_of_tree[packed.trees]] + packed.owners
    total = np.bincount(span, weights=_summable(losses).cpu().numpy(), minlength=first[-1])
    tokens = np.bincount(span, minlength=first[-1])
    hits = np.bincount(span, weights=correct.cpu().numpy(), minlength=first[-1])
    flat = [SpanLoss(float(t), int(n), int(h) == int(n)) for t, n, h in zip(total, tokens, hits, strict=True)]
    return [flat[start:stop] for start, stop in pairwise(first.tolist())]


def _summable(losses: Tensor) -> Tensor:
    """Losses on a grid of 2⁻³², whose sums are exact: the means of equal losses are equal, however many there are."""
    return torch.round(losses * 2**32) / 2**32


def span_losses(model: GPT, spans: Sequence[Span], device_batch_size: int) -> list[SpanLoss]:
    """Judge continuations, a beginning that spans next to each other share being computed once.

    Args:
        model: in evaluation mode.
        spans: longer ones than the context are cropped on the left.
        device_batch_size: full rows in one forward pass; of shorter ones accordingly more.
    """
    context = model.config.sequence_length
    groups = list(_alike(spans))
    items = [grow([spans[index] for index in group], context) for group in groups]
    results: list[SpanLoss | None] = [None] * len(spans)
    for batch in batches_by_length(
        [sum(tree.size for tree in trees) for trees in items], tokens_at_once(model, device_batch_size)
    ):
        for number, losses in zip(batch, tree_losses(model, [items[number] for number in batch]), strict=True):
            for index, loss in zip(groups[number], losses, strict=True):
                results[index] = loss
    return [result for result in results if result is not None]


def _alike(spans: Sequence[Span]) -> Iterator[list[int]]:
    """Indices in runs whose spans each share half of their tokens with the one before."""
    run: list[int] = []
    for index, span in enumerate(spans):
        half = len(span.tokens) // 2
        if len(run) == _MOST_ALIKE or (run and span.tokens[:half] != spans[index - 1].tokens[:half]):
            yield run
            run = []
        run.append(index)
    if run:
        yield run


@torch.inference_mode()
def one_by_one(model: GPT, spans: Sequence[Span]) -> list[SpanLoss]:
    """Like `span_losses`, by the shortest way: a forward pass for each span, all logits of it. To compare with."""
    results = []
    for span in spans:
        cropped = crop(span, model.config.sequence_length)
        tokens = torch.tensor([cropped.tokens], device=model.device)
        logits = model(tokens[:, :-1])[0, cropped.start - 1 :]
        targets = tokens[0, cropped.start :]
        total = _summable(torch.nn.functional.cross_entropy(logits.double(), targets, reduction="none")).sum()
        results.append(SpanLoss(float(total), len(targets), bool((logits.argmax(-1) == targets).all())))
    return results


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
    context = model.config.sequence_length
    # The token after a prompt is what its tree is asked about; which one it would be does not matter.
    trees = [grow([Span((*prompt, 0), len(prompt))], context + 1)[0] for prompt in prompts]
    for batch in batches_by_length([tree.size for tree in trees], tokens_at_once(model, device_batch_size)):
        packed = pack([trees[index] for index in batch])
        hidden = model.hidden(packed.tokens.to(model.device), packed.layout.to(model.device))
        # In float32: rounded to bfloat16, near-equal letters would tie and the first one win.
        result[torch.tensor(batch)] = soft_cap(hidden.float() @ asked.float().T, model.config.softcap).cpu()
    return result


@dataclass(frozen=True)
class JudgedToken:
    """What a model thinks of a given token in its place.

    Attributes:
        id: the token.
        logprob: its log-probability, in nats.
        top: the most likely tokens there with their log-probabilities, best first.
    """

    id: int
    logprob: float
    top: tuple[tuple[int, float], ...]


@torch.inference_mode()
def judge_tokens(
    model: GPT, texts: Sequence[Sequence[int]], top: int, device_batch_size: int
) -> list[list[JudgedToken]]:
    """Judge every token of texts but the first, token by token.

    Args:
        model: in evaluation mode.
        texts: token ids, of at most the context's length and one more.
        top: how many of the most likely tokens are wanted in each place.
        device_batch_size: full rows in one forward pass; of shorter ones accordingly more.

    Returns:
        For each text one entry less than it has tokens.
    """
    context = model.config.sequence_length
    judged: list[list[JudgedToken]] = [[] for _ in texts]
    long = [number for number, text in enumerate(texts) if len(text) > 1]
    # What a last token is judged by is all that is read: one token more than the context fits.
    trees = [grow([Span(tuple(texts[number]), 1)], context + 1)[0] for number in long]
    head = model.head.weight
    for batch in batches_by_length([tree.size for tree in trees], tokens_at_once(model, device_batch_size)):
        packed = pack([trees[index] for index in batch])
        hidden = model.hidden(packed.tokens.to(model.device), packed.layout.to(model.device))
        owners = [long[batch[tree]] for tree in packed.trees.tolist()]
        # The logits of a long text at a large vocabulary would be gigabytes.
        for begin in range(0, len(owners), _JUDGED_AT_ONCE):
            part = slice(begin, begin + _JUDGED_AT_ONCE)
            logits = soft_cap(hidden[part] @ head.to(hidden.dtype).T, model.config.softcap)
            targets = packed.targets[part].to(model.device)
            logprobs = torch.log_softmax(logits.double(), dim=-1)
            own = logprobs.gather(-1, targets[:, None])[:, 0].tolist()
            values, order = torch.topk(logprobs, min(top, logprobs.shape[-1]), dim=-1)
            best = zip(order.tolist(), values.tolist())
            for owner, token, logprob, (ids, each) in zip(owners[part], targets.tolist(), own, best):
                judged[owner].append(JudgedToken(token, logprob, tuple(zip(ids, each))))
    return judged
