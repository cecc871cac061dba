"""The last layers, which a process puts on itself before it runs what is not trusted: nothing is taken back after."""

import resource
import struct

from . import kernel, landlock, namespaces, seccomp

LAYER = "rlimits"
FILE_BYTES = 8 * 2**20
OPEN_FILES = 64


def shut_in(
    layers: list[str],
    readable: list[str],
    writable: str | None,
    *,
    parent: int,
    root: bool,
    memory_bytes: int,
    seconds: int,
) -> list[str]:
    """Limit, disarm and filter this process.

    Args:
        layers: those in force already.
        readable: folders that may be read.
        writable: the folder that may be written to; one of limited size, which only the own root has.
        parent: the parent's process number; this process dies with it.
        root: whether the user outside of the namespaces is root.
        memory_bytes: address space it may use.
        seconds: processor time it may use.

    Returns:
        All layers in force.

    Raises:
        RuntimeError: if they do not keep a program from files, networks and processes that are not its own.
    """
    _limit(memory_bytes, seconds)
    _drop_capabilities()
    kernel.die_with_parent(parent)
    kernel.call("prctl", kernel.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    layers = [*layers, LAYER]
    if landlock.restrict(readable, writable):
        layers.append(landlock.LAYER)
    if seccomp.install():
        layers.append(seccomp.LAYER)
    lacking = unprotected(layers, root=root)
    if lacking:
        raise RuntimeError(
            f"this kernel grants {', '.join(layers)} only, which leaves {lacking} open to a program; allow user "
            "namespaces, Landlock or seccomp (docs/sandbox.md), or take tasks that run code out of the settings"
        )
    return layers


def unprotected(layers: list[str], *, root: bool) -> str:
    """What these layers do not protect; nothing: the empty text.

    Root's processes are not counted by the kernel: without the filter nothing would stop a fork bomb of root's.
    """
    lacking = []
    if namespaces.ROOT_LAYER not in layers and landlock.LAYER not in layers:
        lacking.append("the user's files")
    if seccomp.LAYER not in layers:
        if namespaces.LAYER not in layers:
            lacking.append("the network and the user's processes")
        elif root:
            lacking.append("the number of processes")
        if namespaces.ROOT_LAYER not in layers:
            lacking.append("modes and owners of files")
    return ", ".join(lacking)


def _limit(memory_bytes: int, cpu_seconds: int) -> None:
    limits = {
        resource.RLIMIT_AS: memory_bytes,
        resource.RLIMIT_DATA: memory_bytes,
        resource.RLIMIT_CPU: cpu_seconds,
        resource.RLIMIT_FSIZE: FILE_BYTES,
        resource.RLIMIT_NOFILE: OPEN_FILES,
        resource.RLIMIT_NPROC: 1,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_CORE: 0,
    }
    for kind, limit in limits.items():
        hard = resource.getrlimit(kind)[1]
        value = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(kind, (value, value))


def _drop_capabilities() -> None:
    header = struct.pack("Ii", 0x20080522, 0)
    kernel.call("capset", header, struct.pack("6I", *[0] * 6))
