"""Chat evaluation by generation: problems and replies of very different lengths, batched against one by one."""

import time
from dataclasses import dataclass

import numpy as np
import torch
from report import Sample
from shape import Shape

from nanochat.infer.engine import Engine
from nanochat.infer.sampling import SamplingParams
from nanochat.model.gpt import GPT

SLOTS = 32
"""As an evaluation takes them where memory allows."""


class WithoutText:
    """What the engine asks of a tokenizer, for a model without text; ids that are never sampled."""

    def __init__(self, vocab_size: int) -> None:
        names = ("<|assistant_end|>", "<|python_start|>", "<|python_end|>")
        self.special = {name: vocab_size - 2 - place for place, name in enumerate(names)}
        self.bos = vocab_size - 1


def random_model(shape: Shape, device: torch.device | str = "cpu") -> GPT:
    """A model that says anything, in float32 on a CPU."""
    model = GPT(shape.config).to(device)
    model.init_weights(0)
    model.dtype = torch.float32 if torch.device(device).type == "cpu" else torch.bfloat16
    return model.eval()


def problems(count: int, shape: Shape) -> tuple[list[list[int]], list[int]]:
    """Prompts, and lengths of the replies to them: GSM8K's spread (medians of 90 and 100 tokens) in a short context."""
    generator = np.random.default_rng(0)
    context = shape.sequence_length
    sizes = np.clip(generator.lognormal(np.log(90), 0.4, count), 16, context // 2).astype(int)
    replies = np.clip(generator.lognormal(np.log(100), 0.5, count), 8, context // 2 - 1).astype(int)
    prompts = [generator.integers(0, shape.vocab_size - 8, size).tolist() for size in sizes]
    return prompts, replies.tolist()


@dataclass(frozen=True)
class ProblemRates:
    """Problems/s, of all in one call and of some of them one by one; each turn takes the same problems."""

    batched: Sample
    alone: Sample
    tokens_per_s: Sample
    alone_tokens_per_s: Sample


def measure(shape: Shape, count: int, alone: int, repeats: int) -> ProblemRates:
    """Time `count` problems in batches, and every so-manyth one, `alone` in all, by itself."""
    engine = Engine(random_model(shape), WithoutText(shape.vocab_size), slots=SLOTS)  # type: ignore[arg-type]
    prompts, replies = problems(count, shape)
    params = [
        SamplingParams(max_tokens=tokens, temperature=1.0, seed=seed, stop=frozenset())
        for seed, tokens in enumerate(replies)
    ]
    some = range(0, count, max(1, count // alone))

    def batched() -> tuple[int, int]:
        done = engine.generate(prompts, params)
        return count, sum(len(completion.ids) for completion in done)

    def one_by_one() -> tuple[int, int]:
        done = [engine.generate([prompts[place]], params[place])[0] for place in some]
        return len(done), sum(len(completion.ids) for completion in done)

    rates: dict[str, list[float]] = {name: [] for name in ("batched", "alone", "tokens", "alone tokens")}
    engine.generate(prompts[:4], params[:4])
    for _ in range(repeats):
        for name, tokens_name, work in (("batched", "tokens", batched), ("alone", "alone tokens", one_by_one)):
            start = time.perf_counter()
            finished, tokens = work()
            seconds = time.perf_counter() - start
            rates[name].append(finished / seconds)
            rates[tokens_name].append(tokens / seconds)
    return ProblemRates(*(Sample.of(values) for values in rates.values()))
