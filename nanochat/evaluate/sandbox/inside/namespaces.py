"""Users, mounts, processes and network of its own, and a root that holds next to nothing: where the kernel allows."""

import ctypes
import os
import struct

from . import kernel

LAYER = "user, pid, network and ipc namespaces"
ROOT_LAYER = "own read-only root"
SCRATCH = "/scratch"
"""The only folder that can be written to, in the own root."""
SCRATCH_BYTES = 16 * 2**20
SCRATCH_FILES = 1024

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x4000000, 0x8000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 4096, 16384, 1 << 18
MNT_DETACH = 2
AT_FDCWD, AT_RECURSIVE = -100, 0x8000
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID = 1, 2
_MOUNT_POINT = "/proc"
"""Where the own root is made: a folder there always is, and that holds none to be shown. Nobody outside sees it."""
_MOUNT_SETATTR = 442
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}


def enter(readable: list[str]) -> list[str]:
    """Leave the machine's users, mounts, processes and network behind, as far as the kernel allows.

    Children of this process live in the new process namespace, not the process itself.

    Args:
        readable: folders the own root shows.

    Returns:
        Names of the layers in force.
    """
    user, group = os.getuid(), os.getgid()
    try:
        kernel.call("unshare", CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS)
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"0 {user} 1")
        _write("/proc/self/gid_map", f"0 {group} 1")
    except OSError:
        return []
    try:
        _enter_own_root(readable)
    except OSError:
        return [LAYER]
    return [LAYER, ROOT_LAYER]


def enter_inner_processes() -> bool:
    """Have the children to come live in a process namespace below this one, blind for their siblings of before.

    Returns:
        Whether the kernel grants it. Without, the filter of system calls keeps them from each other.
    """
    try:
        kernel.call("unshare", CLONE_NEWPID)
    except OSError:
        return False
    return True


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def _mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    texts = [None if text is None else text.encode() for text in (source, target, kind, options)]
    kernel.call("mount", *texts[:3], flags, texts[3])


def _enter_own_root(readable: list[str]) -> None:
    """Make a root of a small memory file system, the readable folders and the scratch folder, and nothing else."""
    _mount(None, "/", None, MS_REC | MS_PRIVATE)
    folder = _MOUNT_POINT
    _mount("root", folder, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,mode=755")
    for path in readable:
        inside = folder + path
        if os.path.islink(path):
            os.makedirs(os.path.dirname(inside), exist_ok=True)
            os.symlink(os.readlink(path), inside)
            continue
        os.makedirs(inside, exist_ok=True)
        _mount(path, inside, None, MS_BIND | MS_REC)
    scratch = folder + SCRATCH
    os.mkdir(scratch)
    attributes = struct.pack("QQQQ", MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID, 0, 0, 0)
    kernel.call(
        "syscall",
        _MOUNT_SETATTR,
        AT_FDCWD,
        folder.encode(),
        AT_RECURSIVE,
        attributes,
        ctypes.c_size_t(len(attributes)),
    )
    limits = f"size={SCRATCH_BYTES},nr_inodes={SCRATCH_FILES},mode=700"
    _mount("scratch", scratch, "tmpfs", MS_NOSUID | MS_NODEV, limits)
    os.chdir(folder)
    kernel.call("syscall", _PIVOT_ROOT[os.uname().machine], b".", b".")
    kernel.call("umount2", b".", MNT_DETACH)
    os.chdir("/")
