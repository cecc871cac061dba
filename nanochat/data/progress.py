"""A running download: its log lines, and whether it is still worth waiting for."""

import logging
import time

from nanochat.data.retry import Retry, TransientError

log = logging.getLogger(__name__)


class Progress:
    """Log lines, whole ones (they go through pipes to files): at the start, every few seconds, at the end.

    Also the least rate: a server that sends a byte now and then is never silent for long and never done either.
    """

    def __init__(self, name: str, have: int, retry: Retry) -> None:
        self._name = name
        self._resumed = have
        self._retry = retry
        self._begun = self._last = time.monotonic()
        self._started = False
        self._total: int | None = None
        self._moved = 0
        self._position = have
        self._window = (self._begun, have)

    def start(self, begin: int, total: int | None) -> None:
        """A transfer from byte `begin` of `total` begins."""
        self._total = total
        self._position = begin
        self._window = (time.monotonic(), begin)
        if not self._started:
            self._started = True
            size = f"{total / 1e6:,.1f} MB" if total is not None else "of unknown size"
            going_on = f", going on at {begin / 1e6:,.1f} MB" if begin else ""
            log.info("%s: %s%s", self._name, size, going_on)
        if begin == 0:
            self._resumed = 0

    def at(self, position: int) -> None:
        """Bytes up to `position` have arrived.

        Raises:
            TransientError: if the last `Retry.least_window_s` brought fewer than `Retry.least_bytes`.
        """
        self._moved += position - self._position
        self._position = position
        now = time.monotonic()
        if now - self._last >= self._retry.progress_s:
            self._last = now
            share = f" of {self._total / 1e6:,.1f} MB ({position / self._total:.0%})" if self._total else " MB"
            log.info("%s: %.1f%s, %.1f MB/s", self._name, position / 1e6, share, self._rate(now))
        since, begin = self._window
        if now - since < self._retry.least_window_s or position == self._total:
            return
        if position - begin < self._retry.least_bytes:
            raise TransientError(
                f"only {position - begin:,} bytes came in {now - since:.0f} s, expected {self._retry.least_bytes:,}"
            )
        self._window = (now, position)

    def finish(self, size: int) -> None:
        """All of it is here."""
        now = time.monotonic()
        resumed = f", {self._resumed / 1e6:,.1f} MB were here" if self._resumed else ""
        seconds = now - self._begun
        log.info("%s: %.1f MB in %.1f s, %.1f MB/s%s", self._name, size / 1e6, seconds, self._rate(now), resumed)

    def _rate(self, now: float) -> float:
        return self._moved / 1e6 / max(1e-6, now - self._begun)
