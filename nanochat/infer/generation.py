"""Continuous batching: rows in work, refilled from a queue as they finish; sampling, stop tokens, tools."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial

import numpy as np
import torch
from torch import Tensor

from nanochat.data.tokenizer import Tokenizer
from nanochat.infer.cuda_graphs import RecordedSteps
from nanochat.infer.decoder import Decoder
from nanochat.infer.kv_cache import KVCache
from nanochat.infer.products import one_thread
from nanochat.infer.prompts import PromptReader
from nanochat.infer.requests import Completion, Finish, Request, Token
from nanochat.infer.sampling import Choice, RowSampling, SamplingParams, sample, uniforms
from nanochat.infer.slots import Slots
from nanochat.infer.tools import calculate

_REFILL = 8
"""Prompts wait until one in so many rows is free: read together, they cost less than one by one."""


class Generation:
    """Requests in work: the queue, the rows, the results."""

    def __init__(
        self,
        decoder: Decoder,
        tokenizer: Tokenizer,
        *,
        rows: int,
        max_length: int,
        stop: frozenset[int],
        tools: bool,
        cuda_graphs: bool,
        alone: bool = False,
    ) -> None:
        self._decoder, self._tokenizer, self._tools = decoder, tokenizer, tools
        self._device, self._vocab_size = decoder.device, decoder.config.vocab_size
        self._cache = decoder.cache(rows, max_length)
        self._slots = Slots(rows, max_length, self._vocab_size, stop)
        self._reader = PromptReader(decoder, self._cache)
        self._step: Callable[[Tensor, KVCache], Tensor] = decoder.step
        if cuda_graphs:
            self._step = RecordedSteps(decoder, self._cache).step
        elif alone:  # one row, which need not equal to the bit what it would be beside others
            self._step = partial(decoder.step, alone=True)
        # Taken from the end.
        self._waiting: list[Request] = []
        self._finished: dict[int, Completion] = {}
        self._next_index = 0
        self._sampling: RowSampling | None = None
        special = tokenizer.special
        self._python_start = special["<|python_start|>"] if tools else -1
        self._python_end = special["<|python_end|>"] if tools else -1

    @property
    def active(self) -> bool:
        """Whether anything is left to generate."""
        return bool(self._waiting) or self._slots.count > 0

    @property
    def running(self) -> int:
        """Requests in work."""
        return self._slots.count

    @property
    def waiting(self) -> int:
        """Requests that have no row yet."""
        return len(self._waiting)

    def take_finished(self) -> list[tuple[int, Completion]]:
        """Requests that have been finished since the last call, with their completions."""
        found, self._finished = list(self._finished.items()), {}
        return found

    def submit(self, prompt: Sequence[int], params: SamplingParams) -> int:
        """Queue a request behind all others; returns its index.

        Raises:
            ValueError: if the prompt is empty.
        """
        request = self._request(prompt, params)
        if request is not None:
            self._waiting.insert(0, request)
        return self._next_index - 1

    def submit_all(self, prompts: Sequence[Sequence[int]], params: Sequence[SamplingParams]) -> None:
        """Queue many requests, in an order that is good for their throughput; their indices follow that of the list.

        Raises:
            ValueError: if a prompt is empty.
        """
        made = [self._request(prompt, one) for prompt, one in zip(prompts, params, strict=True)]
        self._waiting = self._reader.arrange([request for request in made if request is not None]) + self._waiting

    def _request(self, prompt: Sequence[int], params: SamplingParams) -> Request | None:
        index, self._next_index = self._next_index, self._next_index + 1
        if len(prompt) == 0:
            raise ValueError(f"generate: prompt {index} is empty, expected at least one token such as <|bos|>")
        limit = min(params.max_tokens, self._cache.max_length - len(prompt))
        if limit < 1:
            self._finished[index] = Completion([], [], [], "length")
            return None
        return Request(index, tuple(prompt), params, limit)

    def cancel(self, index: int) -> None:
        """End a request; what it has so far becomes its completion. One that is finished already is left alone."""
        for place, request in enumerate(self._waiting):
            if request.index == index:
                del self._waiting[place]
                self._reader.release(request)
                self._finished[index] = Completion([], [], [], "cancelled")
                return
        for row, request in enumerate(self._slots.requests):
            if request.index == index:
                self._finish(row, "cancelled")
                return

    def step(self) -> list[Token]:
        """One token for every row in work."""
        return self.advance(with_tokens=True)

    @torch.inference_mode()
    def advance(self, *, with_tokens: bool = False) -> list[Token]:
        """`step`, without saying what the tokens are."""
        self._admit()
        slots, n = self._slots, self._slots.count
        if n == 0:
            return []
        if self._sampling is None:
            rows = [request.params for request in slots.requests]
            self._sampling = RowSampling.of(rows, self._vocab_size, self._device)
        with one_thread() if n == 1 and self._device.type == "cpu" else nullcontext():
            inputs = torch.from_numpy(slots.next_token[:n].copy()).to(self._device)
            logits = self._step(inputs, self._cache)
            choice = sample(logits, self._sampling, torch.from_numpy(slots.next_uniform()).to(self._device))
        logprobs = None if choice.logprobs is None else choice.logprobs.cpu().numpy()
        stopped = slots.append(choice.tokens.cpu().numpy(), logprobs)
        if self._tools:
            self._run_tools()
        ended = np.flatnonzero(stopped | (slots.produced[:n] >= slots.limit[:n]))
        tokens = self._tokens(stopped, ended, choice) if with_tokens else []
        for row in ended[::-1]:
            self._finish(int(row), "stop" if stopped[row] else "length")
        return tokens

    def _tokens(self, stopped: np.ndarray, ended: np.ndarray, choice: Choice) -> list[Token]:
        slots = self._slots
        finish: dict[int, Finish] = {row: "stop" if stopped[row] else "length" for row in ended.tolist()}
        order, values = ([], []) if choice.top is None else (part.tolist() for part in choice.top)
        found = []
        for row, request in enumerate(slots.requests):
            params, sampled = request.params, bool(slots.was_sampled[row])
            count = params.top_logprobs if sampled else 0
            found.append(
                Token(
                    request.index,
                    int(slots.next_token[row]),
                    sampled,
                    float(slots.logprobs[row, slots.produced[row] - 1]) if params.logprobs or count else 0.0,
                    finish.get(row),
                    tuple(zip(order[row][:count], values[row])) if count else (),
                )
            )
        return found

    def _run_tools(self) -> None:
        slots = self._slots
        last, sampled = slots.next_token[: slots.count], slots.was_sampled[: slots.count]
        for row in np.flatnonzero(sampled & ((last == self._python_start) | (last == self._python_end))):
            if last[row] == self._python_start:
                slots.call_start[row] = slots.produced[row]
            elif slots.call_start[row] >= 0:
                expression = slots.ids[row, slots.call_start[row] : slots.produced[row] - 1].tolist()
                slots.call_start[row] = -1
                slots.force(int(row), self._tool_output(expression))

    def _tool_output(self, expression: list[int]) -> list[int]:
        tokenizer = self._tokenizer
        result = calculate(tokenizer.decode(expression))
        if result is None:
            return []
        special = tokenizer.special
        return [special["<|output_start|>"], *tokenizer.encode(result), special["<|output_end|>"]]

    def _finish(self, row: int, finish: Finish) -> None:
        slots = self._slots
        request, count = slots.requests[row], int(slots.produced[row])
        self._finished[request.index] = Completion(
            ids=slots.ids[row, :count].tolist(),
            sampled=slots.sampled[row, :count].tolist(),
            logprobs=slots.logprobs[row, :count].tolist() if request.params.logprobs else [],
            finish=finish,
        )
        # Rows in work stay at the front: the last one moves into the gap.
        last = slots.count - 1
        if row != last:
            self._cache.take(self._cache, last, [row])
        slots.remove(row)
        self._sampling = None

    def _admit(self) -> None:
        """Fill free rows from the queue."""
        slots = self._slots
        free = slots.capacity - slots.count
        wanted = min(free, len(self._waiting))
        if wanted == 0 or (slots.count and free < max(1, slots.capacity // _REFILL) and wanted < len(self._waiting)):
            return
        self._reader.read([self._waiting.pop() for _ in range(wanted)], self._place)
        self._sampling = None

    def _place(self, request: Request) -> int:
        """A row for a request; its prompt's last token is the row's first step."""
        params = request.params
        numbers = uniforms(params.seed, request.limit) if params.temperature else None
        return self._slots.add(request, request.prompt[-1], request.limit, params.stop, numbers)
