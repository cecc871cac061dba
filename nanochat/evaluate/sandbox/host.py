"""The trusted side of the sandbox: start a supervisor, feed it program and tests, enforce time and output limits.

The supervisor (inside/supervisor.py) and what it forks share neither memory nor a file descriptor with this process
but the pipes for output, report and leash. When the leash is closed, or this process dies, all of them die.
"""

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nanochat.errors import DataError, NanochatError

Status = Literal["passed", "failed", "exited", "crashed", "timeout", "output"]

OUTPUT_BYTES = 64 * 1024
"""Output after which a program is ended."""
_GRACE_S = 5.0
"""Time the supervisor has to end everything, before its process group is killed."""
_START = "import sys; sys.path.insert(0, sys.argv[1]); from inside.supervisor import main; del sys.path[0]; "
_SYSTEM_LIBRARIES = ("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/usr/local/lib")


@dataclass(frozen=True)
class Outcome:
    """How a program ended.

    Attributes:
        status: `passed` (all tests hold), `failed` (a test does not hold, the program raises, or it answers what is no
            literal), `exited` (left before its end, with whatever code), `crashed` (by a signal), `timeout`, `output`
            (wrote too much).
        output: the first 64 KiB of what program and tests wrote.
        isolation: the layers that were in force, such as `own read-only root`, `landlock`, `seccomp`.
        seconds: wall time, start of the interpreter included.
    """

    status: Status
    output: str
    isolation: tuple[str, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether all tests hold."""
        return self.status == "passed"


def check_function(
    definition: str,
    *,
    support: str,
    tests: str,
    entry_point: str,
    timeout_s: float = 10.0,
    memory_bytes: int = 512 * 2**20,
    namespaces: bool = True,
) -> Outcome:
    """Test an untrusted Python function, with the standard library only.

    The program runs in one process, the tests in another; they exchange literals (None, bool, int, float, complex,
    str, bytes, list, tuple, dict, set, frozenset, of these exact types), so a program can answer rightly or wrongly
    and cannot touch its judge. Safe to call from several threads at once.

    Args:
        definition: source of the untrusted program, which defines the function.
        support: source of trusted helpers that the tests use.
        tests: source of the tests; it defines `check(candidate)`, which raises where the function is wrong.
        entry_point: the function's name.
        timeout_s: wall time all of it may take, start included; processor time of program and tests each.
        memory_bytes: address space that program and tests may use each.
        namespaces: use namespaces where the kernel grants them; without, Landlock and seccomp must do.

    Raises:
        NanochatError: if the sandbox itself does not work here; a program is never run without it.
        DataError: if support and tests do not run, whatever the program.
    """
    if sys.platform != "linux":
        raise NanochatError(
            f"model-written code runs in a sandbox of Linux, and this is {sys.platform}; "
            "take tasks that run code out of the settings"
        )
    start = time.monotonic()
    with contextlib.ExitStack() as stack:
        helpers = support.encode("utf-8", "surrogatepass")
        program = stack.enter_context(_source("program", definition.encode("utf-8", "surrogatepass")))
        checks = stack.enter_context(_source("tests", helpers + tests.encode("utf-8", "surrogatepass")))
        report, write_report = os.pipe()
        stack.callback(os.close, report)
        try:
            process = _start(
                [write_report, program, checks],
                [len(helpers), os.getpid(), int(namespaces), memory_bytes, int(timeout_s) + 1, entry_point],
            )
        finally:
            os.close(write_report)
        with process:
            output, lines, ended = _listen(process, report, start + timeout_s)
    seconds = time.monotonic() - start
    text = output.decode("utf-8", errors="replace")
    said = dict(line.split("\t", 1) for line in lines.decode().splitlines())
    isolation = tuple(said.get("isolation", "").split("\t")) if "isolation" in said else ()
    if ended is not None:
        return Outcome(ended, text, isolation, seconds)
    if "status" not in said:
        raise NanochatError(f"the sandbox does not work here (exit code {process.returncode}): {text[-700:].strip()}")
    if said["status"] == "broken":
        raise DataError(f"the tests of function {entry_point} do not run, whatever the program: {text[-700:].strip()}")
    return Outcome(said["status"], text, isolation, seconds)


def probe(*, namespaces: bool = True) -> tuple[str, ...]:
    """The layers of isolation this machine grants, found out by running a harmless program.

    Raises:
        NanochatError: if they are too few to run a program.
    """
    outcome = check_function(
        "def echo(x):\n    return x\n",
        support="",
        tests="def check(candidate):\n    assert candidate(1) == 1\n",
        entry_point="echo",
        timeout_s=60.0,
        namespaces=namespaces,
    )
    if not outcome.passed:
        raise NanochatError(f"the sandbox runs no harmless program here ({outcome.status}): {outcome.output[-700:]}")
    return outcome.isolation


@contextlib.contextmanager
def _source(name: str, content: bytes) -> Iterator[int]:
    """A file in memory, ready to be read; its descriptor."""
    descriptor = os.memfd_create(name)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


def _start(descriptors: Sequence[int], settings: Sequence[int | str]) -> subprocess.Popen[bytes]:
    """Start the supervisor."""
    # -P -s -S: nothing from the working folder, the user's or the site's packages; -u: output comes at once.
    return subprocess.Popen(
        [sys.executable, "-P", "-s", "-S", "-u", "-c", f"{_START}main(sys.argv[2:])", str(Path(__file__).parent)]
        + [str(each) for each in [*descriptors, *settings]]
        + _readable_folders(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd="/",
        env={"PATH": "/usr/bin:/bin", "PYTHONHASHSEED": "0", "LANG": "C.UTF-8", "CUDA_VISIBLE_DEVICES": ""},
        pass_fds=descriptors,
        start_new_session=True,
    )


def _readable_folders() -> list[str]:
    """What an interpreter loads modules from: the standard library, its extensions, the system's libraries."""
    paths = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), f"{sys.base_prefix}/lib"}
    paths |= set(_SYSTEM_LIBRARIES)
    kept: list[str] = []
    for path in sorted(os.path.abspath(path) for path in paths if os.path.isdir(path)):
        if not any(path.startswith(f"{other}/") for other in kept):
            kept.append(path)
    return kept


def _listen(
    process: subprocess.Popen[bytes], report: int, deadline: float
) -> tuple[bytes, bytes, Literal["timeout", "output"] | None]:
    """Collect output and report until the supervisor has ended, at a limit after letting go of the leash.

    The report is held open by trusted processes only: at its end all that the supervisor has started is dead.
    """
    received = {process.stdout.fileno(): bytearray(), report: bytearray()}
    output = received[process.stdout.fileno()]
    ended: Literal["timeout", "output"] | None = None
    try:
        with selectors.DefaultSelector() as selector:
            for descriptor in received:
                selector.register(descriptor, selectors.EVENT_READ)
            while selector.get_map():
                late = time.monotonic() >= deadline
                if late and ended:
                    break
                if late or (len(output) > OUTPUT_BYTES and not ended):
                    ended = "timeout" if late else "output"
                    process.stdin.close()
                    deadline = time.monotonic() + _GRACE_S
                for key, _ in selector.select(max(0.0, deadline - time.monotonic())):
                    data = os.read(key.fd, 1 << 16)
                    if ended is None or key.fd == report:
                        received[key.fd] += data
                    if not data:
                        selector.unregister(key.fd)
    finally:
        # The leader is not reaped yet, so the group's number cannot belong to anybody else.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    if ended is None and len(output) > OUTPUT_BYTES:
        ended = "output"
    return bytes(output[:OUTPUT_BYTES]), bytes(received[report]), ended
