"""Evaluation on a CPU: items/s of CORE, against a checkout of karpathy/nanochat if there is one.

    python benchmarks/eval.py --bundle ../shared/hub/eval_bundle --check-agreement --nanochat ../nanochat

Both score the first items of every task of the bundle with a random model of one shape and the same tokenizer, made of
the bundle's texts, in processes of their own that take turns; reading prompts is in the time. The reference computes in
float32 as it does by itself on a CPU, like ours. Prompts longer than the context are cropped by ours, as the metric
asks for; the reference forwards them whole, since its own models name no limit. Then a chat evaluation by generation:
problems of mixed lengths in batches, against the same engine with one problem at a time.
"""

import argparse
import json
import os
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from problems import SLOTS, measure
from report import Sample, finish, machine, number, print_table, ratio, share, with_briefly_spinning_threads
from shape import Shape
from turns import Message, Worker, WorkerError

from nanochat.config import TokenizerSettings
from nanochat.data.tokenizer import Tokenizer
from nanochat.evaluate.core import CoreTask, read_bundle, texts_of

HERE = Path(__file__).parent
TEXTS_PER_TASK = 500


def make_tokenizer(tasks: list[CoreTask], vocab_size: int, folder: Path) -> Path:
    """A tokenizer of the bundle's own texts."""
    texts = [
        context + more
        for task in tasks
        for index in range(min(TEXTS_PER_TASK, len(task.items)))
        for context, more in texts_of(task, index)[:1]
    ]
    Tokenizer.train(texts, TokenizerSettings(vocab_size=vocab_size)).save(folder)
    return folder


