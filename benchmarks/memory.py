"""Peak memory of training: what the model of memory predicts beside what the process, or the GPU, reports.

python benchmarks/memory.py [--only NAME …] [--steps 2]

Each shape trains some real steps in a process of its own: model, optimizer, loss, backward pass, update, and the copy
that step checkpoints are written from. On a CPU the peak is that of resident memory, libraries included; on a GPU
that of torch's allocator. The last line is one JSON object with the figures of the table.
"""

import argparse
import gc
import json
import platform
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from nanochat.model.config import GPTConfig
from nanochat.model.memory import Memory, MemorySettings, training_memory


def shape(depth, width, vocab, length, *, head_dim=64, **more) -> GPTConfig:
    """A model by its main numbers."""
    heads = width // head_dim
    values = {"kv_heads": heads} | more
    return GPTConfig(
        depth=depth, width=width, heads=heads, head_dim=head_dim, vocab_size=vocab, sequence_length=length, **values
    )


CPU_SHAPES = {
    "reference d4, bf16": (shape(4, 256, 4096, 512), 32, MemorySettings()),
    "large vocabulary, bf16": (shape(6, 384, 32768, 1024), 4, MemorySettings()),
    "windows, float32": (shape(8, 384, 8192, 512, window_pattern="SSSL"), 8, MemorySettings(dtype="float32")),
    "classic, float32": (shape(6, 384, 4096, 512, arch="classic"), 12, MemorySettings(dtype="float32")),
    "deep, bf16, recomputed": (shape(16, 256, 8192, 512), 32, MemorySettings(recompute=True)),
    "wide, float32, recomputed": (shape(4, 768, 4096, 256), 8, MemorySettings(dtype="float32", recompute=True)),
    "grouped keys, long rows, bf16": (
        shape(4, 512, 4096, 2048, kv_heads=2, window_pattern="SL"),
        4,
        MemorySettings(),
    ),
}
CUDA = MemorySettings(device="cuda", staging=False)
CUDA_SHAPES = {
    "d12": (shape(12, 768, 32768, 2048, head_dim=128, window_pattern="SSSL"), 32, CUDA),
    "d12, recomputed": (
        shape(12, 768, 32768, 2048, head_dim=128, window_pattern="SSSL"),
        64,
        replace(CUDA, recompute=True),
    ),
    "d12, dense": (
        shape(12, 768, 32768, 2048, head_dim=128, window_pattern="SSSL"),
        16,
        replace(CUDA, attention="dense"),
    ),
    "d20 classic": (shape(20, 1280, 65536, 2048, head_dim=128, arch="classic"), 32, CUDA),
    "d24": (shape(24, 1536, 32768, 2048, head_dim=128, window_pattern="SSSL"), 16, CUDA),
    "d12, fp8": (
        shape(12, 768, 32768, 2048, head_dim=128, window_pattern="SSSL", precision="fp8"),
        32,
        CUDA,
    ),
}


