"""Landlock: rules on files, TCP ports and signals that a process sets on itself (Linux 5.13 and later)."""

import ctypes
import os
import struct

from . import kernel

LAYER = "landlock"
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG = 1
_PATH_BENEATH = 1
_READ_FILE, _READ_FOLDER = 1 << 2, 1 << 3
_FIRST_FILE_RIGHTS = (1 << 13) - 1
_LATER_FILE_RIGHTS = {2: 1 << 13, 3: 1 << 14, 5: 1 << 15}
"""By the interface's version: moving files between folders, truncating, controlling devices."""
_TCP_RIGHTS = 0b11
_SCOPES = 0b11
"""Abstract Unix sockets and signals reach processes under the same rules only."""


def restrict(readable: list[str], writable: str | None) -> bool:
    """Have this process read from the readable folders, write to `writable`, and reach nothing else.

    What Landlock never governs (modes, owners and times of files, their metadata, and truncating before version 3)
    seccomp has to refuse.

    Returns:
        Whether the kernel grants it.
    """
    try:
        version = kernel.call("syscall", _CREATE_RULESET, None, 0, _VERSION_FLAG)
    except OSError:
        return False
    everything = _FIRST_FILE_RIGHTS
    for since, right in _LATER_FILE_RIGHTS.items():
        if version >= since:
            everything |= right
    attributes = struct.pack("Q", everything)
    if version >= 4:
        attributes += struct.pack("Q", _TCP_RIGHTS)
    if version >= 6:
        attributes += struct.pack("Q", _SCOPES)
    rules = kernel.call("syscall", _CREATE_RULESET, attributes, len(attributes), 0)
    allowed = [(path, _READ_FILE | _READ_FOLDER) for path in readable]
    if writable is not None:
        allowed.append((writable, everything))
    for path, rights in allowed:
        place = os.open(path, os.O_PATH)
        # Packed without padding: the kernel's structure is 12 bytes long.
        rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, place), 12)
        kernel.call("syscall", _ADD_RULE, rules, _PATH_BENEATH, rule, 0)
        os.close(place)
    kernel.call("syscall", _RESTRICT_SELF, rules, 0)
    os.close(rules)
    return True
