"""Layers of isolation through plain system calls, each taken where the kernel grants it; Linux on x86-64 and arm64.

Namespaces and an own root hide the machine; Landlock stands in for the root where namespaces are refused; seccomp
refuses what a computing program never needs; capabilities go in any case. Standard library only: this runs in the
supervisor, outside of the package.
"""

import ctypes
import os
import platform
import struct
import sys
import sysconfig

_libc = ctypes.CDLL(None, use_errno=True)

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x4000000, 0x8000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 4096, 16384, 1 << 18
MNT_DETACH = 2
AT_FDCWD, AT_RECURSIVE = -100, 0x8000
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV = 1, 2, 4
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP = 1, 38, 22
SIGKILL = 9
SCRATCH_BYTES = 16 * 2**20
"""Size of the writable folder."""
_MOUNT_SETATTR, _LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 442, 444, 445, 446
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent, of this process number, dies."""
    _libc.prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
    if os.getppid() not in (parent, 0):  # it is gone already; 0: it lives outside of this process namespace
        os._exit(1)


def _mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    arguments = [None if text is None else text.encode() for text in (source, target, kind)]
    data = None if options is None else options.encode()
    _check(_libc.mount(*arguments, ctypes.c_ulong(flags), data), f"mount {target}")


def _unshare(flags: int) -> None:
    _check(_libc.unshare(flags), "unshare")


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def enter_namespaces(folder: str) -> list[str]:
    """Leave the machine's users, mounts, processes and network behind, as far as the kernel allows.

    Args:
        folder: an empty folder, over which the own root is mounted (unseen from outside).

    Returns:
        Names of the layers in force. The working folder afterwards is the writable one.
    """
    user, group = os.getuid(), os.getgid()
    try:
        _unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS)
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"0 {user} 1")
        _write("/proc/self/gid_map", f"0 {group} 1")
    except OSError:
        return []
    layers = ["user, pid, network and ipc namespaces"]
    try:
        _enter_own_root(folder)
        layers.append("own read-only root")
    except OSError:
        os.chdir(folder)
    return layers


def _readable_folders() -> list[str]:
    """What an interpreter loads modules from: the standard library, its extensions, the system's libraries."""
    paths = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), *filter(os.path.isdir, sys.path)}
    paths |= {path for path in ("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/usr/local/lib") if os.path.isdir(path)}
    kept: list[str] = []
    for path in sorted(map(os.path.abspath, paths)):
        if not any(path.startswith(other + "/") for other in kept):
            kept.append(path)
    return kept


def _enter_own_root(folder: str) -> None:
    """Make a root of a small memory file system, the readable folders and nothing else."""
    _mount(None, "/", None, MS_REC | MS_PRIVATE)
    _mount("root", folder, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,mode=755")
    for path in _readable_folders():
        inside = folder + path
        if os.path.islink(path):
            os.makedirs(os.path.dirname(inside), exist_ok=True)
            os.symlink(os.readlink(path), inside)
            continue
        os.makedirs(inside, exist_ok=True)
        _mount(path, inside, None, MS_BIND | MS_REC)
    attributes = struct.pack("QQQQ", MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID, 0, 0, 0)
    scratch = folder + "/scratch"
    os.mkdir(scratch)
    result = _libc.syscall(
        _MOUNT_SETATTR, AT_FDCWD, folder.encode(), AT_RECURSIVE, attributes, ctypes.c_size_t(len(attributes))
    )
    _check(result, "mount_setattr")
    _mount("scratch", scratch, "tmpfs", MS_NOSUID | MS_NODEV, f"size={SCRATCH_BYTES},nr_inodes=1024,mode=700")
    os.chdir(folder)
    _check(_libc.syscall(_PIVOT_ROOT[platform.machine()], b".", b"."), "pivot_root")
    _check(_libc.umount2(b".", MNT_DETACH), "umount2")
    os.chdir("/scratch")


def lock_down(folder: str) -> list[str]:
    """The last layers, in the process that runs the program: nothing can be taken back after this.

    Args:
        folder: the only one that may be written to.

    Returns:
        Names of the layers in force.
    """
    layers = []
    _drop_capabilities()
    _check(_libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    if folder != "/scratch" and _landlock(folder):
        layers.append("landlock")
    if _seccomp():
        layers.append("seccomp")
    return layers


def _drop_capabilities() -> None:
    header = struct.pack("Ii", 0x20080522, 0)
    _check(_libc.capset(header, struct.pack("6I", *[0] * 6)), "capset")


def _landlock(folder: str) -> bool:
    """Read from the readable folders, write to `folder`, and nothing else (Linux 5.13 and later)."""
    version = _libc.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), 1)
    if version < 1:
        return False
    everything = (1 << 13) - 1
    if version >= 2:
        everything |= 1 << 13  # moving files between folders
    if version >= 3:
        everything |= 1 << 14  # truncating
    read = 1 << 2 | 1 << 3
    rules = _libc.syscall(_LANDLOCK_CREATE, struct.pack("Q", everything), ctypes.c_size_t(8), 0)
    if rules < 0:
        return False
    for path, access in [*((path, read) for path in _readable_folders()), (folder, everything)]:
        place = os.open(path, os.O_PATH)
        # Packed without padding: the kernel's structure is 12 bytes long.
        _check(_libc.syscall(_LANDLOCK_ADD, rules, 1, struct.pack("=Qi", access, place), 0), f"landlock {path}")
        os.close(place)
    _check(_libc.syscall(_LANDLOCK_RESTRICT, rules, 0), "landlock_restrict_self")
    os.close(rules)
    return True


