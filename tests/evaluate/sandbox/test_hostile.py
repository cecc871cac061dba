import contextlib
import hashlib
import os
import resource
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nanochat.evaluate.sandbox import check_function
from tests.evaluate.sandbox.corpus import TESTS, attack, corpus

WORKERS = 8
MEMORY = 2**27


def check(source, **settings):
    return check_function(source, support="", tests=TESTS, entry_point="solve", **settings)


class Machine:
    """What hostile programs are after: a user's file, process and server, and the traces they could leave."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.home.mkdir()
        self.canary = self.home / "canary"
        self.canary.write_text("do not touch")
        self.victim = subprocess.Popen(["sleep", "600"], start_new_session=True)
        self.server = socket.create_server(("127.0.0.1", 0))
        self.server.setblocking(False)

    def programs(self):
        return corpus(
            canary=self.canary,
            folder=self.home,
            victim=self.victim.pid,
            port=self.server.getsockname()[1],
            tests=Path(__file__).parent,
        )

    def state(self) -> dict[str, object]:
        return {
            "files": [
                (path, info.st_mode, info.st_uid, info.st_size, info.st_mtime_ns, info.st_nlink, os.listxattr(path))
                for path in (self.home, self.canary, Path(os.__file__))
                for info in [path.stat()]
            ],
            "names": [os.listdir(path) for path in (self.home, "/dev/shm")],
            "canary": self.canary.read_text(),
            "library": hashlib.sha256(Path(os.__file__).read_bytes()).hexdigest(),
            "left": [
                path
                for folder in ("/tmp", "/var/tmp", "/dev/shm", "/run", "/usr/lib", os.path.dirname(os.__file__))
                for path in Path(folder).glob("*nanochat-hostile*")
            ],
            "victim": (
                self.victim.poll(),
                Path(f"/proc/{self.victim.pid}/stat").read_text().split()[2],
                os.sched_getaffinity(self.victim.pid),
                os.sched_getscheduler(self.victim.pid),
                os.getpriority(os.PRIO_PROCESS, self.victim.pid),
                resource.prlimit(self.victim.pid, resource.RLIMIT_CPU),
            ),
            "own": (os.getpriority(os.PRIO_PROCESS, 0), resource.getrlimit(resource.RLIMIT_AS), socket.gethostname()),
            "mounts": Path("/proc/self/mounts").read_text(),
            "ipc": [Path(f"/proc/sysvipc/{kind}").read_text().count("\n") for kind in ("shm", "sem", "msg")],
            "processes": supervisors(),
        }

    def close(self) -> None:
        self.victim.kill()
        self.victim.wait()
        self.server.close()


def supervisors(host: int | None = None) -> list[Path]:
    """Processes of sandboxes that a process has started, living or dead."""
    mine = str(host or os.getpid()).encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            arguments = path.read_bytes().split(b"\0")
            if b"-P" in arguments and any(b"inside.supervisor" in each for each in arguments) and mine in arguments:
                found.append(path)
    return found


@pytest.fixture
def machine(tmp_path):
    made = Machine(tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("namespaces", [True, False], ids=["namespaces", "landlock"])
def test_hostile_programs_fail_and_leave_nothing(machine, namespaces):
    programs = machine.programs()
    assert len(programs) >= 60
    before = machine.state()

    def judge(program):
        return check(program.source, timeout_s=program.seconds, memory_bytes=MEMORY, namespaces=namespaces)

    with ThreadPoolExecutor(WORKERS) as pool:
        ended = list(pool.map(judge, programs))
    outcomes = {program.name: outcome for program, outcome in zip(programs, ended)}
    assert {name: outcome for name, outcome in outcomes.items() if outcome.passed} == {}
    reached = {program.name for program in programs if outcomes[program.name].status == "timeout"}
    assert reached >= {program.name for program in programs if program.endless}
    assert all(len(outcome.output) <= 2**16 for outcome in ended)
    assert {outcome.isolation for outcome in ended} == {ended[0].isolation}
    assert machine.state() == before
    with pytest.raises(BlockingIOError):
        machine.server.accept()


@pytest.mark.parametrize("namespaces", [True, False], ids=["namespaces", "landlock"])
def test_an_attack_that_gets_through_would_pass(machine, namespaces):
    assert check(attack("os.getpid()"), namespaces=namespaces).passed
    assert check(attack("raise OSError"), namespaces=namespaces).status == "failed"
