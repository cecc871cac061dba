"""Ctrl-C for the chat alone: the terminal is taken over from the process that waits for it."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def foreground(terminal: int) -> Iterator[None]:
    """Be the only one who hears Ctrl-C while inside, as a job that a shell has brought to the foreground.

    Snakemake waits in the same process group for the chat it has started, and would give up at the first answer that
    is stopped. Where this process already leads the group, or there is no terminal, nothing is changed. Ctrl-Z is
    ignored while inside, since the shell would not see that only this process sleeps.

    Args:
        terminal: file descriptor of it.
    """
    try:
        group = os.tcgetpgrp(terminal)
    except OSError:
        group = -1
    if group != os.getpgrp() or group == os.getpid():
        yield
        return
    # Without SIGTTOU ignored, giving the terminal back from the background would stop this process.
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGTTOU, signal.SIGTSTP)}
    os.setpgid(0, 0)
    os.tcsetpgrp(terminal, os.getpid())
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # the terminal, or who waited, may be gone
            os.tcsetpgrp(terminal, group)
            os.setpgid(0, group)
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def interruptible() -> Iterator[threading.Event]:
    """A flag that Ctrl-C sets while inside, which tears no step of a model; a second Ctrl-C interrupts after all."""
    flag = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # which alone may handle signals
        yield flag
        return

    def handle(number: int, frame: object) -> None:
        if flag.is_set():
            raise KeyboardInterrupt
        flag.set()

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield flag
    finally:
        signal.signal(signal.SIGINT, before)