class Contestant:
    """A worker, and what its turns gave: for each group of tasks the items/s of each turn, and of each task."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.groups: dict[str, list[float]] = {}
        self.tasks: dict[str, list[float]] = {}
        self.last: Message = {}

    def turn(self, groups: dict[str, list[str]], items: int) -> None:
        """All groups once, each batched by itself."""
        seconds: dict[str, float] = {}
        counts: dict[str, int] = {}
        for labels in groups.values():
            self.last = self.worker.ask(tasks=labels, items=items)
            seconds |= self.last["seconds"]
            counts |= self.last["items"]
        for label in seconds:
            self.tasks.setdefault(label, []).append(counts[label] / seconds[label])
        for name, labels in (*groups.items(), ("all", list(seconds))):
            rate = sum(counts[label] for label in labels) / sum(seconds[label] for label in labels)
            self.groups.setdefault(name, []).append(rate)

    def sample(self, name: str) -> Sample | None:
        """Items/s of a group or task."""
        values = self.groups.get(name) or self.tasks.get(name)
        return Sample.of(values) if values else None


def core_section(arguments: argparse.Namespace, shape: Shape) -> tuple[dict[str, Any], list[str], int]:
    """CORE in turns with the reference; returns figures, what could not be measured, and our threads."""
    tasks = read_bundle(arguments.bundle)
    groups: dict[str, list[str]] = {}
    for task in sorted(tasks, key=lambda task: -task.shots):
        groups.setdefault(f"{task.shots}-shot", []).append(task.label)
    common = {"GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", "5000")}
    failed: list[str] = []
    figures: dict[str, Any] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        given = {"shape": shape.to_dict(), "bundle": str(arguments.bundle)}
        given |= {"tokenizer": str(make_tokenizer(tasks, shape.vocab_size, folder / "tokenizer"))}
        worker = stack.enter_context(Worker([str(HERE / "worker_core.py"), json.dumps(given)], common))
        contestants = {"ours": Contestant(worker)}
        if arguments.nanochat:
            given |= {"shape": shape.to_dict() | {"heads": shape.config.heads}, "nanochat": str(arguments.nanochat)}
            command = [str(HERE / "worker_core_reference.py"), json.dumps(given)]
            worker = stack.enter_context(Worker(command, common | {"NANOCHAT_BASE_DIR": str(folder)}))
            contestants["reference"] = Contestant(worker)
        for name, contestant in list(contestants.items()):
            try:
                contestant.worker.ask(tasks=groups[min(groups)][:1], items=1)  # the first pass sets things up
                for _ in range(arguments.repeats if name == "ours" and len(contestants) == 1 else 0):
                    contestant.turn(groups, arguments.max_items)
            except WorkerError as error:
                if name == "ours":
                    raise
                failed.append(f"reference: {error}")
                del contestants[name]
        for _ in range(arguments.repeats if not contestants["ours"].groups else 0):
            for contestant in contestants.values():
                contestant.turn(groups, arguments.max_items)
        if arguments.check_agreement:
            figures |= contestants["ours"].worker.ask(agreement=arguments.agreement_items)
    figures |= _print_core(tasks, groups, contestants, arguments, shape)
    return figures, failed, contestants["ours"].last["threads"]


def _print_core(
    tasks: list[CoreTask],
    groups: dict[str, list[str]],
    contestants: dict[str, Contestant],
    arguments: argparse.Namespace,
    shape: Shape,
) -> dict[str, Any]:
    ours, reference = contestants["ours"], contestants.get("reference")
    shots = {task.label: f"{task.shots}" for task in tasks}
    rows, by_name = [], {}
    for name in [label for labels in groups.values() for label in labels] + [*groups, "all"]:
        mine, theirs = ours.sample(name), reference.sample(name) if reference else None
        assert mine is not None
        by_name[name] = {
            "items_per_s": mine.median,
            "reference_items_per_s": theirs.median if theirs else None,
            "ratio": ratio(mine, theirs),
        }
        rows.append(
            [
                name,
                shots.get(name, ""),
                number(mine.median, 1),
                share(mine.spread),
                number(theirs.median if theirs else None, 1),
                share(theirs.spread) if theirs else "–",
                number(ratio(mine, theirs)),
            ]
        )
    print_table(
        f"CORE, {len(tasks)} tasks, {arguments.max_items} items of each at most; d{shape.depth}, width "
        f"{shape.config.width}, vocab {shape.vocab_size}, context {shape.sequence_length}, window "
        f"{shape.window_pattern}, {ours.last['precision']}; {arguments.repeats} turns",
        ["", "shots", "items/s", "spread", "reference", "spread", "ours is faster by"],
        rows,
    )
    return {
        "core_items_per_s": by_name["all"]["items_per_s"],
        "core_reference_items_per_s": by_name["all"]["reference_items_per_s"],
        "core_ratio": by_name["all"]["ratio"],
        "core_groups": {name: by_name[name] for name in groups},
        "core_tasks": {label: by_name[label] for label in shots},
        "precision": {name: contestant.last["precision"] for name, contestant in contestants.items()},
    }


def chat_section(arguments: argparse.Namespace, shape: Shape) -> dict[str, Any]:
    """Problems of mixed lengths, batched and one by one."""
    if not arguments.problems:
        return {}
    rates = measure(shape, arguments.problems, min(arguments.problems_alone, arguments.problems), arguments.repeats)
    print_table(
        f"Chat evaluation, {arguments.problems} problems of mixed lengths in batches of {SLOTS}; one by one "
        f"{arguments.problems_alone} of them; float32, {arguments.repeats} turns",
        ["", "problems/s", "spread", "tokens/s"],
        [
            [
                "batched",
                number(rates.batched.median),
                share(rates.batched.spread),
                number(rates.tokens_per_s.median, 0),
            ],
            [
                "one by one",
                number(rates.alone.median),
                share(rates.alone.spread),
                number(rates.alone_tokens_per_s.median, 0),
            ],
            ["ratio", number(ratio(rates.batched, rates.alone)), "", ""],
        ],
    )
    return {
        "chat_problems_per_s": rates.batched.median,
        "chat_one_by_one_problems_per_s": rates.alone.median,
        "chat_ratio": ratio(rates.batched, rates.alone),
        "chat_tokens_per_s": rates.tokens_per_s.median,
    }


def main() -> None:
    """Command line."""
    with_briefly_spinning_threads()
    parser = Shape.command_line(__doc__, steps=0, repeats=3)
    parser.add_argument("--bundle", type=Path, required=True, help="folder of an evaluation bundle")
    parser.add_argument("--max-items", type=int, default=20, help="of each task, timed (default: %(default)s)")
    parser.add_argument("--nanochat", type=Path, help="folder of a karpathy/nanochat checkout to be measured in turn")
    parser.add_argument("--check-agreement", action="store_true", help="compare batched with one-by-one picks")
    parser.add_argument(
        "--agreement-items", type=int, default=200, help="of each task, compared (default: %(default)s)"
    )
    parser.add_argument(
        "--problems", type=int, default=500, help="of the chat evaluation; 0 leaves it out (default: %(default)s)"
    )
    parser.add_argument(
        "--problems-alone", type=int, default=50, help="of these, generated one by one (default: %(default)s)"
    )
    arguments = parser.parse_args()
    if arguments.nanochat and not (arguments.nanochat / "nanochat" / "core_eval.py").is_file():
        parser.error(f"--nanochat {arguments.nanochat}: no nanochat/core_eval.py there; expected a checkout's folder")
    if not (arguments.bundle / "core.yaml").is_file():
        parser.error(f"--bundle {arguments.bundle}: no core.yaml there; expected a bundle's folder")
    shape = Shape.of_arguments(arguments)

    figures, failed, threads = core_section(arguments, shape)
    if "compared" in figures:
        wrong = figures.pop("disagreements")
        figures |= {"disagreements": len(wrong), "disagreeing_items": wrong}
        print(
            f"\nbatched and one by one: {figures['compared']:,} items, {len(wrong)} different picks, mean losses "
            f"{figures['largest_loss_difference']:.1e} apart at most"
        )
    figures |= chat_section(arguments, shape)
    for reason in failed:
        print(f"not measured: {reason}")
    common = {
        "shape": shape.to_dict(),
        "max_items": arguments.max_items,
        "repeats": arguments.repeats,
        "not_measured": failed,
    }
    finish("eval", common | figures, machine() | {"threads": threads})


if __name__ == "__main__":
    main()
