"""Training on a CPU: tokens/s and share of the matrix rate, against a checkout of karpathy/nanochat if there is one.

    python benchmarks/train_cpu.py --nanochat ../nanochat

Both train the same shape on the same rows with their own optimizers, in processes of their own that take turns. What
ours does between steps (packing ahead, waiting for rows) is in its time; of the reference only forward, backward and
update are, from rows that lie ready. The reference attends over the borders of documents, ours does not. FLOPs per
token count every attended pair of a whole row on both sides.
"""

import argparse
import json
import os
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from report import Sample, finish, machine, number, print_table, ratio, share
from shape import Shape
from turns import Message, Worker, WorkerError

HERE = Path(__file__).parent


class Contestant:
    """A worker, and what its turns gave."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.rates: list[float] = []
        self.matmul: list[float] = []
        self.first_step_seconds = 0.0
        self.last: Message = {}

    def warm_up(self, steps: int) -> None:
        """Steps that do not count; the first one compiles."""
        self.last = self.worker.ask(steps=steps)
        self.first_step_seconds = self.last["seconds"][0]
        self.matmul.append(self.last.get("matmul_flops", 0.0))

    def turn(self, steps: int) -> None:
        """Steps that count."""
        self.last = self.worker.ask(steps=steps)
        self.rates.append(sum(self.last["tokens"]) / sum(self.last["seconds"]))
        self.matmul.append(self.last.get("matmul_flops", 0.0))

    @property
    def sample(self) -> Sample:
        """Tokens/s of each turn."""
        return Sample.of(self.rates)


def measure(arguments: argparse.Namespace) -> tuple[dict[str, Contestant], dict[str, Any], list[str]]:
    """Let all contestants take their turns; returns them, facts about the rows, and what could not be measured."""
    shape = Shape.of_arguments(arguments)
    common = {"GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", "5000")}
    heads = shape.config.heads
    contestants: dict[str, Contestant] = {}
    failed: list[str] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        given = {"shape": shape.to_dict(), "compile": arguments.compile}
        ours = stack.enter_context(Worker([str(HERE / "worker_ours.py"), json.dumps(given)], common))
        steps = arguments.warm_up + arguments.repeats * arguments.steps
        facts = ours.ask(rows=str(folder / "rows.npz"), steps=steps)
        contestants["ours"] = Contestant(ours)
        contestants["ours"].warm_up(arguments.warm_up)
        for name in ("bfloat16", "float32") if arguments.nanochat else ():
            given = {
                "shape": shape.to_dict() | {"heads": heads},
                "nanochat": str(arguments.nanochat),
                "rows": str(folder / "rows.npz"),
                "compile": not arguments.reference_eager,
            }
            # float32 is what it takes by itself on a CPU: nothing is set then.
            chosen = {"NANOCHAT_DTYPE": "bfloat16"} if name == "bfloat16" else {}
            chosen["NANOCHAT_BASE_DIR"] = str(folder)
            command = [str(HERE / "worker_reference.py"), json.dumps(given)]
            contestant = Contestant(stack.enter_context(Worker(command, common | chosen)))
            try:
                contestant.warm_up(arguments.warm_up)
            except WorkerError as error:
                failed.append(f"reference {name}: {error}")
                continue
            if contestant.last["precision"] != name:
                failed.append(f"reference {name}: it computed in {contestant.last['precision']}")
                continue
            contestants[f"reference {name}"] = contestant
        for _ in range(arguments.repeats):
            for contestant in contestants.values():
                contestant.turn(arguments.steps)
    return contestants, facts, failed


def main() -> None:
    """Command line."""
    parser = Shape.command_line(__doc__, steps=4, repeats=5)
    parser.add_argument("--warm-up", type=int, default=2, help="steps before the first turn (default: %(default)s)")
    parser.add_argument("--nanochat", type=Path, help="folder of a karpathy/nanochat checkout to be measured in turn")
    parser.add_argument("--reference-eager", action="store_true", help="do not compile the reference")
    arguments = parser.parse_args()
    if arguments.nanochat and not (arguments.nanochat / "nanochat" / "gpt.py").is_file():
        parser.error(f"--nanochat {arguments.nanochat}: no nanochat/gpt.py there; expected a checkout's folder")
    shape = Shape.of_arguments(arguments)
    contestants, facts, failed = measure(arguments)

    ours = contestants["ours"]
    reference, as_it_comes = (contestants.get(f"reference {name}") for name in ("bfloat16", "float32"))
    matmul = max(ours.matmul)
    flops = ours.last["flops_per_token"]
    reached = ours.sample.median * flops / matmul
    rows = [
        [
            name,
            number(contestant.sample.median, 0),
            share(contestant.sample.spread),
            share(contestant.sample.median * contestant.last["flops_per_token"] / matmul),
            number(ratio(ours.sample, contestant.sample)),
            number(contestant.first_step_seconds, 1, " s"),
            number(contestant.last["loss"], 3),
        ]
        for name, contestant in contestants.items()
    ]
    print_table(
        f"Training d{shape.depth}, width {shape.config.width}, vocab {shape.vocab_size}, rows of "
        f"{shape.sequence_length}, window {shape.window_pattern}; {flops / 1e6:.1f} MFLOP/token; "
        f"{arguments.repeats} turns of {arguments.steps} steps of {shape.total_batch_size} tokens",
        ["", "tokens/s", "spread", "of matrix rate", "ours is faster by", "first step", "last loss"],
        rows,
    )
    print(
        f"\nmatrix rate ({shape.precision}, best of {len(ours.matmul)}): {matmul / 1e9:,.0f} GFLOP/s; "
        f"ours {'compiled' if ours.last['compiled'] else 'not compiled'}; "
        f"{facts['documents_per_row']:.1f} documents per row"
    )
    for reason in failed:
        print(f"not measured: {reason}")

    def of(contestant: Contestant | None) -> Sample | None:
        return None if contestant is None else contestant.sample

    def median(contestant: Contestant | None) -> float | None:
        return None if contestant is None else contestant.sample.median

    figures = {
        "shape": shape.to_dict(),
        "tokens_per_s": ours.sample.median,
        "spread": ours.sample.spread,
        "flops_per_token": flops,
        "matmul_flops": matmul,
        "mfu_measured": reached,
        "ratio_vs_reference": ratio(ours.sample, of(reference)),
        "ratio_vs_reference_fp32": ratio(ours.sample, of(as_it_comes)),
        "reference_bf16_tokens_per_s": median(reference),
        "reference_fp32_tokens_per_s": median(as_it_comes),
        "first_step_seconds": {name: contestant.first_step_seconds for name, contestant in contestants.items()},
        "turns_tokens_per_s": {name: contestant.rates for name, contestant in contestants.items()},
        "parameters": {name: contestant.last["parameters"] for name, contestant in contestants.items()},
        "compiled": ours.last["compiled"],
        "device_batch_size": ours.last["device_batch_size"],
        "documents_per_row": facts["documents_per_row"],
        "steps": arguments.steps,
        "repeats": arguments.repeats,
        "not_measured": failed,
    }
    finish("train_cpu", figures, machine() | {"threads": ours.last["threads"]})


if __name__ == "__main__":
    main()
