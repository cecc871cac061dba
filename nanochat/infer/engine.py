"""Generation for many requests at once: continuous batching, shared prefixes, tools, stop tokens, streaming."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from nanochat.data.tokenizer import Tokenizer
from nanochat.infer.cuda_graphs import RecordedSteps
from nanochat.infer.decoder import Decoder
from nanochat.infer.kv_cache import KVCache
from nanochat.infer.prefixes import shared_prefixes
from nanochat.infer.sampling import RowSampling, SamplingParams, sample, uniforms
from nanochat.infer.slots import Slots
from nanochat.infer.tools import calculate
from nanochat.model.gpt import GPT

PREFILL_TOKENS = 16_384
"""Prompt tokens, padding included, in one forward pass."""
_REFILL = 8
"""Prompts wait until one in so many rows is free: read together, they cost less than one by one."""

Finish = Literal["stop", "length", "cancelled"]


@dataclass
class Completion:
    """What was generated for one request.

    Attributes:
        ids: generated tokens, the stop token included.
        sampled: per token: True where the model chose it, False where it is forced tool output.
        logprobs: per token: log-probability under the model at temperature 1, 0 where forced; empty unless asked for.
        finish: `stop` at a stop token, `length` at the length limit or the end of the context, `cancelled`.
    """

    ids: list[int]
    sampled: list[bool]
    logprobs: list[float]
    finish: Finish


@dataclass(frozen=True)
class Token:
    """One generated token of the request with this index; `finish` is set on its last one."""

    request: int
    id: int
    sampled: bool
    logprob: float
    """0 unless asked for."""
    finish: Finish | None


@dataclass(frozen=True)
class _Request:
    """A request in the queue.

    Attributes:
        limit: tokens to generate at most: what was asked for, or what the context leaves.
        group: number of the prefix it shares; -1 for none.
        shared: length of that prefix.
    """

    index: int
    prompt: tuple[int, ...]
    params: SamplingParams
    limit: int
    group: int = -1
    shared: int = 0


@dataclass
class _Prefix:
    """A prefix that was read, kept while requests that share it are waiting."""

    cache: KVCache | None
    users: int


class Engine:
    """Generates with the weights that a model has when the engine is made; of no use after a training step.

    Holds no state between calls, so that any number of calls may follow each other.

    Args:
        model: in evaluation mode.
        tokenizer: of the model.
        slots: rows that are generated at the same time; further requests wait until one is free.
        tools: whether `<|python_start|>…<|python_end|>` runs the calculator and forces its output into the row.
        cuda_graphs: on a GPU, record decoding steps and replay them.
    """

    def __init__(
        self, model: GPT, tokenizer: Tokenizer, *, slots: int = 32, tools: bool = True, cuda_graphs: bool = False
    ) -> None:
        if slots < 1:
            raise ValueError(f"Engine: slots = {slots}, expected at least 1")
        self.decoder = Decoder(model)
        self.tokenizer = tokenizer
        self.slots = slots
        self.tools = tools
        self.cuda_graphs = cuda_graphs and self.decoder.device.type == "cuda"
        self.stop = frozenset((tokenizer.special["<|assistant_end|>"], tokenizer.bos))

    def start(self, rows: int | None = None, max_length: int | None = None) -> "Generation":
        """A generation that takes requests as they come.

        Args:
            rows: generated at the same time; None: `slots`.
            max_length: of prompt and completion together; None: the context.
        """
        return Generation(self, rows or self.slots, max_length or self.decoder.config.sequence_length)

    def _started(
        self, prompts: Sequence[Sequence[int]], params: SamplingParams | Sequence[SamplingParams]
    ) -> "Generation":
        each = [params] * len(prompts) if isinstance(params, SamplingParams) else list(params)
        if len(each) != len(prompts):
            raise ValueError(f"generate: {len(prompts)} prompts but {len(each)} sampling parameters")
        context = self.decoder.config.sequence_length
        longest = max((len(p) + one.max_tokens for p, one in zip(prompts, each) if len(p) < context), default=1)
        generation = self.start(max(1, min(self.slots, len(prompts))), min(longest, context))
        generation.submit_all(prompts, each)
        return generation

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams | Sequence[SamplingParams],
        before_token: Callable[[], None] | None = None,
    ) -> list[Completion]:
        """Complete every prompt; the order of the results is that of the prompts.

        A completion depends on its own prompt and parameters only, not on what else is generated beside it: bit for
        bit on CPUs with oneDNN, elsewhere up to rounding in the products. Prompts that begin alike are read once: pass
        a prompt several times, with different seeds, to get samples.

        Args:
            prompts: token ids, at least one each.
            params: for all, or one for each.
            before_token: called before each token; what it raises ends the generation.

        Raises:
            ValueError: if a prompt is empty or the numbers of prompts and params differ.
        """
        found = dict(self.completions(prompts, params, before_token))
        return [found[index] for index in range(len(prompts))]

    def completions(
        self,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams | Sequence[SamplingParams],
        before_token: Callable[[], None] | None = None,
    ) -> Iterator[tuple[int, Completion]]:
        """`generate`, but each completion is handed out with its prompt's index as soon as it is finished."""
        generation = self._started(prompts, params)
        yield from generation.take_finished()
        while generation.active:
            if before_token is not None:
                before_token()
            generation.advance()
            yield from generation.take_finished()

    def stream(self, prompt: Sequence[int], params: SamplingParams) -> Iterator[tuple[int, bool]]:
        """Generate one completion token by token: (token, sampled), the stop token included."""
        for token in self.stream_all([prompt], params):
            yield token.id, token.sampled

    def stream_all(
        self, prompts: Sequence[Sequence[int]], params: SamplingParams | Sequence[SamplingParams]
    ) -> Iterator[Token]:
        """Generate all completions, tokens in the order in which they come."""
        generation = self._started(prompts, params)
        while generation.active:
            yield from generation.step()


