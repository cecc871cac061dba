"""Threads that work beside the training loop."""

import contextlib
import os
import sys
import threading

_NICE = 10


def lower_priority() -> None:
    """Let the calling thread give way to training; called by the thread itself, where the system knows such a thing."""
    if sys.platform != "linux":  # elsewhere priorities belong to processes
        return
    thread = threading.get_native_id()
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, thread, min(19, os.getpriority(os.PRIO_PROCESS, thread) + _NICE))
