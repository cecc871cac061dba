"""Decoding steps recorded once and replayed: on a GPU, launching a small model's kernels takes longer than they run."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nanochat.infer.decoder import Decoder
from nanochat.infer.kv_cache import KVCache

Record = Callable[[Callable[[], Tensor]], tuple[Callable[[], None], Tensor]]
"""Runs a function, and returns what runs it again on the same memory, and the tensor that then holds its result."""


def record_on_gpu(work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
    """Capture a CUDA graph of work that reads and writes fixed memory and waits for nothing."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # libraries set themselves up in the first run, which must not be captured
        work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = work()
    return graph.replay, result


@dataclass(frozen=True)
class _Step:
    """A recorded step of so many rows: its inputs (rows,), what computes it, where the logits then are."""

    tokens: Tensor
    positions: Tensor
    before: Tensor
    replay: Callable[[], None]
    logits: Tensor


class RecordedSteps:
    """`Decoder.step` for one cache, replayed.

    A recording is for fixed shapes: rows and places are rounded up to powers of two, so that few are needed. Rows that
    are recorded but not in work write where their next token will.
    """

    def __init__(self, decoder: Decoder, cache: KVCache, record: Record = record_on_gpu) -> None:
        self._decoder, self._cache, self._record = decoder, cache, record
        self._steps: dict[tuple[int, int], _Step] = {}

    @torch.inference_mode()
    def step(self, tokens: Tensor, cache: KVCache) -> Tensor:
        """As `Decoder.step`; the logits are overwritten by the next call.

        Raises:
            ValueError: if a row is full, or the cache is not the one recorded with.
        """
        if cache is not self._cache:
            raise ValueError("RecordedSteps.step: another cache than the one it was made for; make another one")
        count = tokens.shape[0]
        lengths = cache.lengths[:count]
        cache.check_room(int(lengths.max()) + 1)
        rows = min(_power(count), cache.rows)
        seen = min(_power(int(lengths.max()) + 1, least=256), cache.max_length)
        step = self._steps.get((rows, seen))
        if step is None:
            step = self._steps[rows, seen] = self._recorded(rows, seen)
        step.tokens[:count] = tokens
        step.positions.copy_(self._next_places(rows))
        step.before.copy_(torch.where(step.positions > 0, cache.last[:rows], -1))
        step.replay()
        cache.finish(slice(0, count), 1, tokens)
        return step.logits[:count]

    def _next_places(self, rows: int) -> Tensor:
        return torch.from_numpy(self._cache.lengths[:rows].clip(max=self._cache.max_length - 1))

    def _recorded(self, rows: int, seen: int) -> _Step:
        tokens, before = (torch.zeros(rows, dtype=torch.int64, device=self._decoder.device) for _ in range(2))
        positions = self._next_places(rows).to(self._decoder.device)  # recording writes there, and so will the step

        def work() -> Tensor:
            return self._decoder.next_logits(tokens, positions, before, self._cache, seen, ragged=True)

        replay, logits = self._record(work)
        return _Step(tokens, positions, before, replay, logits)


def _power(count: int, least: int = 1) -> int:
    return max(least, 1 << (count - 1).bit_length())
