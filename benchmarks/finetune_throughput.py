"""Midtraining and SFT against pretraining: tokens/s of one model on packed conversations and on packed documents.

    python benchmarks/finetune_throughput.py

Only real tokens count: positions up to the last target of a row; padding does not. The three kinds of rows take turns.
"""

import logging
from typing import Any

import torch
from report import Sample, finish, machine, number, print_table, ratio, share, with_briefly_spinning_threads
from shape import Shape
from workload import BOS, SEED, Trainee, conversations, documents

from nanochat.data.loader import ConversationRows, TokenRows
from nanochat.data.packing import RowSource
from nanochat.runtime import World
from nanochat.train.prefetch import Prefetched
from nanochat.train.sources import RowSteps


class Kind:
    """One kind of rows, read ahead as in training."""

    def __init__(self, source: RowSource, shape: Shape, device: torch.device) -> None:
        self._steps = RowSteps(source, shape.rows_per_step, World(0, 0, 1, device))
        self._source = Prefetched(self._steps, 1 << 30, device=device)
        self._next = 0
        self.rates: list[float] = []
        self.tokens = 0
        self.positions = 0

    def turn(self, trainee: Trainee, steps: int, counts: bool = True) -> None:
        """Train for some steps on these rows."""
        seconds, tokens = 0.0, 0
        for _ in range(steps):
            taken, _, batch = trainee.timed_step(lambda: self._source.read(self._next).rows)
            self._next += 1
            seconds, tokens = seconds + taken, tokens + batch.tokens
            if counts:
                self.tokens, self.positions = self.tokens + batch.tokens, self.positions + batch.inputs.size
        if counts:
            self.rates.append(tokens / seconds)

    @property
    def sample(self) -> Sample:
        """Tokens/s of each turn."""
        return Sample.of(self.rates)

    @property
    def padding(self) -> float:
        """Share of the positions trained on that were not counted."""
        return 1.0 - self.tokens / self.positions

    def close(self) -> None:
        """End the thread that reads ahead."""
        self._source.close()


def main() -> None:
    """Command line."""
    with_briefly_spinning_threads()
    parser = Shape.command_line(__doc__, steps=3, repeats=5)
    parser.add_argument("--conversations", type=int, default=20_000, help="how many are packed (default: %(default)s)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    shape = Shape.of_arguments(arguments)
    device = World.open(arguments.device).device
    trainee = Trainee(shape, device, arguments.compile)

    length, vocabulary = shape.sequence_length, shape.vocab_size
    talks = conversations(vocabulary, arguments.conversations, length)
    text = documents(vocabulary, max(2 * 1024 * length, 8 * shape.total_batch_size))
    packed = {
        "assistant": ConversationRows(talks, length, SEED, "assistant"),
        "everything": ConversationRows(talks, length, SEED, "everything"),
    }
    kinds = {"pretraining": Kind(TokenRows([text], length, SEED, BOS), shape, device)}
    kinds |= {f"train_on {name}": Kind(rows, shape, device) for name, rows in packed.items()}
    for kind in kinds.values():
        kind.turn(trainee, 2, counts=False)
    for _ in range(arguments.repeats):
        for kind in kinds.values():
            kind.turn(trainee, arguments.steps)
    for kind in kinds.values():
        kind.close()

    base = kinds["pretraining"].sample
    print_table(
        f"Real tokens/s on d{shape.depth}, width {shape.config.width}, rows of {length}; {arguments.repeats} turns of "
        f"{arguments.steps} steps of {shape.total_batch_size} positions; {len(talks)} conversations",
        ["", "tokens/s", "spread", "of pretraining", "padding"],
        [
            [
                name,
                number(kind.sample.median, 0),
                share(kind.sample.spread),
                number(ratio(kind.sample, base)),
                share(kind.padding, 2),
            ]
            for name, kind in kinds.items()
        ],
    )
    figures: dict[str, Any] = {
        "shape": shape.to_dict(),
        "pretraining_tokens_per_s": base.median,
        "pretraining_padding": kinds["pretraining"].padding,
        "spread": base.spread,
        "conversations": len(talks),
        "longer_than_a_row": packed["everything"].cut,
        "steps": arguments.steps,
        "repeats": arguments.repeats,
    }
    for name, rows in packed.items():
        kind = kinds[f"train_on {name}"]
        figures |= {
            f"{name}_tokens_per_s": kind.sample.median,
            f"{name}_ratio_vs_pretraining": ratio(kind.sample, base),
            f"{name}_padding": kind.padding,
            f"{name}_padding_of_epoch": rows.waste,
        }
    finish("finetune_throughput", figures, machine(device))


if __name__ == "__main__":
    main()
