"""Training on a GPU against plain torch (SDPA with dense masks, all logits at once, parameter-wise optimizer).

    python benchmarks/gpu.py
    python benchmarks/gpu.py --only train-d12-bfloat16,kernels

Sections run one after the other, the most telling first, each as a program of its own, and share a budget of time;
what fails or is left out is named. Without CUDA only a tiny model is trained, on the CPU, so that the script is known
to work. MFU counts FLOPs as `nanochat.model.scaling.flops_per_token`, and is a share of bfloat16's rates in fp8 too.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from report import finish, machine, number, print_table, share
from shape import Shape

SECTIONS = Path(__file__).with_name("gpu_sections.py")
LEAST_SECONDS = 20.0
MODELS = {
    "d12": Shape(12, 128, 32_768, 2048, "SSSL", "bfloat16", 524_288, 32),
    "d20": Shape(20, 128, 65_536, 2048, "SSSL", "bfloat16", 524_288, 16),
}
TINY = Shape(2, 32, 256, 128, "SL", "float32", 1024, 4)


def merge(into: dict[str, Any], values: dict[str, Any]) -> None:
    """Put figures into figures, level by level."""
    for key, value in values.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value


def run_section(name: str, given: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Run a section as a program; what it told until its end, or until `seconds` were over."""
    environment = os.environ | {"GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", "5000")}
    process = subprocess.Popen(
        [sys.executable, str(SECTIONS), name, json.dumps(given)], env=environment, stdout=subprocess.PIPE, text=True
    )
    found: dict[str, Any] = {"failed": {}}
    try:
        output, _ = process.communicate(timeout=seconds)
        if process.returncode:
            found["failed"][name] = f"ended with code {process.returncode}"
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
        found["failed"][name] = f"cut off after {seconds:.0f} s"
    for line in output.splitlines():
        try:
            merge(found, json.loads(line))
        except json.JSONDecodeError:
            found["failed"][name] = "cut off while it told a figure"
    return found


def planned(arguments: argparse.Namespace) -> dict[str, tuple[str, dict[str, Any]]]:
    """Sections by name, most telling first: which kind, and what it is given."""
    common = {"device": "cuda", "steps": arguments.steps, "repeats": arguments.repeats, "compile": "auto"}
    shapes = {name: shape.to_dict() for name, shape in MODELS.items()}
    if arguments.device_batch_size:
        shapes = {name: shape | {"device_batch_size": arguments.device_batch_size} for name, shape in shapes.items()}
    kernels = {"device": "cuda", "repeats": 20, "shapes": shapes}
    sections: dict[str, tuple[str, dict[str, Any]]] = {}
    for model, shape in shapes.items():
        contestants = {"ours": ("ours", shape), "plain": ("plain", shape)}
        if model == "d12":
            contestants["plain_compiled"] = ("plain_compiled", shape)
        sections[f"train-{model}-bfloat16"] = ("train", common | {"contestants": contestants})
    # Each kind of mask is compiled for itself: one model is enough.
    one = kernels | {"shapes": {"d12": shapes["d12"]}}
    sections |= {"kernels": ("kernels", kernels), "attention": ("attention", one)}
    for model, shape in shapes.items():
        contestants = {"fp8": ("ours", shape | {"precision": "fp8"}), "bfloat16": ("ours", shape)}
        sections[f"train-{model}-fp8"] = ("train", common | {"contestants": contestants})
    return sections


def show_training(name: str, found: dict[str, Any]) -> None:
    """Table of a training section."""
    contestants = {key: value for key, value in found.items() if isinstance(value, dict) and "tokens_per_s" in value}
    first = next(iter(contestants.values()), None)
    if first is None:
        return
    rows = []
    for key, value in contestants.items():
        peak = value["peak_memory_bytes"]
        rows.append(
            [
                key,
                number(value["tokens_per_s"], 0),
                share(value["spread"]),
                number(first["tokens_per_s"] / value["tokens_per_s"]),
                share(value["mfu_datasheet"]),
                share(value["mfu_measured"]),
                number(None if peak is None else peak / 2**30, 1, " GiB"),
                str(value["device_batch_size"]),
                number(value["first_step_seconds"], 1, " s"),
            ]
        )
    rate = found.get("matmul_flops")
    print_table(
        f"{name}: {found['flops_per_token'] / 1e6:,.1f} MFLOP/token, "
        f"matrix rate {number(None if rate is None else rate / 1e12, 2)} TFLOP/s",
        ["", "tokens/s", "spread", "first / it", "MFU datasheet", "MFU measured", "peak", "rows", "first step"],
        rows,
    )


