"""Sections of gpu.py, each run as a program of its own: what fails in one, or breaks the device's context, ends there.

Figures go to the output as they are found, one JSON object per line, which gpu.py merges: a section that is cut off
keeps what it had. `{"failed": …}` lines say what could not be measured.
"""

import json
import logging
import os
import sys
from collections.abc import Callable
from typing import Any

import torch
from gpu_parts import attention, kernels
from plain import PlainGPT, PlainMuonAdamW
from report import Sample
from sections import Emit, guarded
from shape import Shape
from workload import BOS, SEED, Trainee, documents

from nanochat.data.loader import TokenRows
from nanochat.model.scaling import flops_per_token
from nanochat.runtime import World, measured_matmul_flops, peak_flops, set_deterministic
from nanochat.train.prefetch import Prefetched
from nanochat.train.sources import RowSteps


def _trainee(kind: str, shape: Shape, device: torch.device, compile_when: Any) -> Trainee:
    if kind == "ours":
        return Trainee(shape, device, compile_when)
    model = PlainGPT(shape.config)
    trainee = Trainee(shape, device, "never", model, PlainMuonAdamW)
    if kind == "plain_compiled":
        model.compile_all()
    return trainee


def train(given: dict[str, Any], emit: Emit) -> None:
    """Training in turns: tokens/s, share of both peak rates, peak memory.

    `given`: `device`, `steps`, `repeats`, `compile`, and `contestants`: name → kind (`ours`, `plain` or
    `plain_compiled`) and shape.
    """
    set_deterministic(SEED)  # as training does, and before the first product
    world = World.open(given["device"])
    device = world.device
    cuda = device.type == "cuda"
    contestants = {name: (kind, Shape(**shape)) for name, (kind, shape) in given["contestants"].items()}
    shape = next(iter(contestants.values()))[1]
    flops = flops_per_token(shape.config)
    datasheet = peak_flops(torch.cuda.get_device_name(device)) if cuda else None
    rate_type = torch.bfloat16 if cuda else torch.float32
    matmul = measured_matmul_flops(device, rate_type)
    tokens = documents(shape.vocab_size, max(2 * 1024 * shape.sequence_length, 2 * shape.total_batch_size))
    rows = TokenRows([tokens], shape.sequence_length, SEED, BOS)
    source = Prefetched(RowSteps(rows, shape.rows_per_step, world), 1 << 30, device=device)
    next_step = 0
    trainees: dict[str, Trainee] = {}
    seconds: dict[str, list[float]] = {}
    losses: dict[str, float] = {}

    def step(name: str) -> float:
        nonlocal next_step
        # A global of torch: our training asks for it, plain training does not.
        torch.use_deterministic_algorithms(contestants[name][0] == "ours", warn_only=True)
        taken, losses[name], _ = trainees[name].timed_step(lambda: source.read(next_step).rows)
        next_step += 1
        return taken

    def tell(name: str, **more: Any) -> None:
        rates = Sample.of([shape.total_batch_size / taken for taken in seconds[name]])
        reached = rates.median * flops
        emit(
            **{
                name: {
                    "tokens_per_s": rates.median,
                    "spread": rates.spread,
                    "mfu_datasheet": reached / datasheet if datasheet else None,
                    "mfu_measured": reached / matmul,
                    "device_batch_size": trainees[name].device_batch_size,
                    "loss": losses[name],
                    **more,
                }
            }
        )

    emit(flops_per_token=flops, shape=shape.to_dict())
    for name, (kind, own) in contestants.items():
        with guarded(emit, name):
            before = 0
            if cuda:
                before = torch.cuda.memory_allocated(device)
                torch.cuda.reset_peak_memory_stats(device)
            trainees[name] = _trainee(kind, own, device, given["compile"])
            first = step(name)
            seconds[name] = [step(name)]
            peak = torch.cuda.max_memory_allocated(device) - before if cuda else None
            tell(name, first_step_seconds=first, peak_memory_bytes=peak)
            seconds[name] = []  # the turns count
        if name not in seconds:
            trainees.pop(name, None)
    matmul = max(matmul, measured_matmul_flops(device, rate_type))
    for _ in range(given["repeats"]):
        for name in list(trainees):
            with guarded(emit, name):
                seconds[name] += [step(name) for _ in range(given["steps"])]
                tell(name)
    matmul = max(matmul, measured_matmul_flops(device, rate_type))
    for name in trainees:
        if seconds[name]:
            tell(name)
    emit(matmul_flops=matmul, datasheet_flops=datasheet)
    source.close()


SECTIONS: dict[str, Callable[[dict[str, Any], Emit], None]] = {
    "train": train,
    "kernels": kernels,
    "attention": attention,
}


def main() -> None:
    """Arguments: name of the section, JSON of what it is given."""
    # What libraries print must not mix with the figures.
    figures = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    def emit(**values: Any) -> None:
        figures.write(json.dumps(values) + "\n")
        figures.flush()

    # Several models, masks and shapes in one process compile the same lines again and again.
    torch._dynamo.config.recompile_limit = 64
    name, given = sys.argv[1], json.loads(sys.argv[2])
    with guarded(emit, name):
        SECTIONS[name](given, emit)
    os._exit(0)  # a broken device must not hang what is already done


if __name__ == "__main__":
    main()