class Generation:
    """Requests in work: the queue, the rows, the results."""

    def __init__(self, engine: Engine, rows: int, max_length: int) -> None:
        self._engine = engine
        self._decoder = engine.decoder
        self._device = engine.decoder.device
        self._vocab_size = engine.decoder.config.vocab_size
        self._cache = self._decoder.cache(rows, max_length)
        self._slots = Slots(rows, max_length, self._vocab_size, engine.stop)
        self._step = RecordedSteps(self._decoder, self._cache).step if engine.cuda_graphs else self._decoder.step
        # Taken from the end.
        self._waiting: list[_Request] = []
        self._prefixes: dict[int, _Prefix] = {}
        self._finished: dict[int, Completion] = {}
        self._next_index = self._next_group = 0
        self._sampling: RowSampling | None = None
        special = engine.tokenizer.special
        self._python_start = special["<|python_start|>"] if engine.tools else -1
        self._python_end = special["<|python_end|>"] if engine.tools else -1

    @property
    def active(self) -> bool:
        """Whether anything is left to generate."""
        return bool(self._waiting) or self._slots.count > 0

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
        requests = [request for request in made if request is not None]
        found = []
        for shared in shared_prefixes([request.prompt for request in requests], self._decoder.chunk):
            members = [requests[place] for place in shared.members]
            group = -1
            if shared.length:
                group, self._next_group = self._next_group, self._next_group + 1
                self._prefixes[group] = _Prefix(None, len(members))
            members.sort(key=lambda request: (len(request.prompt), request.prompt, -request.index))
            found.append([_Request(m.index, m.prompt, m.params, m.limit, group, shared.length) for m in members])
        # Longest first: rows in work are of like length, and prompts that begin alike stand side by side.
        found.sort(key=lambda members: (len(members[-1].prompt), members[-1].prompt))
        self._waiting = [request for members in found for request in members] + self._waiting

    def _request(self, prompt: Sequence[int], params: SamplingParams) -> _Request | None:
        index, self._next_index = self._next_index, self._next_index + 1
        if len(prompt) == 0:
            raise ValueError(f"generate: prompt {index} is empty, expected at least one token such as <|bos|>")
        limit = min(params.max_tokens, self._cache.max_length - len(prompt))
        if limit < 1:
            self._finished[index] = Completion([], [], [], "length")
            return None
        return _Request(index, tuple(prompt), params, limit)

    def cancel(self, index: int) -> None:
        """End a request; what it has so far becomes its completion. One that is finished already is left alone."""
        for place, request in enumerate(self._waiting):
            if request.index == index:
                del self._waiting[place]
                self._release(request)
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
        inputs = torch.from_numpy(slots.next_token[:n].copy()).to(self._device)
        logits = self._step(inputs, self._cache)
        chosen, logprobs = sample(logits, self._sampling, torch.from_numpy(slots.next_uniform()).to(self._device))
        stopped = slots.append(chosen.cpu().numpy(), None if logprobs is None else logprobs.cpu().numpy())
        if self._engine.tools:
            self._run_tools()
        ended = np.flatnonzero(stopped | (slots.produced[:n] >= slots.limit[:n]))
        tokens = self._tokens(stopped, ended) if with_tokens else []
        for row in ended[::-1]:
            self._finish(int(row), "stop" if stopped[row] else "length")
        return tokens

    def _tokens(self, stopped: np.ndarray, ended: np.ndarray) -> list[Token]:
        slots = self._slots
        finish: dict[int, Finish] = {row: "stop" if stopped[row] else "length" for row in ended.tolist()}
        return [
            Token(
                request.index,
                int(slots.next_token[row]),
                bool(slots.was_sampled[row]),
                float(slots.logprobs[row, slots.produced[row] - 1]) if request.params.logprobs else 0.0,
                finish.get(row),
            )
            for row, request in enumerate(slots.requests)
        ]

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
        tokenizer = self._engine.tokenizer
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
        """Fill free rows from the queue, reading what prompts share once.

        All but a prompt's last token is read here; the last one is the row's first decoding step, so that no logits
        are made in reading.
        """
        slots = self._slots
        free = slots.capacity - slots.count
        wanted = min(free, len(self._waiting))
        if wanted == 0 or (slots.count and free < max(1, slots.capacity // _REFILL) and wanted < len(self._waiting)):
            return
        taken = [self._waiting.pop() for _ in range(wanted)]
        self._sampling = None
        first_of: dict[tuple[int, ...], _Request] = {}
        for request in taken:
            first_of.setdefault(request.prompt, request)
        # Those with the same start are read together, the longest first; then come copies of rows that were read.
        readers = sorted(first_of.values(), key=lambda request: (request.shared, -len(request.prompt)))
        copies = [request for request in taken if first_of[request.prompt] is not request]
        rows = {request.index: self._place(request) for request in (*readers, *copies)}
        for request in readers:
            self._begin(request, rows[request.index])
        begin = 0
        while begin < len(readers):
            end = begin
            most = max(1, PREFILL_TOKENS // self._decoder.chunk)
            while end < len(readers) and readers[end].shared == readers[begin].shared and end - begin < most:
                end += 1
            self._read(readers[begin:end], rows[readers[begin].index])
            begin = end
        for request in copies:
            self._cache.take(self._cache, rows[first_of[request.prompt].index], [rows[request.index]])
        for request in taken:
            self._release(request)

    def _place(self, request: _Request) -> int:
        params = request.params
        numbers = uniforms(params.seed, request.limit) if params.temperature else None
        return self._slots.add(request, request.prompt[-1], request.limit, params.stop, numbers)

    def _begin(self, request: _Request, row: int) -> None:
        """Put the prefix that a request shares into its row, reading it where it is the first one to ask."""
        self._cache.empty(row)
        if request.group < 0:
            return
        prefix = self._prefixes[request.group]
        if prefix.cache is None:
            prefix.cache = self._decoder.cache(1, request.shared)
            tokens = torch.tensor([request.prompt[: request.shared]])
            self._decoder.read(tokens, np.array([request.shared]), prefix.cache)
        self._cache.take(prefix.cache, 0, [row])

    def _read(self, requests: Sequence[_Request], first_row: int) -> None:
        """Read what is left of prompts that start alike, into consecutive rows."""
        counts = np.array([len(request.prompt) - 1 - request.shared for request in requests])
        counts = counts[counts > 0]
        if not len(counts):
            return
        tokens = torch.zeros((len(counts), int(counts.max())), dtype=torch.int64)
        for row, (request, count) in enumerate(zip(requests, counts)):
            tokens[row, :count] = torch.tensor(request.prompt[request.shared : -1])
        self._decoder.read(tokens, counts, self._cache, first_row)

    def _release(self, request: _Request) -> None:
        """Forget a prefix when nobody waits for it any more."""
        if request.group >= 0:
            prefix = self._prefixes[request.group]
            prefix.users -= 1
            if prefix.users == 0:
                del self._prefixes[request.group]
