"""The trusted side of the sandbox: start a supervisor, feed it the program, enforce time and output limits.

    host (this process) ── supervisor (child.py) ── program

The supervisor shuts itself and the program in (isolation.py) and judges how the program ended; the program shares
neither memory nor a file descriptor with the host but its capped output. When the host dies, so do the other two.

What this cannot do: tests that run in the interpreter of the tested code can be deceived by it, by a program written
against just this supervisor. Exiting early, faking output, exit codes or exceptions does not pass.
"""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nanochat.errors import NanochatError

Status = Literal["passed", "failed", "exited", "crashed", "timeout", "output"]

OUTPUT_BYTES = 64 * 1024
"""Output after which a program is ended."""
_CHILD = Path(__file__).with_name("child.py")


@dataclass(frozen=True)
class Outcome:
    """How a program ended.

    Attributes:
        status: `passed` (ran to its end), `failed` (an exception, failed assertions among them), `exited` (left before
            its end, with whatever code), `crashed` (by a signal), `timeout`, `output` (wrote too much).
        output: its first 64 KiB of standard output and error.
        isolation: the layers that were in force, such as `namespaces`, `own root`, `seccomp`.
        seconds: wall time, start of the interpreter included.
    """

    status: Status
    output: str
    isolation: tuple[str, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether the program ran to its end."""
        return self.status == "passed"


def run_program(
    code: str, *, timeout_s: float = 10.0, memory_bytes: int = 512 * 2**20, namespaces: bool = True
) -> Outcome:
    """Run an untrusted Python program, with the standard library only, in a fresh interpreter.

    Safe to call from several threads at once.

    Args:
        code: the program; it passes when its last line has been executed, so put the tests at the end.
        timeout_s: wall and CPU time it may take, start included.
        memory_bytes: address space it may use.
        namespaces: use namespaces where the kernel grants them; without, Landlock and seccomp must do.

    Raises:
        NanochatError: if the sandbox itself does not work here; a program is never run without it.
    """
    start = time.monotonic()
    job = json.dumps(
        {"code": code, "cpu_seconds": int(timeout_s) + 1, "memory_bytes": memory_bytes, "namespaces": namespaces}
    )
    with tempfile.TemporaryDirectory(prefix="nanochat-sandbox-") as folder:
        report_read, report_write = os.pipe()
        try:
            process = subprocess.Popen(
                # -P -s -S -B: nothing from the working folder, the user's or the site's packages; no bytecode files.
                [sys.executable, "-P", "-s", "-S", "-B", str(_CHILD), str(report_write), str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env={"PATH": "/usr/bin:/bin", "PYTHONHASHSEED": "0", "LANG": "C.UTF-8", "CUDA_VISIBLE_DEVICES": ""},
                pass_fds=[report_write],
                start_new_session=True,
            )
        except OSError:
            os.close(report_read)
            raise
        finally:
            os.close(report_write)
        try:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(job.encode())
                process.stdin.close()
            output, report, ended = _listen(process, report_read, start + timeout_s)
        finally:
            # The leader is not reaped yet, so the group's number cannot belong to anybody else.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            process.stdout.close()
            os.close(report_read)
    seconds = time.monotonic() - start
    text = output.decode("utf-8", errors="replace")
    lines = [json.loads(line) for line in report.decode().splitlines()]
    isolation = tuple(lines[0]["isolation"]) if lines else ()
    if ended is not None:
        return Outcome(ended, text, isolation, seconds)
    if len(lines) < 2:
        raise NanochatError(
            f"the sandbox could not start a program here (exit code {process.returncode}): {text[-500:].strip()}"
        )
    return Outcome(_status(lines[1]), text, isolation, seconds)


def _listen(
    process: subprocess.Popen[bytes], report_read: int, deadline: float
) -> tuple[bytes, bytes, Literal["timeout", "output"] | None]:
    """Collect output and report until both are closed, or a limit is reached."""
    received = {process.stdout.fileno(): b"", report_read: b""}
    with selectors.DefaultSelector() as selector:
        for descriptor in received:
            selector.register(descriptor, selectors.EVENT_READ)
        while selector.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                return received[process.stdout.fileno()], received[report_read], "timeout"
            for key, _ in selector.select(left):
                data = os.read(key.fd, 1 << 16)
                received[key.fd] += data
                if not data:
                    selector.unregister(key.fd)
                    if key.fd == report_read:  # all is said; a grandchild may hold the output open
                        return received[process.stdout.fileno()], received[report_read], None
            if len(received[process.stdout.fileno()]) > OUTPUT_BYTES:
                return received[process.stdout.fileno()][:OUTPUT_BYTES], received[report_read], "output"
    return received[process.stdout.fileno()], received[report_read], None


def _status(report: dict[str, Any]) -> Status:
    if report["finished"]:
        return "passed"
    if report["signal"] in (signal.SIGXCPU, signal.SIGKILL):
        return "timeout"
    if report["signal"]:
        return "crashed"
    return "failed" if report["exception"] else "exited"
