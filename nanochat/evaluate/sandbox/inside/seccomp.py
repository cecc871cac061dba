"""The filter of system calls: a list of what a computing program needs, everything else is refused.

A list of what is allowed, not of what is refused, so that calls of kernels to come are refused as well. There are no
calls on it for making processes or threads, for signals to others, sockets, shared memory, other processes' memory
and limits, modes, owners and times of files, or for changing namespaces, mounts, users and filters.
"""

import ctypes
import os
import struct

from . import kernel

LAYER = "seccomp"

# Numbers on x86-64 and arm64; None: the machine has no such call.
# fmt: off
ALLOWED = {
    "read": (0, 63), "write": (1, 64), "open": (2, None), "close": (3, 57), "stat": (4, None), "fstat": (5, 80),
    "lstat": (6, None), "poll": (7, None), "lseek": (8, 62), "mmap": (9, 222), "mprotect": (10, 226),
    "munmap": (11, 215), "brk": (12, 214), "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139), "ioctl": (16, 29), "pread64": (17, 67), "pwrite64": (18, 68), "readv": (19, 65),
    "writev": (20, 66), "access": (21, None), "pipe": (22, None), "select": (23, None), "sched_yield": (24, 124),
    "mremap": (25, 216), "msync": (26, 227), "madvise": (28, 233), "dup": (32, 23), "dup2": (33, None),
    "pause": (34, None), "nanosleep": (35, 101), "getitimer": (36, 102), "alarm": (37, None), "setitimer": (38, 103),
    "getpid": (39, 172), "exit": (60, 93), "wait4": (61, 260), "uname": (63, 160), "fcntl": (72, 25),
    "fsync": (74, 82), "fdatasync": (75, 83), "ftruncate": (77, 46), "getdents": (78, None), "getcwd": (79, 17),
    "chdir": (80, 49), "fchdir": (81, 50), "rename": (82, None), "mkdir": (83, None), "rmdir": (84, None),
    "creat": (85, None), "link": (86, None), "unlink": (87, None), "symlink": (88, None), "readlink": (89, None),
    "umask": (95, 166), "gettimeofday": (96, 169), "getrlimit": (97, 163), "getrusage": (98, 165),
    "sysinfo": (99, 179), "times": (100, 153), "getuid": (102, 174), "getgid": (104, 176), "geteuid": (107, 175),
    "getegid": (108, 177), "getppid": (110, 173), "getpgrp": (111, None), "getgroups": (115, 158),
    "getresuid": (118, 148), "getresgid": (120, 150), "rt_sigpending": (127, 136), "rt_sigtimedwait": (128, 137),
    "rt_sigsuspend": (130, 133), "sigaltstack": (131, 132), "statfs": (137, 43), "fstatfs": (138, 44),
    "prctl": (157, 167), "gettid": (186, 178), "time": (201, None), "futex": (202, 98),
    "sched_getaffinity": (204, 123), "getdents64": (217, 61), "set_tid_address": (218, 96),
    "restart_syscall": (219, 128), "clock_gettime": (228, 113), "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115), "exit_group": (231, 94), "tgkill": (234, 131), "waitid": (247, 95),
    "openat": (257, 56), "mkdirat": (258, 34), "newfstatat": (262, 79), "unlinkat": (263, 35), "renameat": (264, 38),
    "linkat": (265, 37), "symlinkat": (266, 36), "readlinkat": (267, 78), "faccessat": (269, 48),
    "pselect6": (270, 72), "ppoll": (271, 73), "set_robust_list": (273, 99), "dup3": (292, 24), "pipe2": (293, 59),
    "preadv": (295, 69), "pwritev": (296, 70), "prlimit64": (302, 261), "getcpu": (309, 168),
    "renameat2": (316, 276), "getrandom": (318, 278), "statx": (332, 291), "rseq": (334, 293),
    "close_range": (436, 436), "faccessat2": (439, 439),
}
# fmt: on
_COLUMN = {"x86_64": 0, "aarch64": 1}
_AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32 = 0x40000000
_NEW_CALLS = 424
"""From this number on both machines count alike; the C library does without these calls where they are unknown."""

_ONLY = {
    # Whether it is a terminal, how wide; bytes that wait, not to wait for them, close on exec or not.
    "ioctl": (1, (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)),
    # Duplicates and flags of descriptors; not their owner and signal, by which a process can signal another.
    "fcntl": (1, (0, 1, 2, 3, 4, 1030)),
    # The thread's name; not the signal at the parent's death, which would be a way to outlive it.
    "prctl": (0, (15, 16)),
    # Limits of the process itself.
    "prlimit64": (0, (0,)),
}
"""Calls whose argument (its place, its values) decides."""

_OPEN_FLAGS = {"open": 1, "openat": 2}
_ACCESS_MODE, _TRUNCATE = 0x3, 0x200

_LOAD, _AND, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
_ALLOW, _KILL, _REFUSE, _UNKNOWN = 0x7FFF0000, 0x80000000, 0x00050000 | 1, 0x00050000 | 38
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_Instruction = tuple[int, int, int, int]


def install() -> bool:
    """Put this process under the filter for good; False where the kernel or the machine does not know it."""
    machine = os.uname().machine
    return machine in _COLUMN and apply(program_for(machine, os.getpid()))


def program_for(machine: str, process: int) -> list[_Instruction]:
    """The filter as instructions of the kernel's packet filter: (operation, jump if true, jump if false, operand).

    Args:
        machine: x86_64 or aarch64.
        process: the number of the process, the only one it may signal.
    """
    program = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, _AUDIT[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
    ]
    if machine == "x86_64":
        program += [(_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _KILL)]
    only = {**_ONLY, "tgkill": (0, (process,))}
    for name, numbers in ALLOWED.items():
        number = numbers[_COLUMN[machine]]
        if number is None:
            continue
        if name in only:
            block = _one_of(*only[name])
        elif name in _OPEN_FLAGS:
            block = _no_truncating_by_readers(_OPEN_FLAGS[name])
        else:
            block = [(_RETURN, 0, 0, _ALLOW)]
        program += [(_EQUAL, 0, len(block), number), *block]
    return [*program, (_AT_LEAST, 0, 1, _NEW_CALLS), (_RETURN, 0, 0, _UNKNOWN), (_RETURN, 0, 0, _REFUSE)]


def _one_of(place: int, values: tuple[int, ...]) -> list[_Instruction]:
    """Allow if an argument has one of the values. Its low half is looked at, which is all that these calls read."""
    block = [(_LOAD, 0, 0, _ARGUMENTS + 8 * place)]
    for value in values:
        block += [(_EQUAL, 0, 1, value), (_RETURN, 0, 0, _ALLOW)]
    return [*block, (_RETURN, 0, 0, _REFUSE)]


def _no_truncating_by_readers(place: int) -> list[_Instruction]:
    """Allow opening, but not to read and to truncate: early Landlock asks for the right to read only."""
    return [
        (_LOAD, 0, 0, _ARGUMENTS + 8 * place),
        (_AND, 0, 0, _ACCESS_MODE | _TRUNCATE),
        (_EQUAL, 0, 1, _TRUNCATE),
        (_RETURN, 0, 0, _REFUSE),
        (_RETURN, 0, 0, _ALLOW),
    ]


def apply(program: list[_Instruction]) -> bool:
    """Put this process, which has given up new privileges, under a filter; False where the kernel knows none."""
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    shown = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(buffer)), 16)
    try:
        kernel.call("prctl", kernel.PR_SET_SECCOMP, 2, shown, 0, 0)
    except OSError:
        return False
    return True
