"""Muon: momentum, made orthogonal (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/)."""

import torch
from torch import Tensor

# Polar Express (Amsel et al., arXiv 2505.16932): the best odd quintic for each of five steps, from singular values
# of 1e-3 up, with its safety factor of 2 % on the norm.
_POLAR_EXPRESS = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)
_VARIANCE_DECAY = 0.9


def orthogonalize(matrices: Tensor) -> Tensor:
    """The nearest semi-orthogonal matrix to each one, approximately: all singular values become about 1.

    Args:
        matrices: (K, rows, columns) of one shape.

    Returns:
        (K, rows, columns); computed in bfloat16 on GPUs, in float32 on CPUs.
    """
    x = matrices.bfloat16() if matrices.is_cuda else matrices.float()
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) * 1.02 + 1e-6)
    for a, b, c in _POLAR_EXPRESS:
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return (x.mT if tall else x).to(matrices.dtype)


def muon_update(
    weights: Tensor,
    gradients: Tensor,
    average: Tensor,
    variance: Tensor,
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
) -> None:
    """One step on a stack of matrices, in place.

    Nesterov momentum; orthogonalisation; rows evened out by a running mean of their squares, keeping the norm
    (NorMuon, arXiv 2510.05491); step × √(rows / columns) for tall matrices; decoupled weight decay only where it and
    the update agree in sign (cautious weight decay, arXiv 2510.12402).

    Args:
        weights: (K, rows, columns) float32.
        gradients: of the same shape; overwritten.
        average: running mean of the gradients, of the same shape.
        variance: running mean of the updates' squares, (K, rows, 1) float32.
        lr: learning rate.
        momentum: decay of `average`.
        weight_decay: share of the weights taken away per unit of learning rate.
    """
    average.lerp_(gradients, 1 - momentum)
    update = orthogonalize(gradients.lerp_(average, momentum))
    size = update.norm(dim=(-2, -1), keepdim=True)
    variance.lerp_(update.square().mean(dim=-1, keepdim=True), 1 - _VARIANCE_DECAY)
    update = update * (variance + 1e-10).rsqrt()
    update.mul_(size / (update.norm(dim=(-2, -1), keepdim=True) + 1e-10))
    update.mul_(max(1.0, weights.shape[-2] / weights.shape[-1]) ** 0.5)
    if weight_decay:
        update.add_(weights * (update * weights > 0), alpha=weight_decay)
    weights.add_(update, alpha=-lr)
