"""The corpus of hostile programs, as programs for the sandbox."""

import textwrap
from dataclasses import dataclass
from pathlib import Path

import yaml

TESTS = """
def check(candidate):
    assert candidate(2) == 4
    import string  # late, when a program could have put another one in its place
    assert candidate([1]) == [1, 1]
    assert candidate('a') == string.ascii_lowercase[:1] * 2
"""
_TOOLS = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
def call(x86, arm, *arguments):
    number = arm if os.uname().machine == 'aarch64' else x86
    given = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    result = libc.syscall(ctypes.c_long(number), *given)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
def solve(x):
{attack}
    return x * 2
"""


@dataclass(frozen=True)
class Program:
    """A hostile program.

    Attributes:
        name: group and name.
        source: what is to be contained.
        seconds: its limit; only programs of groups with a limit of their own need to reach it.
        endless: whether they do.
    """

    name: str
    source: str
    seconds: float
    endless: bool


def attack(lines: str) -> str:
    """A program that does something and then answers rightly."""
    return _TOOLS.format(attack=textwrap.indent(lines, "    "))


def corpus(**places: object) -> list[Program]:
    """All programs, with their placeholders filled."""
    programs = []
    for file in ("hostile.yaml", "deceptive.yaml"):
        for group, entry in yaml.safe_load(Path(__file__).with_name(file).read_text()).items():
            for name, code in entry["programs"].items():
                for place, value in places.items():
                    code = code.replace(f"@{place.upper()}@", str(value))
                source = attack(code) if entry["kind"] == "attack" else entry.get("prelude", "") + code
                programs.append(Program(f"{group}: {name}", source, entry.get("seconds", 20.0), "seconds" in entry))
    return programs
