"""SIGTERM and SIGINT as a request that the loop answers: it saves the last completed step and stops."""

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

log = logging.getLogger(__name__)

STOPPING = (signal.SIGTERM, signal.SIGINT)
"""Signals that ask training to stop."""


class Interrupted(SystemExit):
    """Training stopped on a signal after saving; the process ends with 128 + signal (143 or 130), as shells expect."""

    def __init__(self, signal_number: int, step: int) -> None:
        super().__init__(128 + signal_number)
        self.signal_number = signal_number
        self.step = step


class StepAbandoned(Exception):  # noqa: N818 (nothing went wrong)
    """A step was given up before its update, because a signal asked to stop."""


class StopRequest:
    """Whether a signal has asked to stop, and which."""

    def __init__(self) -> None:
        self.signal_number = 0

    @property
    def made(self) -> bool:
        """Whether one has."""
        return self.signal_number != 0

    def abandon(self) -> None:
        """Give up what is being made for the next update.

        Raises:
            StepAbandoned: if a signal has asked to stop.
        """
        if self.made:
            raise StepAbandoned


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Note SIGTERM and SIGINT instead of dying of them; a second SIGINT interrupts at once.

    Handlers can be set in the main thread only; elsewhere the request simply stays empty.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if request.signal_number and number == signal.SIGINT:
            raise KeyboardInterrupt
        request.signal_number = number
        log.warning("%s: saving, then stopping", signal.Signals(number).name)

    previous = {number: signal.signal(number, handle) for number in STOPPING}
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