def measure(config: GPTConfig, rows: int, settings: MemorySettings, steps: int, compile_when: str) -> dict[str, float]:
    """Train for some steps in this process; returns its peak in bytes, and the settings as they turned out."""
    import numpy as np
    import torch

    from nanochat.config import BaseSettings, ModelSettings
    from nanochat.data.packing import Batch
    from nanochat.model.gpt import GPT
    from nanochat.model.scaling import base_plan
    from nanochat.optim.sharded import MuonAdamW
    from nanochat.runtime import World, return_freed_memory
    from nanochat.train.acceleration import accelerate
    from nanochat.train.accumulate import accumulate
    from nanochat.train.checkpoint import StepCheckpoints

    with World.open(settings.device) as world:
        model = GPT(config)
        model.init_weights(0)
        model.to(world.device)
        model.dtype = getattr(torch, settings.dtype)
        model.recompute = settings.recompute
        model.attention_kind = settings.attention or "auto"
        tokens = rows * config.sequence_length
        base = BaseSettings(steps=steps, total_batch_size=tokens)
        shape = ModelSettings(sequence_length=config.sequence_length)
        plan = base_plan(config.depth, shape, base, config.vocab_size)
        accelerate(model, compile_when)
        if settings.recompute:
            return_freed_memory()
        optimizer = MuonAdamW(model.parameter_groups(), plan, world, dtype=model.dtype)
        checkpoints = StepCheckpoints(Path(tempfile.gettempdir()), world)
        checkpoints.reserve((f"model.{name}", value) for name, value in model.state_dict().items())
        checkpoints.reserve((f"optimizer.{name}", value) for name, value in optimizer.state_items())
        ids = np.random.default_rng(0).integers(0, config.vocab_size, (rows, config.sequence_length + 1))
        ids = ids.astype(np.int32)
        batch = Batch(ids[:, :-1], ids[:, 1:], np.zeros((rows, config.sequence_length), dtype=np.int32))
        for _ in range(steps):
            accumulate(model, optimizer, batch, float(tokens), rows)
            optimizer.reduce()
            optimizer.step(1.0, 0.9)
        gc.collect()
        found = {"kernels": "cross_entropy" in model.kernels}
        if world.device.type == "cuda":
            torch.cuda.synchronize()
            return found | {"peak": torch.cuda.max_memory_allocated(), "reserved": torch.cuda.max_memory_reserved()}
    # Of this program only, where getrusage also counts the one that started it.
    status = Path("/proc/self/status").read_text()
    return found | {"peak": 1024 * int(status.split("VmHWM:")[1].split()[0])}


def compare(name: str, config: GPTConfig, rows: int, settings: MemorySettings, arguments) -> dict[str, object]:
    """Measure one shape in a process of its own, beside what is predicted."""
    task = {"config": config.model_dump(), "rows": rows, "settings": vars(settings)}
    command = [sys.executable, __file__, "--measure", json.dumps(task)]
    command += ["--steps", str(arguments.steps), "--compile", arguments.compile]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        return {"name": name, "error": f"exit code {done.returncode}"}
    found = json.loads(done.stdout.splitlines()[-1])
    memory: Memory = training_memory(config, rows=rows, settings=replace(settings, kernels=found["kernels"]))
    return {
        "name": name,
        "rows": rows,
        "predicted": memory.total,
        "measured": found["peak"],
        "reserved": found.get("reserved"),
        "ratio": memory.total / found["peak"],
        "components": memory.to_dict(),
    }


def main() -> None:
    """Measure all shapes, or one of them in this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[], help="names of shapes, or parts of them")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--compile", choices=("auto", "always", "never"), default="auto")
    parser.add_argument("--measure", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        task = arguments.measure
        config, settings = GPTConfig(**task["config"]), MemorySettings(**task["settings"])
        print(json.dumps(measure(config, task["rows"], settings, arguments.steps, arguments.compile)))
        return
    import torch

    cuda = torch.cuda.is_available() if arguments.device == "auto" else arguments.device == "cuda"
    machine = torch.cuda.get_device_name() if cuda else f"{platform.machine()}, {torch.get_num_threads()} threads"
    print(f"torch {torch.__version__} on {machine}; {arguments.steps} steps each; MB")
    print(f"{'shape':32} {'rows':>5} {'measured':>9} {'predicted':>10} {'ratio':>6}")
    results = []
    for name, (config, rows, settings) in (CUDA_SHAPES if cuda else CPU_SHAPES).items():
        if arguments.only and not any(part in name for part in arguments.only):
            continue
        row = compare(name, config, rows, settings, arguments)
        results.append(row)
        if "error" in row:
            print(f"{name:32} {row['error']}")
            continue
        figures = f"{row['measured'] / 1e6:9,.0f} {row['predicted'] / 1e6:10,.0f} {row['ratio']:6.3f}"
        print(f"{name:32} {rows:5} {figures}", flush=True)
    ratios = [row["ratio"] for row in results if "ratio" in row]
    worst = max((abs(ratio - 1) for ratio in ratios), default=None)
    print(json.dumps({"device": machine, "shapes": results, "worst_deviation": worst}))


if __name__ == "__main__":
    main()
