"""Finished items of an evaluation under way: kept on disk as they come, with the time they took; lines of progress."""

import logging
import time
from collections.abc import Callable

from nanochat.evaluate.item_log import ItemLog
from nanochat.evaluate.scores import Record

log = logging.getLogger(__name__)

KEEP_SECONDS = 1.0
"""Between two additions to the log of items: what a kill can cost."""
TELL_SECONDS = 5.0
"""Between two lines of progress."""


class Recorder:
    """Takes finished items.

    The time since the last addition to the log is shared out among the items of the next one by their tokens, and
    kept with them as `seconds`: tasks are answered together, and an evaluation may be killed and go on.

    Args:
        items: where they are kept.
        total: items there are to do.
        ranks: that share the work at the same time; each one's seconds count 1 / ranks.
        clock: seconds that pass.
    """

    def __init__(self, items: ItemLog, total: int, ranks: int = 1, clock: Callable[[], float] = time.monotonic) -> None:
        self._items = items
        self._total = total
        self._ranks = ranks
        self._clock = clock
        self._pending: list[tuple[str, Record, int]] = []
        self._done = 0
        self._started = self._kept = self._told = clock()
        self.records: dict[str, list[Record]] = {}

    def add(self, task: str, record: Record, tokens: int) -> None:
        """Take an item.

        Args:
            task: its task.
            record: what happened with it.
            tokens: read and generated for it: its share of the work.
        """
        self._pending.append((task, record, max(1, tokens)))
        self._done += 1
        now = self._clock()
        if now - self._kept >= KEEP_SECONDS:
            self.flush()
        if now - self._told >= TELL_SECONDS:
            self._told = now
            rate = self._done / (now - self._started)
            log.info(
                "%s of %s items%s, %.1f items/s, %.0f s left",
                f"{self._done:,}",
                f"{self._total:,}",
                " of this rank" if self._ranks > 1 else "",
                rate,
                (self._total - self._done) / rate,
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
