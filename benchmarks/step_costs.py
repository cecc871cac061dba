"""What a training step pays beside training: step checkpoints and waiting for data.

    python benchmarks/step_costs.py

Runs the real loop twice per repeat: as training does (copies written by a thread, rows packed ahead) and with both in
the foreground. Reads `seconds_saving` and `seconds_data` from the metrics, as any run has them. Shares are of a step
without a checkpoint.
"""

import logging
import statistics
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from report import Sample, finish, machine, number, print_table, share, with_briefly_spinning_threads
from shape import Shape
from torch import Tensor
from workload import BOS, SEED, Trainee, documents

from nanochat.data.loader import TokenRows
from nanochat.metrics import Metrics, read_metrics
from nanochat.runtime import World
from nanochat.train.checkpoint import StepCheckpoints
from nanochat.train.prefetch import Prefetched
from nanochat.train.sources import RowSteps
from nanochat.train.trainer import Cadence, Progress, train


class ForegroundCheckpoints(StepCheckpoints):
    """The plain way: the step waits until its checkpoint is on the disk."""

    def save(self, step: int, items: Iterable[tuple[str, Tensor]], meta: Mapping[str, Any]) -> None:
        """Write a state."""
        super().save(step, items, meta)
        self.wait()


@dataclass
class Costs:
    """Seconds of the steps of some runs."""

    steps: list[float] = field(default_factory=list)
    after_save: list[float] = field(default_factory=list)
    saving: list[float] = field(default_factory=list)
    data: list[float] = field(default_factory=list)
    first_read: list[float] = field(default_factory=list)

    def add(self, history: Path) -> None:
        """Take in the metrics of a run."""
        rows = read_metrics(history)
        saved = {row["step"] for row in rows if "seconds_saving" in row}
        # The last checkpoint of a run is followed by no step: its thread has all cores.
        self.saving += [row["seconds_saving"] for row in rows if "seconds_saving" in row]
        timed = [row for row in rows if "seconds" in row]
        self.first_read.append(timed[0]["seconds_data"])
        for row in timed[1:]:
            self.data.append(row["seconds_data"])
            (self.after_save if row["step"] - 1 in saved else self.steps).append(row["seconds"])

    @property
    def step(self) -> float:
        """Median seconds of a step that no checkpoint is written beside."""
        return statistics.median(self.steps)

    @property
    def data_share(self) -> float:
        """Waiting for rows, as a share of all steps but the first."""
        return sum(self.data) / (sum(self.steps) + sum(self.after_save))


def run(trainee: Trainee, rows: TokenRows, shape: Shape, folder: Path, steps: int, every: int, plain: bool) -> Path:
    """Train for some steps; returns the metrics file."""
    world = World(0, 0, 1, trainee.model.device)
    source = RowSteps(rows, shape.rows_per_step, world)
    ahead = None if plain else Prefetched(source, steps, device=world.device)
    history = folder / "metrics.jsonl"
    metrics = Metrics(history, stage="base", run="benchmark", total_steps=steps)
    kind = ForegroundCheckpoints if plain else StepCheckpoints
    try:
        train(
            trainee.model,
            trainee.optimizer,
            ahead or source,
            replace(trainee.plan, steps=steps),
            checkpoints=kind(folder, world),
            cadence=Cadence(every, float("inf")),
            metrics=metrics,
            hooks=[],
            world=world,
            progress=Progress(device_batch_size=shape.device_batch_size),
        )
    finally:
        if ahead is not None:
            ahead.close()
        metrics.close()
    return history


def main() -> None:
    """Command line."""
    with_briefly_spinning_threads()
    parser = Shape.command_line(__doc__, steps=13, repeats=3)
    parser.add_argument("--save-every", type=int, default=4, help="steps between checkpoints (default: %(default)s)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--folder", type=Path, help="where checkpoints go; default: the system's temporary folder")
    arguments = parser.parse_args()
    if arguments.steps < arguments.save_every + 3:
        parser.error("--steps must be at least --save-every + 3, so that there are steps with and without a checkpoint")
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    shape = Shape.of_arguments(arguments)
    device = World.open(arguments.device).device
    trainee = Trainee(shape, device, arguments.compile)
    length = shape.sequence_length
    text = documents(shape.vocab_size, max(2 * 1024 * length, 8 * shape.total_batch_size))

    costs = {"as training does": Costs(), "in the foreground": Costs()}
    size = 0
    for _ in range(arguments.repeats):
        for name, cost in costs.items():
            with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
                # New rows each time: the first window is packed again.
                rows = TokenRows([text], length, SEED, BOS)
                plain = name == "in the foreground"
                cost.add(run(trainee, rows, shape, Path(folder), arguments.steps, arguments.save_every, plain))
                newest = max((Path(folder) / "steps").iterdir())
                size = sum(path.stat().st_size for path in newest.iterdir())
    ours, plain = costs["as training does"], costs["in the foreground"]
    print_table(
        f"Costs beside training, d{shape.depth}, width {shape.config.width}, steps of {shape.total_batch_size} tokens, "
        f"checkpoints of {size / 1e6:.0f} MB every {arguments.save_every} steps; {arguments.repeats} runs of "
        f"{arguments.steps} steps each",
        ["", *costs],
        [
            ["step, seconds", *(number(c.step, 3) for c in costs.values())],
            ["  spread", *(share(Sample.of(c.steps).spread) for c in costs.values())],
            ["stall of a checkpoint, seconds", *(number(statistics.median(c.saving), 4) for c in costs.values())],
            ["  longest", *(number(max(c.saving), 4) for c in costs.values())],
            ["  share of a step", *(share(statistics.median(c.saving) / c.step) for c in costs.values())],
            ["step after it, seconds", *(number(statistics.median(c.after_save), 3) for c in costs.values())],
            ["waiting for data, share of steps", *(share(c.data_share, 2) for c in costs.values())],
            ["  first read of a run, seconds", *(number(statistics.median(c.first_read), 3) for c in costs.values())],
        ],
    )
    figures = {
        "shape": shape.to_dict(),
        "step_seconds": ours.step,
        "spread": Sample.of(ours.steps).spread,
        "save_seconds": statistics.median(ours.saving),
        "save_seconds_longest": max(ours.saving),
        "save_seconds_foreground": statistics.median(plain.saving),
        "save_share": statistics.median(ours.saving) / ours.step,
        "save_share_foreground": statistics.median(plain.saving) / plain.step,
        "step_after_save_seconds": statistics.median(ours.after_save),
        "data_share": ours.data_share,
        "data_share_foreground": plain.data_share,
        "first_read_seconds": statistics.median(ours.first_read),
        "checkpoint_bytes": size,
        "saves": len(ours.saving),
        "steps": arguments.steps,
        "repeats": arguments.repeats,
    }
    finish("step_costs", figures, machine(device))


if __name__ == "__main__":
    main()
