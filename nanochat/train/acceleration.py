"""How a model is made fast on the device it trains on; the results stay the same up to rounding.

Every choice here depends on the device and the model only, never on a measurement, so that a resumed run
makes the same ones and continues bit by bit.
"""

import logging
from typing import Literal

import torch

from nanochat.errors import DeviceError
from nanochat.infer.products import onednn_is_exact
from nanochat.model.gpt import GPT
from nanochat.model.kernels import probe
from nanochat.runtime import keep_freed_memory

log = logging.getLogger(__name__)

KERNELS = ("cross_entropy",)
"""Triton kernels of the model, used where they run (the optimizer asks for its own); the one for the MLP waits for a
measurement that shows it worth having."""


def accelerate(model: GPT, compile_when: Literal["auto", "always", "never"]) -> None:
    """Choose products, kernels and compilation for training.

    Args:
        model: on its device, with its compute type set.
        compile_when: `execution.compile`.
    """
    if model.config.precision == "fp8":
        _check_fp8(model.device)
        model.use_fp8()
    if model.device.type == "cuda":
        torch.set_float32_matmul_precision("high")
        from nanochat.model.flex_attention import works

        model.kernels = probe(model.device, KERNELS)
        # Without a working compiler there is no FlexAttention either: plain torch trains the same model, more slowly.
        compiled = compile_when != "never" and works(model.device)
        _decide_without_timing()
    else:
        keep_freed_memory()
        if onednn_is_exact():
            # Sends float32 products to oneDNN, which is faster than MKL on AMD.
            torch.set_float32_matmul_precision("medium")
        # Measured with the functions of pointwise.py: nothing gained, for a minute of compiling (docs/benchmarks.md).
        compiled = compile_when == "always"
        if compiled:
            _decide_without_timing()
    if compiled:
        model.compile_training()
    log.info(
        "%s on %s: %s%s",
        str(model.dtype).removeprefix("torch.") if model.config.precision != "fp8" else "fp8",
        model.device,
        "compiled" if compiled else "not compiled",
        f", kernels {', '.join(sorted(model.kernels))}" if model.kernels else "",
    )


def _decide_without_timing() -> None:
    """Keep the compiler from choosing between programs by how fast they ran today, where it knows that wish."""
    from torch._inductor import config

    if hasattr(config, "deterministic"):
        config.deterministic = True


def _check_fp8(device: torch.device) -> None:
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 9):
        name = torch.cuda.get_device_name(device)
        raise DeviceError(f"model.precision = fp8: {name} has no 8-bit products; set model.precision: bfloat16")