# System calls refused with EPERM, by the machine's numbers: other programs and processes, networks, signals to others,
# shared memory, namespaces and mounts, kernel interfaces.
# fmt: off
_REFUSED = {
    "x86_64": (
        29, 41, 42, 53, 57, 58, 59, 62, 64, 68, 101, 109, 112, 129, 135, 155, 161, 163, 165, 166, 167, 169, 172, 173,
        175, 176, 179, 200, 246, 248, 249, 250, 272, 297, 298, 304, 308, 310, 311, 312, 313, 319, 321, 322, 323,
    ),
    "aarch64": (
        39, 40, 41, 51, 60, 89, 92, 97, 104, 105, 106, 117, 129, 130, 138, 142, 154, 157, 186, 190, 194, 198, 199,
        203, 217, 218, 219, 221, 224, 240, 241, 265, 268, 270, 271, 272, 273, 279, 280, 281, 282,
    ),
}
# fmt: on
_REFUSED_EVERYWHERE = [424, 425, 426, 427, 428, 429, 430, 431, 432, 433, 434, 438, 442]
_CLONE = {"x86_64": 56, "aarch64": 220}
_TGKILL = {"x86_64": 234, "aarch64": 131}
_CLONE3 = 435
_AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32 = 0x40000000
CLONE_THREAD = 0x10000


def _seccomp() -> bool:
    """Install the filter; False where the kernel or the machine does not know it."""
    machine = platform.machine()
    if machine not in _REFUSED:
        return False
    load, jump_equal, jump_ge, jump_set, ret = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, refuse, kill, unknown = 0x7FFF0000, 0x00050000 | 1, 0x80000000, 0x00050000 | 38
    # Offsets in the data the kernel shows the filter: number, architecture, low halves of the first argument.
    number, architecture, argument = 0, 4, 16
    program = [
        (load, 0, 0, architecture),
        (jump_equal, 1, 0, _AUDIT[machine]),
        (ret, 0, 0, kill),
        (load, 0, 0, number),
    ]
    if machine == "x86_64":
        program += [(jump_ge, 0, 1, _X32), (ret, 0, 0, kill)]
    for refused in [*_REFUSED[machine], *_REFUSED_EVERYWHERE]:
        program += [(jump_equal, 0, 1, refused), (ret, 0, 0, refuse)]
    program += [
        # With clone3 unknown, the C library makes threads by clone, whose flags can be looked at.
        (jump_equal, 0, 1, _CLONE3),
        (ret, 0, 0, unknown),
        (jump_equal, 0, 4, _CLONE[machine]),
        (load, 0, 0, argument),
        (jump_set, 1, 0, CLONE_THREAD),
        (ret, 0, 0, refuse),
        (ret, 0, 0, allow),
        (jump_equal, 0, 4, _TGKILL[machine]),
        (load, 0, 0, argument),
        (jump_equal, 1, 0, os.getpid()),
        (ret, 0, 0, refuse),
        (ret, 0, 0, allow),
        (ret, 0, 0, allow),
    ]
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))

    class Filter(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]

    shown = Filter(len(program), ctypes.cast(buffer, ctypes.c_void_p))
    return _libc.prctl(PR_SET_SECCOMP, 2, ctypes.byref(shown), 0, 0) == 0
