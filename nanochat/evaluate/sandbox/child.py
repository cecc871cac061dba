"""The supervisor of one sandboxed program; started by host.py as a script, with the standard library only.

Reads the job from standard input, shuts itself in, forks the program, and writes two lines to the report descriptor:
the isolation in force, and how the program ended.
"""

import contextlib
import fcntl
import json
import os
import random
import resource
import signal
import sys
import traceback
from types import ModuleType

EXCEPTION, EXIT = 70, 71
"""Exit codes of a program that ended by an exception and by SystemExit; a program may well fake these failures."""
FILE_BYTES = 8 * 2**20
OPEN_FILES = 64
THREADS = 32


def main() -> None:
    """Supervise."""
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import isolation

    del sys.path[0], sys.modules["isolation"]
    report = int(sys.argv[1])
    job = json.loads(sys.stdin.buffer.read())
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    isolation.die_with_parent(int(sys.argv[2]))
    layers = isolation.enter_namespaces(os.getcwd()) if job["namespaces"] else []
    # Random numbers to be read and sent back by the program's interpreter when the program has come to its end, over
    # descriptors of random numbers. While the program runs they are nowhere in its memory.
    challenge_read, challenge_write = os.pipe()
    answer_read, answer_write = os.pipe()
    challenge = os.urandom(32)
    os.write(challenge_write, challenge)
    os.close(challenge_write)
    sys.stdout.flush()
    supervisor = os.getpid()
    program = os.fork()
    if program == 0:
        os.close(answer_read)
        _run(job, isolation, layers, supervisor, report, challenge_read, answer_write)
    os.close(answer_write)
    os.close(challenge_read)
    _, status = os.waitpid(program, 0)
    answer = b""
    with contextlib.suppress(OSError):
        os.set_blocking(answer_read, False)
        answer = os.read(answer_read, 64)
    code = os.waitstatus_to_exitcode(status)
    end = {
        "finished": answer == challenge and code == 0,
        "signal": -code if code < 0 else 0,
        "exception": code == EXCEPTION,
    }
    os.write(report, (json.dumps(end) + "\n").encode())


def _run(
    job: dict, isolation: ModuleType, layers: list[str], supervisor: int, report: int, challenge: int, answer: int
) -> None:
    """In the forked process: the last layers, then the program. Never returns."""
    try:
        isolation.die_with_parent(supervisor)
        start = random.SystemRandom().randrange(200, 900)
        read_at = fcntl.fcntl(challenge, fcntl.F_DUPFD, start)
        write_at = fcntl.fcntl(answer, fcntl.F_DUPFD, start + 50)
        os.close(challenge)
        os.close(answer)
        limits = {
            resource.RLIMIT_AS: job["memory_bytes"],
            resource.RLIMIT_DATA: job["memory_bytes"],
            resource.RLIMIT_CPU: job["cpu_seconds"],
            resource.RLIMIT_FSIZE: FILE_BYTES,
            resource.RLIMIT_NOFILE: OPEN_FILES,
            resource.RLIMIT_CORE: 0,
            # In a user namespace the count begins at zero; outside it includes all of the user's processes.
            resource.RLIMIT_NPROC: THREADS if layers else 1,
        }
        for kind, limit in limits.items():
            hard = resource.getrlimit(kind)[1]
            value = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
            resource.setrlimit(kind, (value, value))
        layers = [*layers, "rlimits", *isolation.lock_down(os.getcwd())]
        if "seccomp" not in layers or not {"own read-only root", "landlock"} & set(layers):
            raise RuntimeError(
                f"this kernel grants {', '.join(layers)} only, which does not keep a program from the user's files; "
                "take tasks that run code out of chat_eval.tasks, or allow Landlock and seccomp"
            )
        os.write(report, (json.dumps({"isolation": layers}) + "\n").encode())
        os.close(report)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    finish, exit_now, read, write = _end, os._exit, os.read, os.write
    code = EXCEPTION
    try:
        exec(compile(job["code"], "program.py", "exec"), {"__name__": "__main__", "__builtins__": __builtins__})
        code = 0
    except SystemExit:
        code = EXIT
    except BaseException:
        with contextlib.suppress(BaseException):
            traceback.print_exc(limit=-5)
    finish(code, exit_now, read, write, read_at, write_at)


def _end(code, exit_now, read, write, read_at, write_at) -> None:  # noqa: ANN001
    """Answer the challenge if the program came to its end. The functions were taken before it could replace them."""
    with contextlib.suppress(BaseException):
        sys.stdout.flush()
        sys.stderr.flush()
    if code == 0:
        write(write_at, read(read_at, 64))
    exit_now(code)


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    main()
