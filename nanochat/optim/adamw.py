"""Adam with bias correction (Kingma and Ba, arXiv 1412.6980); embeddings, head and scalars carry no weight decay."""

from torch import Tensor


def adam_update(
    weights: Tensor,
    gradients: Tensor,
    average: Tensor,
    square: Tensor,
    *,
    step: int,
    lr: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    row_share: float = 0.0,
    floor: Tensor | None = None,
) -> None:
    """One step, in place.

    Args:
        weights: (rows, columns) float32.
        gradients: of the same shape; overwritten.
        average: running mean of the gradients.
        square: running mean of their squares.
        step: 1 for the first update of this state.
        lr: learning rate.
        beta1: decay of `average`.
        beta2: decay of `square`.
        epsilon: added to the denominator, for rows without any gradient.
        row_share: share of its row's root mean square gradient that is added as well. Adam's first steps are the
            sign of the gradient, so that an element whose gradient is all rounding makes whole steps at random; the
            elements of one row (a token's embedding) are of one scale, and what lies far below it counts as small.
        floor: scalar; elements whose root mean square gradient is not above it are noise, and stay as they are.
    """
    average.lerp_(gradients, 1 - beta1)
    square.mul_(beta2).addcmul_(gradients, gradients, value=1 - beta2)
    correction = 1 - beta2**step
    scale = square.mean(dim=-1, keepdim=True).div_(correction).sqrt_().mul_(row_share).add_(epsilon)
    # The gradient's memory holds the denominator: embeddings are the largest tensors there are.
    denominator = gradients.copy_(square).div_(correction).sqrt_()
    if floor is not None:
        denominator.masked_fill_(denominator <= floor, float("inf"))
    weights.addcdiv_(average, denominator.add_(scale), value=-lr / (1 - beta1**step))
