"""Generation for many requests at once: continuous batching, shared prefill, tools, stop tokens, streaming."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from nanochat.data.tokenizer import Tokenizer
from nanochat.infer.sampling import RowSampling, SamplingParams, sample, uniforms
from nanochat.infer.slots import Slots
from nanochat.infer.tools import calculate
from nanochat.model.gpt import GPT
from nanochat.model.kv_cache import KVCache

PREFILL_TOKENS = 16_384
"""Prompt tokens, padding included, in one forward pass."""


@dataclass
class Completion:
    """What was generated for one request.

    Attributes:
        ids: generated tokens, the stop token included.
        sampled: per token: True where the model chose it, False where it is forced tool output.
        logprobs: per token: log-probability under the model at temperature 1; 0 where forced.
        finish: `stop` at a stop token, `length` at the length limit or the end of the context.
    """

    ids: list[int]
    sampled: list[bool]
    logprobs: list[float]
    finish: Literal["stop", "length"]


@dataclass(frozen=True)
class _Request:
    index: int
    prompt: tuple[int, ...]
    params: SamplingParams
    limit: int
    """Tokens to generate at most: the request's, or what the context leaves."""


@dataclass(frozen=True)
class Token:
    """One generated token of the request with this index; `finish` is set on its last one."""

    request: int
    id: int
    sampled: bool
    finish: Literal["stop", "length"] | None


class Engine:
    """Generates with one model. Holds no state between calls, so that any number of calls may follow each other.

    Args:
        model: in evaluation mode.
        tokenizer: of the model.
        slots: rows that are generated at the same time; further requests wait until one is free.
        tools: whether `<|python_start|>…<|python_end|>` runs the calculator and forces its output into the row.
    """

    def __init__(self, model: GPT, tokenizer: Tokenizer, *, slots: int = 32, tools: bool = True) -> None:
        if slots < 1:
            raise ValueError(f"Engine: slots = {slots}, expected at least 1")
        self.model = model
        self.tokenizer = tokenizer
        self.slots = slots
        self.tools = tools
        self.stop = frozenset((tokenizer.special["<|assistant_end|>"], tokenizer.bos))

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams | Sequence[SamplingParams],
        before_token: Callable[[], None] | None = None,
    ) -> list[Completion]:
        """Complete every prompt; the order of the results is that of the prompts.

        A completion depends on its own prompt and parameters only (up to rounding in the matrix products), not on
        what else is generated beside it. Equal prompts are read once: pass a prompt several times, with different
        seeds, to get samples.

        Args:
            prompts: token ids, at least one each.
            params: for all, or one for each.
            before_token: called before each token; what it raises ends the generation.

        Raises:
            ValueError: if a prompt is empty or the numbers of prompts and params differ.
        """
        run = _Run(self, prompts, params)
        while run.active:
            if before_token is not None:
                before_token()
            run.step()
        return run.completions()

    def stream(self, prompt: Sequence[int], params: SamplingParams) -> Iterator[tuple[int, bool]]:
        """Generate one completion token by token: (token, sampled), the stop token included."""
        for token in self.stream_all([prompt], params):
            yield token.id, token.sampled

    def stream_all(
        self, prompts: Sequence[Sequence[int]], params: SamplingParams | Sequence[SamplingParams]
    ) -> Iterator[Token]:
        """Generate all completions, tokens in the order in which they come."""
        run = _Run(self, prompts, params)
        while run.active:
            yield from run.step()


