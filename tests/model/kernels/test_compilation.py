"""Kernels compile to machine code for the GPUs they were written for; that needs no GPU.

Shapes as in training: multiples of 16, contiguous, bfloat16.
"""

import os
from typing import NamedTuple

import pytest
import torch

from nanochat.model.kernels.tiles import product_tiles, square_tiles

triton = pytest.importorskip("triton", reason="Triton is not installed")
pytestmark = pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="Triton interprets in this process")


class Gpu(NamedTuple):
    capability: int
    shared_kib: int
    """Per multiprocessor; one program gets 1 KiB less."""


GPUS = pytest.mark.parametrize("gpu", [Gpu(90, 228), Gpu(121, 100)], ids=["H100", "GB10"])


def compiled(kernel, gpu, constants, units, warps, stages, tmp_path, monkeypatch):
    """The kernel for a GPU: arguments in `units` are strides of 1, the other whole numbers multiples of 16."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    known = {
        "logits": "*bf16", "targets": "*i64", "weights": "*fp32", "losses": "*fp32",
        "softcap": "fp32", "inverse_softcap": "fp32", "b": "fp32", "c": "fp32",
        "x": "*bf16", "result": "*bf16", "left": "*bf16", "right": "*bf16", "first": "*bf16", "second": "*bf16",
    }  # fmt: skip
    constants = constants | dict.fromkeys(units, 1)
    types = {name: "constexpr" if name in constants else known.get(name, "i32") for name in kernel.arg_names}
    aligned = {
        (place,): [["tt.divisibility", 16]]
        for place, kind in enumerate(types.values())
        if kind not in ("constexpr", "fp32")
    }
    places = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    source = ASTSource(kernel, types, constexprs=places, attrs=aligned)
    target = GPUTarget("cuda", gpu.capability, 32)
    result = triton.compile(source, target=target, options={"num_warps": warps, "num_stages": stages})
    assert result.metadata.shared <= (gpu.shared_kib - 1) << 10
    assert len(result.asm["cubin"]) > 0
    return result.asm["ptx"]


def assert_on_tensor_cores(ptx, gpu):
    assert ("wgmma.mma_async" if gpu.capability == 90 else "mma.sync") in ptx
    assert "cp.async" in ptx, "loads of the factors are not on their way while products are made"


@GPUS
def test_cross_entropy(gpu, tmp_path, monkeypatch):
    from nanochat.model.kernels.cross_entropy import BLOCK, WARPS
    from nanochat.model.kernels.cross_entropy_triton import capped_cross_entropy_kernel

    constants = {"GRADIENT": True, "BLOCK": BLOCK}
    ptx = compiled(capped_cross_entropy_kernel, gpu, constants, [], WARPS, 3, tmp_path, monkeypatch)
    assert "ld.global.v4" in ptx and "st.global.v4" in ptx, "rows are not read and written 16 bytes at a time"


@GPUS
@pytest.mark.parametrize("polynomial", [False, True])
def test_symmetric(gpu, polynomial, tmp_path, monkeypatch):
    from nanochat.model.kernels.symmetric_triton import symmetric_product_kernel

    block, _, depth, warps, stages = square_tiles(gpu.shared_kib << 10, torch.bfloat16)
    constants = {"POLYNOMIAL": polynomial, "EVEN": True, "WIDEN": False, "BLOCK": block, "DEPTH": depth}
    ptx = compiled(symmetric_product_kernel, gpu, constants, ["column_stride"], warps, stages, tmp_path, monkeypatch)
    assert_on_tensor_cores(ptx, gpu)


@GPUS
@pytest.mark.parametrize("gradient", [False, True])
def test_squared_relu(gpu, gradient, tmp_path, monkeypatch):
    from nanochat.model.kernels.squared_relu_triton import squared_relu_kernel

    rows, columns, depth, warps, stages = product_tiles(gpu.shared_kib << 10, torch.bfloat16)
    constants = {"GRADIENT": gradient, "EVEN": False, "WIDEN": False}
    constants |= {"ROWS": rows, "COLUMNS": columns, "DEPTH": depth}
    units = ["left_column_stride", "right_column_stride" if gradient else "right_row_stride"]
    ptx = compiled(squared_relu_kernel, gpu, constants, units, warps, stages, tmp_path, monkeypatch)
    assert_on_tensor_cores(ptx, gpu)
