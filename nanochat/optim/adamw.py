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
) -> None:
    """One step, in place.

    Args:
        weights: float32, of any shape.
        gradients: of the same shape; overwritten.
        average: running mean of the gradients.
        square: running mean of their squares.
        step: 1 for the first update of this state.
        lr: learning rate.
        beta1: decay of `average`.
        beta2: decay of `square`.
        epsilon: size of a gradient that counts as noise.
    """
    average.lerp_(gradients, 1 - beta1)
    square.mul_(beta2).addcmul_(gradients, gradients, value=1 - beta2)
    # The gradient's memory holds the denominator: embeddings are the largest tensors there are.
    denominator = gradients.copy_(square).div_(1 - beta2**step).sqrt_().add_(epsilon)
    weights.addcdiv_(average, denominator, value=-lr / (1 - beta1**step))
