"""The sections of gpu.py that time single operations: kernels beside their twins, FlexAttention beside dense masks.

Times are by device events, the ways in turns; each result is also compared with the one of plain torch.
"""

import statistics
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from report import Sample
from sections import Emit, guarded
from shape import Shape
from torch import Tensor
from workload import BOS, SEED, documents

from nanochat.data.loader import TokenRows
from nanochat.model.attention import AttentionKind, attend, training_masks
from nanochat.model.kernels import probe
from nanochat.model.kernels import squared_relu as relu_kernels
from nanochat.model.kernels import symmetric as symmetric_kernels
from nanochat.model.kernels.cross_entropy import capped_cross_entropy_, capped_cross_entropy_plain_
from nanochat.model.loss import soft_cap, weighted_loss
from nanochat.optim.muon import Products, orthogonalize
from nanochat.runtime import World

Prepare = Callable[[], Any]
Forward = Callable[[Any], Any]
Backward = Callable[[Any], Any]
SOFTCAP = 15.0


def _compare(
    variants: dict[str, tuple[Prepare, Forward, Backward | None]], repeats: int, warm_up: int = 4
) -> dict[str, dict[str, float]]:
    """Medians of milliseconds by device events, the variants in turns; `prepare` is outside of the time."""
    times: dict[str, dict[str, list[float]]] = {name: {} for name in variants}
    for repeat in range(warm_up + repeats):
        for name, (prepare, forward, backward) in variants.items():
            inputs = prepare()
            events = [torch.cuda.Event(enable_timing=True) for _ in range(3)]
            events[0].record()
            result = forward(inputs)
            events[1].record()
            if backward is not None:
                backward(result)
            events[2].record()
            torch.cuda.synchronize()
            if repeat >= warm_up:
                parts = {"forward_ms": events[0].elapsed_time(events[1])}
                if backward is not None:
                    parts["backward_ms"] = events[1].elapsed_time(events[2])
                    parts["total_ms"] = events[0].elapsed_time(events[2])
                for part, value in parts.items():
                    times[name].setdefault(part, []).append(value)
            del result, inputs
    return {
        name: {part: statistics.median(values) for part, values in parts.items()}
        | {"spread": Sample.of(parts.get("total_ms", parts["forward_ms"])).spread}
        for name, parts in times.items()
    }


def _with_gain(found: dict[str, dict[str, float]], ours: str, other: str) -> dict[str, Any]:
    """The measurements and how many times faster `ours` is than `other`."""
    whole = {name: parts.get("total_ms", parts["forward_ms"]) for name, parts in found.items()}
    return {**found, "gain": whole[other] / whole[ours]}


def _difference(actual: Tensor, expected: Tensor) -> float:
    """Of two results, relative to the norm of the second."""
    return float((actual.float() - expected.float()).norm() / expected.float().norm())


