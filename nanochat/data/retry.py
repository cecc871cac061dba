"""Patience with servers: which answers are worth another try, after what pause, and when to give up."""

import email.utils
import logging
import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from nanochat.errors import DataError

log = logging.getLogger(__name__)

# Too many requests, and what servers and their proxies answer while they are overloaded or restarted.
RETRIED_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524})


@dataclass(frozen=True)
class Retry:
    """How often and after what pauses a server is asked again."""

    attempts: int = 6
    """Tries in a row that bring fewer than `least_bytes` new bytes before giving up."""
    first_pause_s: float = 1.0
    """Pause after the first of them; doubled each time."""
    longest_pause_s: float = 60.0
    """Longest such pause."""
    longest_wait_s: float = 300.0
    """Longest pause a server may ask for (`Retry-After`, `RateLimit`); the hub's limits renew within this."""
    jitter: float = 0.25
    """Pauses are lengthened by a random share up to this, so that parallel downloads don't come back at once."""
    timeout_s: float = 30.0
    """Longest silence of the server."""
    least_bytes: int = 10_000
    """Fewest bytes in `least_window_s` for a transfer to count as one; below, it is broken off and tried again."""
    least_window_s: float = 60.0
    """Time in which `least_bytes` must come."""
    damaged_tries: int = 3
    """Downloads of a file whose content turns out wrong before giving up."""
    progress_s: float = 5.0
    """Seconds between log lines of a running download."""
    sleep: Callable[[float], None] = time.sleep


class TransientError(Exception):
    """A try that may succeed when made again, after `wait_s` seconds where the server named a time."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class Patience:
    """Counts the tries for one thing and pauses between them."""

    def __init__(self, what: str, retry: Retry) -> None:
        self._what = what
        self._retry = retry
        self._failures = 0

    def progressed(self) -> None:
        """Something arrived: the count starts anew."""
        self._failures = 0

    def failed(self, reason: TransientError, left: str = "") -> None:
        """Pause before the next try.

        Args:
            reason: of the failure.
            left: what lies where already, for the message.

        Raises:
            DataError: if the tries are used up.
        """
        self._failures += 1
        if self._failures >= self._retry.attempts:
            kept = f"{left}; " if left else ""
            raise DataError(
                f"{self._what}: {reason} ({kept}{self._retry.attempts} tries without progress); run the same command "
                "again to go on, or use a local folder or a mirror with data.source"
            ) from None
        if reason.wait_s is not None:
            pause = min(reason.wait_s, self._retry.longest_wait_s)
        else:
            pause = min(self._retry.longest_pause_s, self._retry.first_pause_s * 2 ** (self._failures - 1))
        pause *= 1 + self._retry.jitter * random.random()
        log.warning("%s: %s; trying again in %.1f s", self._what, reason, pause)
        self._retry.sleep(pause)


def waiting_time(headers: Mapping[str, str]) -> float | None:
    """Seconds that a busy server asks to wait, from `Retry-After` or the hub's `RateLimit`; None if it says nothing."""
    limit = re.search(r"\br=0\b.*\bt=(\d+)", headers.get("RateLimit") or "")
    if limit:
        return float(limit[1]) + 1  # whole seconds, rounded down
    after = (headers.get("Retry-After") or "").strip()
    if after.isdigit():
        return float(after)
    try:
        date = email.utils.parsedate_to_datetime(after)
    except ValueError:
        return None
    return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
