"""System calls that Python has no function for; Linux on x86-64 and arm64."""

import ctypes
import os

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
SIGKILL = 9
CLOSE_RANGE, LAST_DESCRIPTOR = 436, 2**31 - 1


def call(name: str, *arguments: object) -> int:
    """Call a function of the C library.

    Args:
        name: the function.
        arguments: numbers (passed as C's `long`, which system calls read), bytes, None or ctypes values.

    Returns:
        What it returns, if that is not negative.

    Raises:
        OSError: if it returns a negative number.
    """
    function = getattr(ctypes.CDLL(None, use_errno=True), name)
    function.restype = ctypes.c_long if name == "syscall" else ctypes.c_int
    result = function(*(ctypes.c_long(each) if isinstance(each, int) else each for each in arguments))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent, of this process number, dies."""
    call("prctl", PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
    if os.getppid() not in (parent, 0):  # it is gone already; 0: it lives outside of this process namespace
        os._exit(1)


def forbid_tracing() -> None:
    """Close this process's memory, descriptors and core dumps to other processes of the same user."""
    call("prctl", PR_SET_DUMPABLE, 0, 0, 0, 0)


def keep_only(descriptors: list[int]) -> None:
    """Close all file descriptors but these."""
    start = 0
    for kept in sorted(descriptors):
        if kept > start:
            call("syscall", CLOSE_RANGE, start, kept - 1, 0)
        start = kept + 1
    call("syscall", CLOSE_RANGE, start, LAST_DESCRIPTOR, 0)


def read_all(descriptor: int) -> bytes:
    """Read a descriptor to its end and close it."""
    parts = []
    while part := os.read(descriptor, 1 << 20):
        parts.append(part)
    os.close(descriptor)
    return b"".join(parts)