def _cross_entropy(shape: Shape, device: torch.device, repeats: int) -> dict[str, Any]:
    rows = max(1, (1 << 28) // shape.vocab_size)  # a chunk of model/loss.py
    logits = 3 * torch.randn(rows, shape.vocab_size, device=device, dtype=torch.bfloat16)
    targets = torch.randint(0, shape.vocab_size, (rows,), device=device)
    weights = torch.full((rows,), 1.0 / rows, device=device)
    work = torch.empty_like(logits)

    def refill() -> Tensor:
        return work.copy_(logits)  # the gradient takes the logits' place

    def run(function: Callable[..., Tensor]) -> Forward:
        return lambda chunk: function(chunk, targets, weights, SOFTCAP)

    losses = capped_cross_entropy_plain_(refill(), targets, weights, SOFTCAP)
    gradient = work.clone()
    difference = _difference(capped_cross_entropy_(refill(), targets, weights, SOFTCAP), losses)
    difference = max(difference, _difference(work, gradient))
    del gradient
    ways = {"kernel": capped_cross_entropy_, "twin": capped_cross_entropy_plain_}
    found = _compare({name: (refill, run(way), None) for name, way in ways.items()}, repeats)
    return _with_gain(found, "kernel", "twin") | {"rows": rows, "difference": difference}


def _whole_loss(shape: Shape, device: torch.device, repeats: int) -> dict[str, Any]:
    """Head, softcap and loss, forward and backward: in chunks with and without the kernel, and all logits at once."""
    positions = 32_768
    width = shape.config.width
    hidden = torch.randn(positions, width, device=device, dtype=torch.bfloat16, requires_grad=True)
    head = (0.02 * torch.randn(shape.vocab_size, width, device=device)).requires_grad_()
    targets = torch.randint(0, shape.vocab_size, (positions,), device=device)
    weights = torch.full((positions,), 1.0 / positions, device=device)

    def chunked(kernel: bool) -> Forward:
        return lambda _: weighted_loss(hidden, head, targets, weights, SOFTCAP, kernel=kernel)[0]

    def at_once(_: Any) -> Tensor:
        logits = soft_cap(F.linear(hidden, head.to(hidden.dtype)), SOFTCAP)
        return (F.cross_entropy(logits, targets, reduction="none") * weights).sum()

    def backward(loss: Tensor) -> None:
        torch.autograd.grad(loss, (hidden, head))

    ways = {"kernel": chunked(True), "twin": chunked(False), "all_at_once": at_once}
    found = _compare({name: (lambda: None, way, backward) for name, way in ways.items()}, repeats)
    for name, way in ways.items():
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        backward(way(None))
        found[name]["peak_memory_bytes"] = torch.cuda.max_memory_allocated() - before
    over_all = _with_gain(found, "kernel", "all_at_once")["gain"]
    return _with_gain(found, "kernel", "twin") | {"gain_over_all_at_once": over_all, "positions": positions}


def _symmetric(shape: Shape, device: torch.device, repeats: int) -> dict[str, Any]:
    """Orthogonalisation of the model's matrices, as Muon does it in each step."""
    width, depth = shape.config.width, shape.depth
    stacks = [
        torch.randn(4 * depth, width, width, device=device),
        torch.randn(depth, 4 * width, width, device=device),
        torch.randn(depth, width, 4 * width, device=device),
    ]
    kernels = Products(symmetric_kernels.gram, symmetric_kernels.symmetric_polynomial)

    def run(products: Products) -> Forward:
        return lambda _: [orthogonalize(stack, torch.bfloat16, products) for stack in stacks]

    difference = max(_difference(a, b) for a, b in zip(run(kernels)(None), run(Products())(None), strict=True))
    found = _compare(
        {"kernel": (lambda: None, run(kernels), None), "twin": (lambda: None, run(Products()), None)}, repeats
    )
    square = torch.randn(4 * depth, width, width, device=device, dtype=torch.bfloat16)
    single = _compare(
        {
            "kernel": (lambda: None, lambda _: symmetric_kernels.gram(square), None),
            "twin": (lambda: None, lambda _: symmetric_kernels.gram_plain(square), None),
        },
        repeats,
    )
    alone = _with_gain(single, "kernel", "twin")
    return _with_gain(found, "kernel", "twin") | {"difference": difference, "gram_alone": alone}


def _squared_relu(shape: Shape, device: torch.device, repeats: int) -> dict[str, Any]:
    """The MLP, forward and backward, against plain torch as it is and compiled."""
    rows, width = shape.device_batch_size * shape.sequence_length, shape.config.width

    def leaf(*size: int, scale: float) -> Tensor:
        return (scale * torch.randn(*size, device=device, dtype=torch.bfloat16)).requires_grad_()

    x, up, down = leaf(rows, width, scale=1.0), leaf(4 * width, width, scale=0.02), leaf(width, 4 * width, scale=0.02)
    gradient = torch.randn(rows, width, device=device, dtype=torch.bfloat16)
    ways: dict[str, Callable[..., Tensor]] = {
        "kernel": relu_kernels.squared_relu_mlp,
        "twin": relu_kernels.squared_relu_mlp_plain,
        "twin_compiled": torch.compile(relu_kernels.squared_relu_mlp_plain),
    }
    difference = _difference(ways["kernel"](x, up, down).detach(), ways["twin"](x, up, down).detach())

    def backward(out: Tensor) -> None:
        torch.autograd.grad(out, (x, up, down), gradient)

    def run(way: Callable[..., Tensor]) -> Forward:
        return lambda _: way(x, up, down)

    found = _compare({name: (lambda: None, run(way), backward) for name, way in ways.items()}, repeats)
    compiled = _with_gain(found, "kernel", "twin_compiled")["gain"]
    more = {"gain_over_compiled": compiled, "difference": difference, "rows": rows}
    return _with_gain(found, "kernel", "twin") | more


def kernels(given: dict[str, Any], emit: Emit) -> None:
    """Each kernel against its twin at the shapes of the given models."""
    device = World.open(given["device"]).device
    usable = probe(device)
    emit(usable=sorted(usable))
    torch.set_float32_matmul_precision("high")
    measured = {
        "cross_entropy": ("cross_entropy", _cross_entropy),
        "whole_loss": ("cross_entropy", _whole_loss),
        "symmetric": ("symmetric", _symmetric),
        "squared_relu": ("squared_relu", _squared_relu),
    }
    for model, shape in given["shapes"].items():
        for name, (kernel, measure) in measured.items():
            if kernel not in usable:
                emit(failed={f"{model} {name}": "the kernel cannot be used on this device"})
                continue
            with guarded(emit, f"{model} {name}"):
                emit(**{model: {name: measure(Shape(**shape), device, given["repeats"])}})
            torch.cuda.empty_cache()


def attention(given: dict[str, Any], emit: Emit) -> None:
    """FlexAttention against dense masks: whole rows and packed ones, full window and a quarter of it."""
    device = World.open(given["device"]).device
    for model, values in given["shapes"].items():
        shape = Shape(**values)
        config, length = shape.config, shape.sequence_length
        rows = min(16, shape.device_batch_size)
        size = (rows, length, config.heads, config.head_dim)
        text = TokenRows([documents(shape.vocab_size, 1024 * length)], length, SEED, BOS)
        segments = torch.from_numpy(text.read(0, rows).segments).to(device, torch.int32)
        for packed in (False, True):
            for window in sorted(set(config.windows), reverse=True):
                name = f"{'packed' if packed else 'whole'} rows, window {window}"
                with guarded(emit, f"{model} {name}"):
                    q, k, v, gradient = (torch.randn(size, device=device, dtype=torch.bfloat16) for _ in range(4))
                    q, k, v = (x.requires_grad_() for x in (q, k, v))
                    scale = config.attention_sharpness * config.head_dim**-0.5
                    found = _attention_ways(
                        (q, k, v), gradient.flatten(2), window, segments if packed else None, scale, given["repeats"]
                    )
                    emit(**{model: {name: found | {"rows": rows}}})
                torch.cuda.empty_cache()


def _attention_ways(
    qkv: tuple[Tensor, Tensor, Tensor],
    gradient: Tensor,
    window: int,
    segments: Tensor | None,
    scale: float,
    repeats: int,
) -> dict[str, Any]:
    q, k, v = qkv
    kinds: tuple[AttentionKind, ...] = ("flex", "dense")

    def masks(kind: AttentionKind) -> Any:
        return training_masks([window], q.shape[1], segments, q.device, q.dtype, kind)[window]

    made = {kind: masks(kind) for kind in kinds}
    # As in training: FlexAttention is made to be compiled.
    ways = {"flex": torch.compile(attend, dynamic=False), "dense": attend}

    def run(kind: AttentionKind) -> Forward:
        return lambda _: ways[kind](q, k, v, made[kind], scale)

    def make(kind: AttentionKind) -> Forward:
        return lambda _: masks(kind)

    def backward(out: Tensor) -> None:
        torch.autograd.grad(out, (q, k, v), gradient)

    # With gradients on, so that only what is timed is compiled.
    difference = _difference(run("flex")(None).detach(), run("dense")(None).detach())
    found = _compare({kind: (lambda: None, run(kind), backward) for kind in kinds}, repeats)
    making = _compare({kind: (lambda: None, make(kind), None) for kind in kinds}, repeats)
    for kind in kinds:
        found[kind]["mask_ms"] = making[kind]["forward_ms"]
    return _with_gain(found, "flex", "dense") | {"difference": difference}
