"""What is done where the kernel grants less: a filter of system calls plays such a kernel."""

import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from nanochat.evaluate.sandbox.inside import confinement, landlock, namespaces, seccomp

REPOSITORY = Path(__file__).parents[3]
HEADERS = {"x86_64": "/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "aarch64": "/usr/include/asm-generic/unistd.h"}
UNSHARE, MOUNT = ((272, 165), (97, 40))[platform.machine() == "aarch64"]
LANDLOCK = 444
_OLD_KERNEL = """
import json, sys
from nanochat.errors import NanochatError
from nanochat.evaluate.sandbox import probe
from nanochat.evaluate.sandbox.inside import kernel, seccomp
program = [(0x20, 0, 0, 0)]
for number, error in json.loads(sys.argv[1]):
    program += [(0x15, 0, 1, number), (0x06, 0, 0, 0x00050000 | error)]
kernel.call("prctl", kernel.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
assert seccomp.apply([*program, (0x06, 0, 0, 0x7FFF0000)])
try:
    print(json.dumps(probe()))
except NanochatError as error:
    print(json.dumps(str(error)))
"""


def on_a_kernel_without(*refused: tuple[int, int]):
    done = subprocess.run(
        [sys.executable, "-c", _OLD_KERNEL, json.dumps(refused)], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_without_namespaces_landlock_and_the_filter_do():
    assert on_a_kernel_without((UNSHARE, 1)) == ["rlimits", "landlock", "seccomp"]


def test_without_mounts_landlock_guards_the_files():
    """As on Ubuntu, which makes user namespaces and takes their capabilities away."""
    layers = on_a_kernel_without((MOUNT, 13))
    assert layers in ([namespaces.LAYER, "rlimits", "landlock", "seccomp"], ["rlimits", "landlock", "seccomp"])


def test_without_landlock_the_own_root_does():
    if namespaces.ROOT_LAYER not in on_a_kernel_without():
        pytest.skip("this kernel grants no own root")
    layers = on_a_kernel_without((LANDLOCK, 38))
    assert layers == [namespaces.LAYER, namespaces.ROOT_LAYER, "rlimits", "seccomp"]


def test_where_files_cannot_be_guarded_nothing_runs():
    message = on_a_kernel_without((UNSHARE, 1), (LANDLOCK, 38))
    assert "grants rlimits, seccomp only, which leaves the user's files open" in message


ALL = [namespaces.LAYER, namespaces.ROOT_LAYER, confinement.LAYER, landlock.LAYER, seccomp.LAYER]


@pytest.mark.parametrize(
    ("missing", "root", "lacking"),
    [
        ([], True, ""),
        ([namespaces.ROOT_LAYER], True, ""),
        ([landlock.LAYER], True, ""),
        ([namespaces.LAYER, namespaces.ROOT_LAYER], True, ""),
        ([seccomp.LAYER], False, ""),
        ([seccomp.LAYER], True, "the number of processes"),
        ([namespaces.ROOT_LAYER, landlock.LAYER], False, "the user's files"),
        ([namespaces.ROOT_LAYER, seccomp.LAYER], False, "modes and owners of files"),
        (
            [namespaces.LAYER, namespaces.ROOT_LAYER, seccomp.LAYER],
            False,
            "the network and the user's processes, modes and owners of files",
        ),
    ],
)
def test_what_is_left_unprotected(missing, root, lacking):
    assert confinement.unprotected([layer for layer in ALL if layer not in missing], root=root) == lacking


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_numbers_of_system_calls_are_the_kernels(machine):
    header = Path(HEADERS[machine])
    if not header.exists():
        pytest.skip(f"no {header} (Debian's package linux-libc-dev)")
    pattern = re.compile(r"^#define __NR(?:3264)?_(\w+)\s+(\d+)$", re.MULTILINE)
    numbers = {name: int(number) for name, number in pattern.findall(header.read_text())}
    numbers.setdefault("newfstatat", numbers.get("fstatat"))
    column = ("x86_64", "aarch64").index(machine)
    assert {name: numbers.get(name) for name in seccomp.ALLOWED} == {
        name: both[column] for name, both in seccomp.ALLOWED.items()
    }
    others = {"pivot_root": namespaces._PIVOT_ROOT[machine], "mount_setattr": 442, "landlock_create_ruleset": 444}
    assert {name: numbers[name] for name in others} == others


def verdict(program, architecture, number, *arguments):
    """What the kernel's machine makes of a filter."""
    data = {0: number, 4: architecture} | {16 + 8 * place: value for place, value in enumerate(arguments)}
    held, at = 0, 0
    while True:
        operation, true, false, operand = program[at]
        at += 1
        if operation == 0x20:
            held = data.get(operand, 0)
        elif operation == 0x54:
            held &= operand
        elif operation == 0x06:
            return {0x7FFF0000: "allow", 0x80000000: "kill"}.get(operand, operand & 0xFFFF)
        else:
            at += true if (held == operand if operation == 0x15 else held >= operand) else false


@pytest.mark.parametrize(("machine", "architecture"), [("x86_64", 0xC000003E), ("aarch64", 0xC00000B7)])
def test_the_filter_of_both_machines(machine, architecture):
    program = seccomp.program_for(machine, 77)
    column = ("x86_64", "aarch64").index(machine)
    numbers = {name: both[column] for name, both in seccomp.ALLOWED.items() if both[column] is not None}

    def judge(name, *arguments):
        return verdict(program, architecture, numbers[name], *arguments)

    checked = {"ioctl", "fcntl", "prctl", "prlimit64", "tgkill", "open", "openat"}
    assert {judge(name) for name in numbers.keys() - checked} == {"allow"}
    assert {verdict(program, architecture, n) for n in range(424) if n not in numbers.values()} == {1}
    assert {verdict(program, architecture, n) for n in range(424, 600) if n not in numbers.values()} == {38}
    assert verdict(program, 0x40000003, numbers["read"]) == "kill"
    assert (judge("tgkill", 77), judge("tgkill", 78)) == ("allow", 1)
    assert (judge("prlimit64", 0), judge("prlimit64", 1)) == ("allow", 1)
    assert (judge("prctl", 15), judge("prctl", 1), judge("prctl", 22)) == ("allow", 1, 1)
    assert (judge("fcntl", 3, 1030), judge("fcntl", 3, 8), judge("fcntl", 3, 10)) == ("allow", 1, 1)
    assert (judge("ioctl", 0, 0x5401), judge("ioctl", 0, 0x5412)) == ("allow", 1)
    for mode, expected in [(0, "allow"), (os.O_TRUNC, 1), (os.O_TRUNC | os.O_WRONLY, "allow")]:
        assert judge("openat", -100, 0, mode) == expected
    if machine == "x86_64":
        assert verdict(program, architecture, 0x40000000) == "kill"
        assert judge("open", 0, os.O_TRUNC) == 1
