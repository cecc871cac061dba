"""Muon: momentum, made orthogonal (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nanochat.model.kernels import probe
from nanochat.model.kernels.symmetric import (
    gram,
    gram_plain,
    symmetric_polynomial,
    symmetric_polynomial_plain,
)

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
_AGREEMENT = 0.1
"""Share of an update's root mean square from which on an element agrees with the sign of its weight in full."""


@dataclass(frozen=True)
class Products:
    """The symmetric products of orthogonalisation: as kernels that do half the work, or in plain torch."""

    gram: Callable[[Tensor], Tensor] = gram_plain
    polynomial: Callable[[Tensor, float, float], Tensor] = symmetric_polynomial_plain


def best_products(device: torch.device) -> Products:
    """The products to use on this device: kernels where they run and agree with plain torch."""
    return Products(gram, symmetric_polynomial) if probe(device, ("symmetric",)) else Products()


def orthogonalize(matrices: Tensor, dtype: torch.dtype = torch.float32, products: Products | None = None) -> Tensor:
    """The nearest semi-orthogonal matrix to each one, approximately: all singular values become about 1.

    Args:
        matrices: (K, rows, columns) of one shape.
        dtype: of the products.
        products: how the symmetric ones are made; None: in plain torch.

    Returns:
        (K, rows, columns) of the type of `matrices`.
    """
    products = products or Products()
    # The norm in full precision; the small number is for matrices without a gradient.
    x = (matrices / (torch.linalg.matrix_norm(matrices, keepdim=True) * 1.02 + 1e-6)).to(dtype)
    tall = x.shape[-2] > x.shape[-1]
    for a, b, c in _POLAR_EXPRESS:
        # On the side of the smaller Gram matrix.
        polynomial = products.polynomial(products.gram(x.mT if tall else x), b, c)
        x = torch.baddbmm(x, x, polynomial, beta=a) if tall else torch.baddbmm(x, polynomial, x, beta=a)
    return x.to(matrices.dtype)


def _agreement(update: Tensor, weights: Tensor) -> Tensor:
    """How far each element of an update shrinks its weight: 0 where it does not, 1 where it does, and a ramp between.

    A step from 0 to 1 would turn the last bit of an update near zero into a whole decay or none.
    """
    scale = _AGREEMENT * update.square().mean(dim=(-2, -1), keepdim=True).sqrt()
    return (update / (scale + 1e-30)).mul_(weights.sign()).clamp_(0.0, 1.0)


def muon_update(
    weights: Tensor,
    gradients: Tensor,
    average: Tensor,
    variance: Tensor,
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
    dtype: torch.dtype = torch.float32,
    products: Products | None = None,
) -> None:
    """One step on a stack of matrices, in place.

    Nesterov momentum; orthogonalisation; rows evened out by a running mean of their squares, keeping the norm
    (NorMuon, arXiv 2510.05491); step × √(rows / columns) for tall matrices; decoupled weight decay only where it and
    the update agree in sign (cautious weight decay, arXiv 2510.12402), with a ramp for updates near zero.

    Args:
        weights: (K, rows, columns) float32.
        gradients: of the same shape; overwritten.
        average: running mean of the gradients, of the same shape.
        variance: running mean of the updates' squares, (K, rows, 1) float32.
        lr: learning rate.
        momentum: decay of `average`.
        weight_decay: share of the weights taken away per unit of learning rate.
        dtype: of the products of orthogonalisation.
        products: how its symmetric ones are made; None: in plain torch.
    """
    average.lerp_(gradients, 1 - momentum)
    update = orthogonalize(gradients.lerp_(average, momentum), dtype, products)
    size = torch.linalg.matrix_norm(update, keepdim=True)
    variance.lerp_(update.square().mean(dim=-1, keepdim=True), 1 - _VARIANCE_DECAY)
    update = update * (variance + 1e-10).rsqrt()
    stretch = max(1.0, weights.shape[-2] / weights.shape[-1]) ** 0.5
    update.mul_(stretch * size / (torch.linalg.matrix_norm(update, keepdim=True) + 1e-10))
    if weight_decay:
        update.addcmul_(weights, _agreement(update, weights), value=weight_decay)
    weights.add_(update, alpha=-lr)
