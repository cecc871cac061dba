"""Output head, softcap and cross-entropy in chunks: the logits of a batch never exist as a whole."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from nanochat.model.kernels.cross_entropy import capped_cross_entropy_, capped_cross_entropy_plain_

IGNORED = -1
"""Target of a position without a loss."""


def soft_cap(logits: Tensor, softcap: float) -> Tensor:
    """Softcapped logits, softcap · tanh(logits / softcap), in float32 (Gemma 2, arXiv 2408.00118)."""
    return softcap * torch.tanh(logits.float() / softcap)


def _chunk(vocab_size: int, device: torch.device) -> int:
    # Positions whose logits exist at once: enough to keep the products busy, little beside the activations.
    return max(1, (1 << 21 if device.type == "cpu" else 1 << 28) // vocab_size)


class _WeightedLoss(torch.autograd.Function):
    """Sum of weighted token losses, with the gradients made while the logits of a chunk are at hand.

    Knowing the weights in advance saves the second product of hidden states and head that recomputing would cost.
    The gradient takes the place of the logits, so that a chunk exists once, in the compute type.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, head: Tensor, targets: Tensor, weights: Tensor, softcap: float, kernel: bool
    ) -> tuple[Tensor, Tensor]:
        matrix = head.to(hidden.dtype)
        losses = torch.zeros(targets.shape, dtype=torch.float32, device=hidden.device)
        want_gradients = any(ctx.needs_input_grad[:2])
        hidden_gradient = torch.zeros_like(hidden) if want_gradients else None
        head_gradient = torch.zeros(head.shape, dtype=torch.float32, device=head.device) if want_gradients else None
        cross_entropy_ = capped_cross_entropy_ if kernel else capped_cross_entropy_plain_
        chunk = _chunk(head.shape[0], hidden.device)
        for start in range(0, targets.shape[0], chunk):
            part = slice(start, start + chunk)
            logits = F.linear(hidden[part], matrix)
            losses[part] = cross_entropy_(logits, targets[part], weights[part], softcap, want_gradient=want_gradients)
            if hidden_gradient is not None and head_gradient is not None:
                torch.mm(logits, matrix, out=hidden_gradient[part])
                head_gradient += logits.t() @ hidden[part]
        if want_gradients:
            ctx.save_for_backward(hidden_gradient, head_gradient)
        ctx.mark_non_differentiable(losses)
        return (losses * weights).sum(), losses

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
        hidden_gradient, head_gradient = ctx.saved_tensors
        return hidden_gradient * gradient.to(hidden_gradient.dtype), head_gradient * gradient, None, None, None, None


def weighted_loss(
    hidden: Tensor, head: Tensor, targets: Tensor, weights: Tensor, softcap: float, *, kernel: bool = False
) -> tuple[Tensor, Tensor]:
    """Σ weight · cross-entropy over all positions, differentiable in `hidden` and `head`.

    Args:
        hidden: (N, width) last hidden states in the compute type.
        head: (V, width) output head.
        targets: (N,) int64, -1 where ignored.
        weights: (N,) float32; normalisation belongs in here.
        softcap: of the logits.
        kernel: use the Triton kernel; see `nanochat.model.kernels.probe`.

    Returns:
        The weighted sum, float32, and the (N,) unweighted losses in nats, which carry no gradient.
    """
    return _WeightedLoss.apply(hidden, head, targets, weights, softcap, kernel)


def token_losses(
    hidden: Tensor, head: Tensor, targets: Tensor, softcap: float, *, double: bool = False
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of each position, and whether the most likely token is the target; see `weighted_loss`.

    Where gradients are on, each chunk is recomputed in the backward pass instead of kept.

    Args:
        hidden: as in `weighted_loss`, and so `head`, `targets` and `softcap`.
        head: see there.
        targets: see there.
        softcap: see there.
        double: from the logits on in float64: a loss of 8 nats in float32 is rounded to a millionth, which is more
            than what lies between the choices of a model that knows nothing.
    """
    losses, correct = [], []
    chunk = max(1, _chunk(head.shape[0], head.device) // 4)  # float32, and several of them

    def one(hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        logits = soft_cap(F.linear(hidden, head.to(hidden.dtype)), softcap)
        exact = logits.double() if double else logits
        loss = F.cross_entropy(exact, targets, ignore_index=IGNORED, reduction="none")
        return loss, logits.argmax(dim=-1) == targets

    for start in range(0, targets.shape[0], chunk):
        part = slice(start, start + chunk)
        if torch.is_grad_enabled() and hidden.requires_grad:
            loss, hit = checkpoint(one, hidden[part], targets[part], use_reentrant=False)
        else:
            loss, hit = one(hidden[part], targets[part])
        losses.append(loss)
        correct.append(hit)
    return torch.cat(losses), torch.cat(correct)