class _Run:
    """One call of `generate`: the queue of requests, the rows in work, the results."""

    def __init__(
        self, engine: Engine, prompts: Sequence[Sequence[int]], params: SamplingParams | Sequence[SamplingParams]
    ) -> None:
        self.engine = engine
        self.model = engine.model
        self.device = engine.model.device
        self.config = engine.model.config
        each = [params] * len(prompts) if isinstance(params, SamplingParams) else list(params)
        if len(each) != len(prompts):
            raise ValueError(f"generate: {len(prompts)} prompts but {len(each)} sampling parameters")
        self.results: list[Completion | None] = [None] * len(prompts)
        requests = []
        for index, (prompt, one) in enumerate(zip(prompts, each)):
            if len(prompt) == 0:
                raise ValueError(f"generate: prompt {index} is empty, expected at least one token such as <|bos|>")
            limit = min(one.max_tokens, self.config.sequence_length - len(prompt))
            if limit < 1:
                self.results[index] = Completion([], [], [], "length")
            else:
                requests.append(_Request(index, tuple(prompt), one, limit))
        # Taken from the end, longest first: rows in work are of like length, and equal prompts stand side by side.
        self.waiting = sorted(requests, key=lambda r: (len(r.prompt), r.prompt, -r.index))
        rows = min(engine.slots, len(requests))
        self.slots = Slots(rows, max((r.limit for r in requests), default=0), self.config.vocab_size, engine.stop)
        longest = max((len(r.prompt) + r.limit for r in requests), default=1)
        self.cache = KVCache(self.config, max(rows, 1), longest, self.device, self.model.dtype)
        self.sampling: RowSampling | None = None
        special = engine.tokenizer.special
        self.python_start = special["<|python_start|>"] if engine.tools else -1
        self.python_end = special["<|python_end|>"] if engine.tools else -1

    @property
    def active(self) -> bool:
        return bool(self.waiting) or self.slots.count > 0

    def completions(self) -> list[Completion]:
        return [result for result in self.results if result is not None]

    @torch.inference_mode()
    def step(self) -> list[Token]:
        """One token for every row in work."""
        self._admit()
        slots, n = self.slots, self.slots.count
        if self.sampling is None:
            rows = [request.params for request in slots.requests]
            self.sampling = RowSampling.of(rows, self.config.vocab_size, self.device)
        inputs = torch.from_numpy(slots.next_token[:n, None].copy()).to(self.device)
        logits = self.model(inputs, cache=self.cache.first(n), last_only=True)[:, 0]
        chosen, logprobs = sample(logits, self.sampling, torch.from_numpy(slots.next_uniform()).to(self.device))
        stopped = slots.append(chosen.cpu().numpy(), logprobs.cpu().numpy())
        if self.engine.tools:
            self._run_tools()
        ended = stopped | (slots.produced[:n] >= slots.limit[:n])
        tokens = [
            Token(request.index, int(slots.next_token[row]), bool(slots.was_sampled[row]), None)
            for row, request in enumerate(slots.requests)
        ]
        for row in np.flatnonzero(ended)[::-1]:
            tokens[row] = self._finish(int(row), tokens[row], "stop" if stopped[row] else "length")
        return tokens

    def _run_tools(self) -> None:
        slots = self.slots
        last, sampled = slots.next_token[: slots.count], slots.was_sampled[: slots.count]
        for row in np.flatnonzero(sampled & ((last == self.python_start) | (last == self.python_end))):
            if last[row] == self.python_start:
                slots.call_start[row] = slots.produced[row]
            elif slots.call_start[row] >= 0:
                expression = slots.ids[row, slots.call_start[row] : slots.produced[row] - 1].tolist()
                slots.call_start[row] = -1
                slots.force(int(row), self._tool_output(expression))

    def _tool_output(self, expression: list[int]) -> list[int]:
        tokenizer = self.engine.tokenizer
        result = calculate(tokenizer.decode(expression))
        if result is None:
            return []
        special = tokenizer.special
        return [special["<|output_start|>"], *tokenizer.encode(result), special["<|output_end|>"]]

    def _finish(self, row: int, token: Token, finish: Literal["stop", "length"]) -> Token:
        slots = self.slots
        count = int(slots.produced[row])
        self.results[token.request] = Completion(
            ids=slots.ids[row, :count].tolist(),
            sampled=slots.sampled[row, :count].tolist(),
            logprobs=slots.logprobs[row, :count].tolist(),
            finish=finish,
        )
        # Rows in work stay at the front: the last one moves into the gap.
        last = slots.count - 1
        if row != last:
            self.cache.copy_row(last, row)
        slots.remove(row)
        self.sampling = None
        return Token(token.request, token.id, token.sampled, finish)

    def _admit(self) -> None:
        """Fill the free slots from the queue, reading each different prompt once.

        All but a prompt's last token is read here; the last one is the row's first decoding step, so that no logits
        are made in prefill.
        """
        free = self.slots.capacity - self.slots.count
        if free == 0 or not self.waiting:
            return
        by_prompt: dict[tuple[int, ...], list[_Request]] = defaultdict(list)
        for _ in range(min(free, len(self.waiting))):
            request = self.waiting.pop()
            by_prompt[request.prompt].append(request)
        self.sampling = None
        prompts = list(by_prompt)
        while prompts:
            rows = max(1, PREFILL_TOKENS // len(prompts[0]))  # the longest comes first
            self._prefill({prompt: by_prompt[prompt] for prompt in prompts[:rows]})
            prompts = prompts[rows:]

    def _prefill(self, by_prompt: dict[tuple[int, ...], list[_Request]]) -> None:
        width = max(len(prompt) for prompt in by_prompt) - 1
        source = None
        if width:
            # Padding stands on the right: a token never sees what comes after it, and lengths cut it off.
            tokens = torch.zeros((len(by_prompt), width), dtype=torch.int64)
            for row, prompt in enumerate(by_prompt):
                tokens[row, : len(prompt) - 1] = torch.tensor(prompt[:-1])
            source = KVCache(self.config, len(by_prompt), width, self.device, self.model.dtype)
            self.model.hidden(tokens.to(self.device), cache=source)
        cache, copies = self.cache, []
        for row, (prompt, requests) in enumerate(by_prompt.items()):
            for request in requests:
                numbers = uniforms(request.params.seed, request.limit) if request.params.temperature else None
                slot = self.slots.add(request, prompt[-1], request.limit, request.params.stop, numbers)
                copies.append((slot, row, len(prompt) - 1))
        slots, rows, lengths = (torch.tensor(column, device=self.device) for column in zip(*copies))
        cache.lengths[slots] = lengths
        if source is not None:
            cache.keys[:, slots, :width] = source.keys[:, rows]
            cache.values[:, slots, :width] = source.values[:, rows]
            cache.tokens[slots, :width] = source.tokens[rows]
