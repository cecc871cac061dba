"""Finished items of an evaluation under way: kept on disk as they come, with the time they took; lines of progress."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from nanochat.evaluate.item_log import ItemLog
from nanochat.evaluate.scores import Record

log = logging.getLogger(__name__)

KEEP_SECONDS = 1.0
"""Between two additions to the log of items: what a kill can cost."""
TELL_SECONDS = 5.0
"""Between two lines of progress."""

Finished = tuple[str, Record, int]
"""Task of an item, what happened with it, and the tokens read and generated for it: its share of the work."""


class Recorder:
    """Takes finished items.

    The time since the last addition to the log is shared out among the items of the next one by their tokens, and
    kept with them as `seconds`: tasks are answered together, and an evaluation may be killed and go on. The first
    addition's is that since this object was made, so make it before the items are got ready.

    Args:
        items: where they are kept.
        ranks: that share the work at the same time; each one's seconds count 1 / ranks.
        clock: seconds that pass.
    """

    def __init__(self, items: ItemLog, ranks: int = 1, clock: Callable[[], float] = time.monotonic) -> None:
        self._items = items
        self._ranks = ranks
        self._clock = clock
        self._pending: list[Finished] = []
        self._total = self._done = 0
        self._total_tokens: int | None = None
        self._done_tokens = 0
        self._started = self._kept = self._told = clock()
        self.records: dict[str, list[Record]] = {}

    def expect(self, items: int, tokens: int | None = None) -> None:
        """Say what there is to do; the speed is measured from now on.

        Args:
            items: how many.
            tokens: they take in all, where that is known before: items may come in the order of their size.
        """
        self._total, self._total_tokens = items, tokens
        self._started = self._told = self._clock()

    def add(self, finished: Sequence[Finished]) -> None:
        """Take items that were finished together; they are kept together."""
        self._pending += [(task, record, max(1, tokens)) for task, record, tokens in finished]
        self._done += len(finished)
        self._done_tokens += sum(tokens for *_, tokens in finished)
        now = self._clock()
        if now - self._kept >= KEEP_SECONDS:
            self.flush()
        if now - self._told >= TELL_SECONDS or self._done == self._total:
            self._told = now
            self._tell(max(now - self._started, 1e-9))

    def _tell(self, seconds: float) -> None:
        if self._total_tokens:
            left = seconds * (self._total_tokens / max(1, self._done_tokens) - 1)
        else:
            left = seconds * (self._total / self._done - 1)
        log.info(
            "%s of %s items%s, %.1f items/s, %.0f s left",
            f"{self._done:,}",
            f"{self._total:,}",
            " of this rank" if self._ranks > 1 else "",
            self._done / seconds,
            left,
        )

    def flush(self) -> None:
        """Keep the items that were taken since the last time."""
        if not self._pending:
            return
        now = self._clock()
        each = (now - self._kept) / self._ranks / sum(tokens for *_, tokens in self._pending)
        self._kept = now
        added: dict[str, list[Record]] = {}
        for task, record, tokens in self._pending:
            added.setdefault(task, []).append({**record, "seconds": each * tokens})
        self._pending.clear()
        self._items.add(added)
        for task, records in added.items():
            self.records.setdefault(task, []).extend(records)


def merge_records(
    asked: Mapping[str, Iterable[int]],
    earlier: Mapping[str, Mapping[int, Record]],
    parts: Sequence[Mapping[str, Sequence[Record]]],
) -> dict[str, list[Record]]:
    """All records of an evaluation, whoever made them.

    Args:
        asked: task → its items; others, of an earlier start that asked more, are left out.
        earlier: of earlier starts, see `ItemLog.finished`.
        parts: of this start, see `Recorder.records`, one of each rank.

    Returns:
        Task → records by item, of those there are.
    """
    merged = {}
    for task, items in asked.items():
        found = dict(earlier.get(task, {}))
        for part in parts:
            found |= {record["item"]: record for record in part.get(task, ())}
        merged[task] = [found[item] for item in sorted(items) if item in found]
    return merged
