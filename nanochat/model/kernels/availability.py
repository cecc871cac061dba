"""Which kernels may be used on a device: those that run there and agree with their twins."""

import importlib.util
import logging
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from nanochat.model.kernels.cross_entropy import capped_cross_entropy_, capped_cross_entropy_plain_
from nanochat.model.kernels.squared_relu import squared_relu_mlp, squared_relu_mlp_plain
from nanochat.model.kernels.symmetric import (
    gram,
    gram_plain,
    symmetric_polynomial,
    symmetric_polynomial_plain,
)

logger = logging.getLogger(__name__)

_TOLERANCE = 0.02
"""Of the largest value: several times what rounding to bfloat16 explains, far below what a wrong kernel does."""


def _interpreting() -> bool:
    import triton

    return bool(triton.knobs.runtime.interpret)


def available(device: torch.device | None = None) -> bool:
    """Whether Triton is installed and can run here: on a GPU, or on the CPU in its interpreter.

    Args:
        device: to be asked about; None for any of this machine.
    """
    if importlib.util.find_spec("triton") is None:
        return False
    if device is None:
        return torch.cuda.is_available() or _interpreting()
    return torch.cuda.is_available() if device.type == "cuda" else device.type == "cpu" and _interpreting()


def _agree(name: str, actual: Tensor, expected: Tensor) -> None:
    actual, expected = actual.float(), expected.float()
    error = (actual - expected).abs().max() / expected.abs().max()
    if not error <= _TOLERANCE:
        raise ArithmeticError(f"{name} is off by {float(error):.2g} of its largest value from plain torch")


def _random(device: torch.device, *shape: int) -> Tensor:
    # A generator of its own: asking must not change the random numbers that training draws.
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator).to(device, torch.bfloat16)


def _check_cross_entropy(device: torch.device) -> None:
    for rows, vocabulary in ((4, 8192), (3, 1001)):
        logits = 10 * _random(device, rows, vocabulary)
        targets = (torch.arange(rows, device=device) * 97) % vocabulary
        targets[-1] = -1
        weights = torch.linspace(0.1, 1.0, rows, device=device)
        expected = logits.clone()
        plain = capped_cross_entropy_plain_(expected, targets, weights, 15.0)
        _agree("the loss", capped_cross_entropy_(logits, targets, weights, 15.0), plain)
        _agree("the gradient of the logits", logits, expected)


def _check_symmetric(device: torch.device) -> None:
    # One shape of whole tiles and one that needs masks, the latter also as a transposed view.
    for x in (_random(device, 2, 256, 128), _random(device, 2, 144, 80), _random(device, 2, 80, 144).mT):
        square = gram_plain(x)
        _agree("x · xᵀ", gram(x), square)
        square = square / 100
        _agree("the polynomial", symmetric_polynomial(square, 2.0, 0.5), symmetric_polynomial_plain(square, 2.0, 0.5))


def _check_squared_relu(device: torch.device) -> None:
    for rows, width in ((128, 128), (72, 40)):
        inputs = (_random(device, rows, width), _random(device, 4 * width, width), _random(device, width, 4 * width))
        results = []
        for function in (squared_relu_mlp, squared_relu_mlp_plain):
            leaves = [tensor.detach().requires_grad_() for tensor in inputs]
            with torch.enable_grad():
                output = function(*leaves)
                gradients = torch.autograd.grad(output, leaves, _random(device, rows, width))
            results.append((output, *gradients))
        for name, actual, expected in zip(("the output", "d x", "d up", "d down"), *results):
            _agree(name, actual.detach(), expected.detach())


_CHECKS: dict[str, Callable[[torch.device], None]] = {
    "cross_entropy": _check_cross_entropy,
    "symmetric": _check_symmetric,
    "squared_relu": _check_squared_relu,
}


@cache
def probe(device: torch.device, names: tuple[str, ...] = tuple(_CHECKS)) -> frozenset[str]:
    """Names of the kernels that run on this device and agree with their twins, found once per process.

    Each kernel runs in bfloat16 on small shapes, with the tiles that any shape gets, forward and backward. What fails
    to compile or to agree is left out and named in a warning; nothing is timed, so the answer is always the same.

    Args:
        device: where the kernels would run.
        names: which to ask about, of `cross_entropy`, `symmetric` and `squared_relu`.

    Returns:
        A subset of `names`; empty where Triton cannot run.
    """
    if not available(device):
        return frozenset()
    good = set()
    for name in names:
        try:
            _CHECKS[name](device)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
        except Exception as error:  # whatever a compiler or driver may raise: plain torch does the work then
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            logger.warning("kernel %s is not used on %s: %s: %s", name, device, type(error).__name__, reason)
        else:
            good.add(name)
    return frozenset(good)
