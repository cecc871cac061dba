"""Softcap and cross-entropy of a chunk of logits, which its own gradient replaces in place.

The plain form holds the chunk in float32 several times over; the kernel reads the chunk twice, computes in registers
and writes the gradient once. The product with the head before it and the two products after it stay with cuBLAS.
"""

import torch
from torch import Tensor

_IGNORED = -1
_CPU_CHUNK, _GPU_CHUNK = 1 << 19, 1 << 27
"""Elements the plain form holds in float32 at a time: what stays in the cache of a CPU, what fills a GPU."""
BLOCK, WARPS = 4096, 8
"""What one program holds at a time: two 16-byte pieces of bfloat16 per thread."""


def capped_cross_entropy_plain_(
    logits: Tensor, targets: Tensor, weights: Tensor, softcap: float, *, want_gradient: bool = True
) -> Tensor:
    """Twin of `capped_cross_entropy_` in plain torch; a target outside the vocabulary raises here.

    With σ = sigmoid(2 · logit / softcap) the capped logit is softcap · (2σ - 1), whose constant cancels in the softmax,
    and the slope of the cap is 4σ(1 - σ): vectorised sigmoids cost a CPU a sixth of what tanh does.
    """
    losses = torch.zeros(logits.shape[0], dtype=torch.float32, device=logits.device)
    rows = max(1, (_CPU_CHUNK if logits.device.type == "cpu" else _GPU_CHUNK) // logits.shape[1])
    for start in range(0, logits.shape[0], rows):
        part = slice(start, start + rows)
        sigmoid = logits[part].float().mul_(2 / softcap).sigmoid_()
        # Capped logits cannot overflow exp, so the usual pass for their maximum is not needed.
        exponentials = torch.mul(sigmoid, 2 * softcap).exp_()
        total = exponentials.sum(dim=-1)
        valid = targets[part] != _IGNORED
        index = torch.where(valid, targets[part], 0)[:, None]
        losses[part] = torch.where(valid, total.log() - 2 * softcap * sigmoid.gather(1, index)[:, 0], 0.0)
        if want_gradient:
            weight = torch.where(valid, 4 * weights[part], 0.0)[:, None]
            gradient = exponentials.mul_(weight / total[:, None]).scatter_add_(1, index, -weight).mul_(sigmoid)
            logits[part] = torch.addcmul(gradient, gradient, sigmoid, value=-1, out=sigmoid)
    return losses


@torch.library.custom_op("nanochat::capped_cross_entropy", mutates_args={"logits"})
def _capped_cross_entropy(
    logits: Tensor, targets: Tensor, weights: Tensor, softcap: float, want_gradient: bool, block: int, warps: int
) -> Tensor:
    from nanochat.model.kernels.cross_entropy_triton import capped_cross_entropy_kernel

    rows, vocabulary = logits.shape
    losses = torch.empty(rows, dtype=torch.float32, device=logits.device)
    if rows:
        with torch.cuda.device_of(logits):
            capped_cross_entropy_kernel[(rows,)](
                logits,
                targets.contiguous(),
                weights.contiguous(),
                losses,
                logits.stride(0),
                vocabulary,
                softcap,
                1.0 / softcap,
                GRADIENT=want_gradient,
                BLOCK=block,
                num_warps=warps,
            )
    return losses


@_capped_cross_entropy.register_fake
def _(
    logits: Tensor, targets: Tensor, weights: Tensor, softcap: float, want_gradient: bool, block: int, warps: int
) -> Tensor:
    return logits.new_empty(logits.shape[0], dtype=torch.float32)


def capped_cross_entropy_(
    logits: Tensor,
    targets: Tensor,
    weights: Tensor,
    softcap: float,
    *,
    want_gradient: bool = True,
    block: int = BLOCK,
    warps: int = WARPS,
) -> Tensor:
    """Token losses of softcapped logits, whose place the gradient of Σ weight · loss takes.

    Softcap: Gemma 2, arXiv 2408.00118. Since capped logits are at most `softcap`, exp cannot overflow in float32 for
    the softcaps in use (up to 80), and no pass for the maximum is needed. Call it where gradients are off, as in the
    forward pass of an autograd function; the order of summation is fixed, so equal input gives equal output.

    Args:
        logits: (N, V) uncapped, bfloat16 or float32, rows at any distance; overwritten by the gradient with respect
            to them, in their type, if `want_gradient`.
        targets: (N,) int64, -1 where ignored: loss 0, gradient 0. Any other target outside the vocabulary makes its
            loss NaN.
        weights: (N,) float32; normalisation belongs in here.
        softcap: bound of the capped logits.
        want_gradient: False leaves the logits as they are.
        block: logits that a program holds at a time, a power of two.
        warps: groups of 32 threads per program.

    Returns:
        (N,) float32 unweighted losses in nats.

    Raises:
        ValueError: if the logits' type or layout, or a shape, is not as above.
    """
    # Strides of dimensions of length 1, and of empty tensors, mean nothing.
    flat = logits.dim() == 2 and (logits.stride(1) == 1 or logits.shape[1] == 1 or logits.shape[0] == 0)
    if not flat or logits.dtype not in (torch.bfloat16, torch.float32):
        raise ValueError(
            f"logits of shape {tuple(logits.shape)}, strides {logits.stride()} and type {logits.dtype}: expected"
            " (N, V) bfloat16 or float32 with contiguous rows"
        )
    if not targets.shape == weights.shape == logits.shape[:1]:
        raise ValueError(
            f"{tuple(targets.shape)} targets and {tuple(weights.shape)} weights for logits of shape"
            f" {tuple(logits.shape)}: expected one of each per row"
        )
    return _capped_cross_entropy(logits, targets, weights, softcap, want_gradient, block, warps)
