"""Rows of coming steps, made by a thread while the current step trains."""

from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

import numpy as np
import torch

from nanochat.data.packing import Batch
from nanochat.train.background import lower_priority
from nanochat.train.trainer import StepBatch, StepSource


def _pinned(batch: Batch) -> Batch:
    """The same rows in memory that a GPU reads by itself, while the host goes on."""

    def pin(array: np.ndarray) -> np.ndarray:
        return torch.from_numpy(np.ascontiguousarray(array)).pin_memory().numpy()

    weights = None if batch.weights is None else pin(batch.weights)
    return Batch(pin(batch.inputs), pin(batch.targets), pin(batch.segments), weights)


class Prefetched:
    """A source read ahead by one thread: the same rows, ready when they are asked for.

    For sources whose rows depend on the step only, not on the weights. The source is read by the thread alone, one
    step after the other. An error of the source is raised by the `read` of its step. As a context manager it ends
    the thread.
    """

    def __init__(self, source: StepSource, steps: int, *, depth: int = 2, device: torch.device | str = "cpu") -> None:
        """Wrap a source; nothing is read yet.

        Args:
            source: to read from.
            steps: of the plan; none beyond is read ahead.
            depth: steps held ready, at least 1; more than one so that the packing of the next window, which takes
                longer than a short step, is done early.
            device: where the rows will be used; for a GPU they are put into pinned memory.
        """
        self.source = source
        self._steps, self._depth = steps, depth
        self._device = torch.device(device)
        self._pending: dict[int, Future[StepBatch]] = {}
        self._executor = ThreadPoolExecutor(1, "prefetch", self._begin)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _begin(self) -> None:
        lower_priority()
        if self._device.type == "cuda":
            torch.cuda.set_device(self._device)  # each thread has its own

    def _read(self, step: int) -> StepBatch:
        batch = self.source.read(step)
        if self._device.type == "cuda":
            batch.rows = _pinned(batch.rows)
        return batch

    def read(self, step: int) -> StepBatch:
        """Rows of the 0-based `step`; those of the next ones are begun."""
        wanted = range(step, max(step + 1, min(step + 1 + self._depth, self._steps)))
        for other in [other for other in self._pending if other not in wanted]:
            self._pending.pop(other).cancel()
        for coming in wanted:
            if coming not in self._pending:
                self._pending[coming] = self._executor.submit(self._read, coming)
        return self._pending.pop(step).result()

    def close(self) -> None:
        """End the thread, after the step it is reading."""
        self._pending.clear()
        self._executor.shutdown(wait=True, cancel_futures=True)
