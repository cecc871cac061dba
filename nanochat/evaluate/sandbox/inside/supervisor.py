"""The supervisor of one sandboxed function: shuts itself in, forks checker and program, judges how they end.

    host ── supervisor ──┬── checker   the data set's helpers and tests
         (in namespaces  └── program   the model's code; in a process namespace of its own
         of its own)

Checker and program are shut in alike and share nothing but two pipes, one for calls and one for answers. The verdict
goes from the checker to the supervisor through a pipe that the program never had. When the host closes the leash (the
supervisor's standard input) or dies, everything here dies.
"""

import os
import select
import sys
import time

from . import checker, confinement, kernel, namespaces, program

SETUP_FAILED = 3
_GRACE_S = 0.2
"""Time a program that has closed its pipes is given to end, so that how it ended can be told."""
_SIGXCPU = 24


class Job:
    """What the host asks for, on the command line.

    Attributes:
        report: descriptor that the isolation and the end are written to.
        program: descriptor of the program's source.
        tests: descriptor of helpers and tests; the first `support` bytes are the helpers.
        host: the host's process number.
        namespaces: whether to try them.
        limits: bytes of memory and seconds of processor time, of checker and program each.
        entry_point: the function's name.
        readable: folders that modules are loaded from.
    """

    def __init__(self, arguments: list[str]) -> None:
        self.report, self.program, self.tests, self.support, self.host = map(int, arguments[:5])
        self.namespaces = arguments[5] == "1"
        self.limits = int(arguments[6]), int(arguments[7])
        self.entry_point = arguments[8]
        self.readable = arguments[9:]


def main(arguments: list[str]) -> None:
    """Supervise one run. Never returns."""
    sys.dont_write_bytecode = True
    job = Job(arguments)
    kernel.die_with_parent(job.host)
    leash = os.dup(0)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    root = os.getuid() == 0
    layers = namespaces.enter(job.readable) if job.namespaces else []
    kernel.forbid_tracing()
    if layers:
        outside = os.getpid()
        middle = os.fork()
        if middle:
            os.waitpid(middle, 0)
            os._exit(0)
        kernel.die_with_parent(outside)
    _judge(job, layers, root, leash)
    os._exit(0)


def _judge(job: Job, layers: list[str], root: bool, leash: int) -> None:
    """Run both sides and report."""
    for name in [name for name in sys.modules if name == __package__ or name.startswith(f"{__package__}.")]:
        del sys.modules[name]  # nothing the program could import
    here = os.getpid()
    requests, calls = os.pipe()
    results, answers = os.pipe()
    verdicts, verdict = os.pipe()
    # The checker first: neither its tests nor the end of the pipe for its verdict are there when the program is forked.
    tests = os.fork()
    if tests == 0:
        _enter(job, layers, root, here, None, [job.tests, calls, results, verdict])
        source = kernel.read_all(job.tests)
        checker.run(source[: job.support], source[job.support :], job.entry_point, calls, results, verdict)
    for descriptor in (job.tests, calls, results, verdict):
        os.close(descriptor)
    if layers:
        namespaces.enter_inner_processes()
    ready, tell = os.pipe()
    code = os.fork()
    if code == 0:
        scratch = namespaces.SCRATCH if namespaces.ROOT_LAYER in layers else None
        got = _enter(job, layers, root, here, scratch, [job.program, requests, answers, tell])
        os.write(tell, "\t".join(got).encode())
        os.close(tell)
        program.run(kernel.read_all(job.program), job.entry_point, requests, answers)
    for descriptor in (job.program, requests, answers, tell):
        os.close(descriptor)
    got = kernel.read_all(ready)
    word = None
    if got:
        os.write(job.report, b"isolation\t" + got + b"\n")
        word = _await(verdicts, leash)
    status = _status(word, tests, code) if word is not None else None
    for process in (code, tests):
        _kill(process)
    if status is not None:
        os.write(job.report, b"status\t" + status.encode() + b"\n")


def _enter(
    job: Job, layers: list[str], root: bool, parent: int, writable: str | None, descriptors: list[int]
) -> list[str]:
    """Shut a side in, in its process; the layers in force."""
    try:
        kernel.keep_only([0, 1, 2, *descriptors])
        got = confinement.shut_in(
            layers, job.readable, writable, parent=parent, root=root, memory_bytes=job.limits[0], seconds=job.limits[1]
        )
        os.chdir(writable or "/")
        return got
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(SETUP_FAILED)


def _await(verdicts: int, leash: int) -> bytes | None:
    """The checker's word when it has ended; None when the host lets go."""
    waiting = select.poll()
    waiting.register(verdicts, select.POLLIN)
    waiting.register(leash, select.POLLIN)
    word = b""
    while True:
        ready = [descriptor for descriptor, _ in waiting.poll()]
        if leash in ready:
            return None
        part = os.read(verdicts, 64)
        if not part:
            return word
        word += part


def _status(word: bytes, tests: int, code: int) -> str | None:
    """How the run ended; None: the sandbox failed.

    Args:
        word: the checker's verdict.
        tests: the checker's process number.
        code: the program's.
    """
    if word in (checker.PASSED, checker.FAILED, checker.BROKEN):
        return word.decode()
    if word != checker.GONE:
        # Without a word the checker was ended by a limit, through what the program had it count or hold.
        return None if _end_of(tests, os.WEXITED) == SETUP_FAILED else "failed"
    deadline = time.monotonic() + _GRACE_S
    while (end := _end_of(code, os.WEXITED | os.WNOHANG)) is None and time.monotonic() < deadline:
        time.sleep(0.001)
    if end is not None and end < 0:
        return "timeout" if -end in (kernel.SIGKILL, _SIGXCPU) else "crashed"
    return "failed" if end == program.EXCEPTION else "exited"


def _end_of(process: int, options: int) -> int | None:
    """Exit code of a child, its signal with a minus, or None if it runs; the child is not reaped."""
    end = os.waitid(os.P_PID, process, options | os.WNOWAIT)
    if end is None:
        return None
    return end.si_status if end.si_code == os.CLD_EXITED else -end.si_status


def _kill(process: int) -> None:
    """End a child, if it has not ended, and reap it."""
    os.kill(process, kernel.SIGKILL)
    os.waitpid(process, 0)
