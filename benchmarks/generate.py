"""Generation: tokens/s of decoding at several batch sizes, against a checkout of karpathy/nanochat if there is one.

    python benchmarks/generate.py --nanochat ../nanochat

Both engines sample at temperature 1 from a random model of one shape, after a prompt of 16 tokens, in turns; reading
the prompt is in the time. The reference computes in float32, which is the faster type for it on CPUs.
"""

import argparse
import json
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from problems import WithoutText, random_model
from report import Sample, finish, machine, number, print_table, ratio, share, with_briefly_spinning_threads
from shape import Shape
from turns import Worker, WorkerError

from nanochat.infer.engine import Engine
from nanochat.infer.sampling import SamplingParams
from nanochat.runtime import World

HERE = Path(__file__).parent
PROMPT = 16


class Ours:
    """This repository's engine on a random model."""

    def __init__(self, shape: Shape, device: torch.device, most_rows: int, cuda_graphs: bool) -> None:
        self.model = random_model(shape, device)
        self.device = device
        self.engine = Engine(self.model, WithoutText(shape.vocab_size), slots=most_rows, cuda_graphs=cuda_graphs)  # type: ignore[arg-type]

    def seconds(self, samples: int, tokens: int) -> float:
        """Time of so many samples of one prompt."""
        params = [
            SamplingParams(max_tokens=tokens, temperature=1.0, seed=seed, stop=frozenset()) for seed in range(samples)
        ]
        start = time.perf_counter()
        if samples == 1:  # as in a chat
            made = len(list(self.engine.stream(list(range(PROMPT)), params[0])))
        else:
            made = sum(len(done.ids) for done in self.engine.generate([list(range(PROMPT))] * samples, params))
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
        assert made == samples * tokens
        return seconds

    def bytes_per_step(self, samples: int, tokens: int) -> float:
        """Weights and cached keys and values that a decoding step reads, on average."""
        config, size = self.model.config, self.model.dtype.itemsize
        read_whole = sum(p.numel() for name, p in self.model.named_parameters() if "embedding" not in name)
        mean_length = PROMPT + tokens / 2
        cached = sum(min(mean_length, window) for window in config.windows)
        return size * (read_whole + samples * 2 * cached * config.kv_heads * config.head_dim)


def copy_bandwidth(device: torch.device) -> float:
    """Bytes/s that a copy of 256 MB reads and writes."""
    source = torch.zeros(1 << 26, device=device)
    target = torch.empty_like(source)
    best = float("inf")
    for _ in range(5):
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        target.copy_(source)
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2 * source.nbytes / best


def main() -> None:
    """Command line."""
    with_briefly_spinning_threads()
    parser = Shape.command_line(__doc__, steps=128, repeats=5)
    parser.set_defaults(precision="float32")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32], help="default: %(default)s")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--cuda-graphs", action="store_true", help="record and replay steps, on a GPU")
    parser.add_argument("--nanochat", type=Path, help="folder of a checkout of karpathy/nanochat to compare with")
    arguments = parser.parse_args()
    run(arguments)


def run(arguments: argparse.Namespace) -> None:
    """Measure and print."""
    shape, tokens = Shape.of_arguments(arguments), arguments.steps
    device = World.open(arguments.device).device
    ours = Ours(shape, device, max(arguments.batches), arguments.cuda_graphs)
    rates: dict[str, dict[int, list[float]]] = {"ours": {}, "reference": {}}
    reference_error = None
    with ExitStack() as stack:
        reference = None
        if arguments.nanochat is not None:
            config = {"depth": shape.depth, "heads": shape.config.heads, "head_dim": shape.head_dim}
            config |= {name: getattr(shape, name) for name in ("vocab_size", "sequence_length", "window_pattern")}
            given = json.dumps({"nanochat": str(arguments.nanochat), "shape": config})
            command = [str(HERE / "worker_generate_reference.py"), given]
            reference = stack.enter_context(Worker(command, {"NANOCHAT_DTYPE": "float32"}))
        for turn in range(arguments.repeats + 1):  # the first one warms up
            for samples in arguments.batches:
                seconds = ours.seconds(samples, tokens)
                if turn:
                    rates["ours"].setdefault(samples, []).append(samples * tokens / seconds)
                if reference is None:
                    continue
                try:
                    answer = reference.ask(
                        prompts=[list(range(PROMPT))], samples=samples, tokens=[tokens], temperature=1.0
                    )
                except WorkerError as error:
                    reference_error, reference = str(error), None
                    rates["reference"] = {}
                    continue
                if turn:
                    rates["reference"].setdefault(samples, []).append(samples * tokens / sum(answer["seconds"]))
    bandwidth = copy_bandwidth(device)
    measured = {who: {b: Sample.of(values) for b, values in found.items()} for who, found in rates.items()}
    used = {b: ours.bytes_per_step(b, tokens) * sample.median / b / bandwidth for b, sample in measured["ours"].items()}
    print_table(
        f"Decoding d{shape.depth}, width {shape.config.width}, vocabulary {shape.vocab_size}: {tokens} tokens after "
        f"{PROMPT}, {ours.model.dtype}, medians of {arguments.repeats}",
        ["batch", "tokens/s", "spread", "reference", "spread", "ratio", "of copy bandwidth"],
        [
            [
                str(b),
                number(sample.median, 0),
                share(sample.spread),
                number(measured["reference"][b].median if b in measured["reference"] else None, 0),
                share(measured["reference"][b].spread if b in measured["reference"] else None),
                number(ratio(sample, measured["reference"].get(b))),
                share(used[b]),
            ]
            for b, sample in measured["ours"].items()
        ],
    )
    if reference_error:
        print(f"The reference was not measured: {reference_error}")
    figures: dict[str, Any] = {
        "shape": shape.to_dict(),
        "tokens": tokens,
        "prompt": PROMPT,
        "repeats": arguments.repeats,
        "dtype": str(ours.model.dtype).removeprefix("torch."),
        "copy_bytes_per_s": bandwidth,
        "reference_error": reference_error,
    }
    for b, sample in measured["ours"].items():
        other = measured["reference"].get(b)
        figures |= {
            f"decode_tokens_per_s_b{b}": sample.median,
            f"decode_spread_b{b}": sample.spread,
            f"reference_tokens_per_s_b{b}": other.median if other else None,
            f"decode_ratio_b{b}": ratio(sample, other),
            f"decode_bandwidth_share_b{b}": used[b],
        }
    finish("generate", figures, machine(device))


if __name__ == "__main__":
    main()