def show_parts(name: str, found: dict[str, Any]) -> None:
    """Table of the kernels or the attention section: milliseconds of each way, and the gain of the first."""
    rows = []
    for model, parts in found.items():
        if model == "failed" or not isinstance(parts, dict):
            continue
        for part, ways in parts.items():
            measured = {key: value for key, value in ways.items() if isinstance(value, dict) and "forward_ms" in value}
            for place, (way, value) in enumerate(measured.items()):
                cells = [number(value.get(key), 3) for key in ("forward_ms", "backward_ms", "mask_ms")]
                cells.append(share(value["spread"]))
                tail = [number(ways["gain"]), number(ways.get("difference"), 5)] if place == 0 else ["", ""]
                rows.append([f"{model} {part}: {way}", *cells, *tail])
    if rows:
        header = ["milliseconds", "forward", "backward", "mask", "spread", "gain over next", "difference"]
        print_table(name, header, rows)


def headline(found: dict[str, Any], section: str, ours: str, other: str | None) -> dict[str, Any]:
    """The figures of a training section that are asked for, null where they were not measured."""
    own = found.get(section, {}).get(ours, {})
    against = found.get(section, {}).get(other, {}) if other else {}
    keys = ("tokens_per_s", "mfu_datasheet", "mfu_measured", "peak_memory_bytes")
    figures: dict[str, Any] = {key: own.get(key) for key in keys}
    measured = "tokens_per_s" in own and "tokens_per_s" in against
    figures["ratio"] = own["tokens_per_s"] / against["tokens_per_s"] if measured else None
    figures["compared_with"] = other
    return figures


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="sections, separated by commas; default: all")
    parser.add_argument("--budget", type=float, default=450.0, help="seconds for everything (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=2, help="optimizer steps of a turn (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each (default: %(default)s)")
    parser.add_argument("--device-batch-size", type=int, help="rows per forward pass; default: 32 at d12, 16 at d20")
    arguments = parser.parse_args()
    cuda = torch.cuda.is_available()
    sections = planned(arguments)
    names = list(sections)
    if arguments.only:
        names = arguments.only.split(",")
        unknown = [name for name in names if name not in sections]
        if unknown:
            parser.error(f"no section {', '.join(unknown)}; there are {', '.join(sections)}")
    not_measured: list[str] = []
    if not cuda:
        not_measured = [f"{name}: no CUDA device" for name in names]
        not_measured += [f"cpu-tiny {what}: no CUDA device" for what in ("mfu_datasheet", "peak_memory_bytes")]
        contestants = {kind: (kind, TINY.to_dict()) for kind in ("ours", "plain")}
        tiny = {"device": "cpu", "steps": arguments.steps, "repeats": arguments.repeats, "compile": "never"}
        sections, names = {"cpu-tiny": ("train", tiny | {"contestants": contestants})}, ["cpu-tiny"]

    end = time.monotonic() + arguments.budget
    found: dict[str, Any] = {}
    for name in names:
        left = end - time.monotonic()
        if left < LEAST_SECONDS:
            not_measured.append(f"{name}: the budget of {arguments.budget:.0f} s was spent")
            continue
        kind, given = sections[name]
        begin = time.monotonic()
        found[name] = run_section(kind, given, left)
        found[name]["wall_seconds"] = time.monotonic() - begin
        (show_training if kind == "train" else show_parts)(name, found[name])
        not_measured += [f"{name} {what}: {why}" for what, why in found[name].pop("failed").items()]

    if not_measured:
        print("\nnot measured:")
    for line in not_measured:
        print(f"  {line}")
    figures: dict[str, Any] = {
        f"{model}_{precision}": headline(found, f"train-{model}-{precision}", ours, other)
        for model in MODELS
        for precision, ours, other in (("bfloat16", "ours", "plain"), ("fp8", "fp8", "bfloat16"))
    }
    if not cuda:
        figures["cpu_tiny"] = headline(found, "cpu-tiny", "ours", "plain")
    figures |= {
        "kernels": found.get("kernels"),
        "attention": found.get("attention"),
        "sections": found,
        "not_measured": not_measured,
    }
    finish("gpu", figures, machine(torch.device("cuda", 0) if cuda else torch.device("cpu")))


if __name__ == "__main__":
    main()
