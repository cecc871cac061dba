import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nanochat.config import TaskEntry
from nanochat.evaluate.sandbox import run_program
from nanochat.evaluate.tasks.humaneval import HumanEval

HOSTILE = {
    "early exit": "import sys\nsys.exit(0)\nassert False",
    "hard exit": "import os\nos._exit(0)",
    "exit in a finally": "try:\n    assert False\nfinally:\n    raise SystemExit(0)",
    "fake exit code": "import os\nos._exit(70)",
    "own signal": "import os, signal\nos.abort()",
    "fork bomb": "import os\nwhile True:\n    os.fork()",
    "thread bomb": "import threading, time\nwhile True:\n    threading.Thread(target=time.sleep, args=(99,)).start()",
    "memory bomb": "x = []\nwhile True:\n    x.append(bytearray(2**24))",
    "disk filler": "i = 0\nwhile True:\n    i += 1\n    open(str(i), 'wb').write(b'x' * 2**24)",
    "flood": "while True:\n    print('x' * 10000)",
    "sleep": "import time\ntime.sleep(60)",
    "endless C loop": "sum(range(10**15))",
    "deaf to signals": "import signal\nfor n in range(1, 30):\n    try: signal.signal(n, signal.SIG_IGN)\n"
    "    except (OSError, ValueError): pass\nwhile True: pass",
    "socket": "import socket\nsocket.create_connection(('127.0.0.1', 22), 1)",
    "unix socket": "import socket\nsocket.socketpair()",
    "shell": "import subprocess\nsubprocess.run(['/bin/true'], check=True)",
    "os.system": "import os\nassert os.system('true') == 0",
    "kill the parent": "import os\nos.kill(os.getppid(), 9)",
    "kill everybody": "import os\nos.kill(-1, 9)",
    "new session": "import os\nos.setsid()",
    "passwd": "assert open('/etc/passwd').read()",
    "home": f"assert open({__file__!r}).read()",
    "write outside": "open('/usr/lib/x', 'w')",
    "write to the source": "import os\nopen(os.__file__, 'a').write('x')",
    "own threads by clone": "import ctypes\nassert ctypes.CDLL(None).fork() >= 0",
    "mount": "import ctypes\nassert ctypes.CDLL(None).mount(None, b'/', None, 1 << 18, None) == 0",
    "unshare": "import ctypes\nassert ctypes.CDLL(None).unshare(0x10000000) == 0",
    "raise limits": "import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
    "raised base": "class E(BaseException): pass\nraise E",
    "segfault": "import ctypes\nctypes.string_at(0)",
    "patched exit": "import os, sys, builtins\nos._exit = lambda *a: None\nbuiltins.exec = print\nassert False",
    "recursion": "def f(): f()\nf()",
    "not Python": "def f(:",
}


@pytest.mark.parametrize("namespaces", [True, False], ids=["namespaces", "landlock"])
def test_hostile_programs_fail_and_leave_nothing(tmp_path, monkeypatch, namespaces):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    names = list(HOSTILE) if namespaces else [name for name in HOSTILE if name != "disk filler"]
    start = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        outcomes = pool.map(lambda name: run_program(HOSTILE[name], timeout_s=1.5, namespaces=namespaces), names)
        verdicts = {name: outcome for name, outcome in zip(names, outcomes)}
    assert {name: o.status for name, o in verdicts.items() if o.passed} == {}
    assert all(len(outcome.output) <= 2**16 for outcome in verdicts.values())
    assert time.monotonic() - start < 30
    assert list(tmp_path.iterdir()) == []
    assert not _programs_left()


def _programs_left():
    return [
        path
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if _read(path).split(b"\0")[-2:-1] == [str(os.getpid()).encode()] and b"child.py" in _read(path)
    ]


def _read(path):
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_verdicts():
    assert run_program("print('fine')").status == "passed"
    assert run_program("assert 1 == 2").status == "failed"
    assert run_program("raise SystemExit").status == "exited"
    assert run_program("while True: pass", timeout_s=1).status == "timeout"
    assert run_program("print('x' * 10**6)").status == "output"
    assert run_program("import ctypes; ctypes.string_at(0)").status == "crashed"


def test_what_a_program_may_do():
    code = (
        "import math, re, hashlib, itertools, threading\n"
        "open('note', 'w').write('x'); assert open('note').read() == 'x'\n"
        "t = threading.Thread(target=print, args=('thread',)); t.start(); t.join()\n"
    )
    outcome = run_program(code)
    assert outcome.passed and outcome.output == "thread\n"
    assert "rlimits" in outcome.isolation and len(outcome.isolation) >= 2
    assert not Path("note").exists()


def test_programs_see_nothing_of_this_process(monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "abc")
    outcome = run_program("import os, sys\nprint(dict(os.environ), sys.path)\nimport pytest")
    assert outcome.status == "failed" and "SECRET_TOKEN" not in outcome.output


def test_a_long_program_and_a_thread_of_its_own():
    found = []
    thread = threading.Thread(target=lambda: found.append(run_program("x = 1\n" * 100_000)))
    thread.start()
    thread.join()
    assert found[0].passed


@pytest.mark.shared
def test_humaneval_solutions_pass_and_wrong_ones_fail(shared_hub):
    path = shared_hub / "datasets/openai/openai_humaneval/openai_humaneval/test-00000-of-00001.parquet"
    task = HumanEval("humaneval", TaskEntry(kind="humaneval", metric="generate", licence="MIT"), "test", [path])
    assert len(task) == 164
    indices = list(range(164))
    replies = [task.conversation(index)["messages"][-1]["content"] for index in indices]
    assert task.rewards(indices, replies) == [1.0] * 164
    wrong = list(range(0, 164, 8))
    assert task.rewards(wrong, ["    return 'wrong'\n"] * len(wrong)) == [0.0] * len(wrong)
