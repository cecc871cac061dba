import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nanochat.errors import DataError
from nanochat.evaluate.sandbox import check_function, probe
from tests.evaluate.sandbox.test_hostile import supervisors

DOUBLES = "def check(candidate):\n    assert candidate(2) == 4\n"


def check(definition, tests=DOUBLES, support="", **settings):
    return check_function(definition, support=support, tests=tests, entry_point="f", **settings)


def asserting(*expressions):
    return "def check(candidate):\n" + "".join(f"    assert {each}\n" for each in expressions)


def test_verdicts():
    outcome = check("def f(x): return 2 * x")
    assert outcome.passed and outcome.status == "passed" and outcome.output == ""
    assert check("def f(x): return x").status == "failed"
    assert check("def f(x): raise ValueError(x)").status == "failed"
    assert check("raise SystemExit").status == "exited"
    assert check("def f(x): import ctypes; ctypes.string_at(0)").status == "crashed"
    assert check("def f(x):\n    while True: pass", timeout_s=0.5).status == "timeout"
    flood = check("def f(x): print('x' * 10**6)")
    assert flood.status == "output" and flood.output == "x" * 2**16


@pytest.mark.parametrize("namespaces", [True, False])
def test_what_a_program_may_do(namespaces):
    definition = (
        "from __future__ import annotations\n"
        "import collections, ctypes, dataclasses, datetime, decimal, hashlib, heapq, itertools, json, math, re\n"
        "@dataclasses.dataclass\nclass Pair:\n    a: int\n    b: int\n"
        "if __name__ == '__main__':\n    raise RuntimeError('this is no script')\n"
        "def f(x):\n"
        "    print('called with', x)\n"
        "    return Pair(x, x).a + len(hashlib.sha256(b'').digest()) // 16\n"
    )
    outcome = check(definition, namespaces=namespaces)
    assert (outcome.status, outcome.output) == ("passed", "called with 2\n")


def test_the_scratch_folder_is_there_for_files_and_gone_afterwards():
    definition = "def f(x):\n    open('note', 'w').write('4')\n    return int(open('note').read())\n"
    outcome = check(definition)
    assert outcome.passed == ("own read-only root" in outcome.isolation)
    assert not Path("note").exists()


def test_programs_see_nothing_of_this_process(monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "abc")
    outcome = check("import os, sys\nprint(dict(os.environ), sys.argv, sys.path)\nimport pytest")
    assert outcome.status == "failed" and "No module named 'pytest'" in outcome.output
    assert "PATH" in outcome.output and "SECRET_TOKEN" not in outcome.output
    assert check("import inside").status == check("import nanochat").status == "failed"


def test_values_arrive_as_they_left():
    values = [None, True, -(10**30), 1.5, float("inf"), -0.0, 2j, "ä\ud800", b"\0", [1, [2]], (3, ()), {1: {"a": [2]}}]
    values += [{1, 2}, frozenset({(1, 2)}), ""]
    echo = "def f(x, *, key=None): return [type(x).__name__, x, key]"
    lines = [
        f"repr(candidate({source}, key=1)) == repr([type({source}).__name__, {source}, 1])"
        for source in (repr(each).replace("inf", "float('inf')") for each in values)
    ]
    assert check(echo, asserting(*lines, "candidate(float('nan'))[1] != candidate(1)[1]")).passed


def test_dicts_of_the_standard_library_are_dicts():
    for made in ("Counter({'a': 2})", "OrderedDict(a=2)", "defaultdict(int, a=2)"):
        definition = f"from collections import *\ndef f(x): return {made}"
        assert check(definition, asserting("candidate(1) == {'a': 2}")).passed
        assert not check(definition, asserting("candidate(1) == {'a': 3}")).passed


def test_tests_may_expect_exceptions():
    tests = "def check(candidate):\n    try:\n        candidate(1)\n    except {}:\n        return\n    assert False\n"
    raises = "class Own(Exception): pass\ndef f(x): raise {}"
    assert check(raises.format("ValueError(x)"), tests.format("ValueError")).passed
    assert check(raises.format("UnicodeDecodeError('utf-8', b'', 0, 1, '')"), tests.format("Exception")).passed
    assert check(raises.format("Own"), tests.format("Exception")).passed
    assert check(raises.format("Own"), tests.format("ValueError")).status == "failed"
    assert check("def f(x): raise SystemExit", tests.format("BaseException")).status == "exited"
    assert check("def f(x): return object()", tests.format("BaseException")).status == "failed"


def test_helpers_are_the_data_sets_own():
    tests = asserting("candidate(helper(2)) == 3")
    program = "def helper(x): return 0\ndef f(x): return x"
    assert check(program, tests, support="def helper(x): return x + 1").passed
    assert not check(program, tests, support="def helper(x): return x + 2").passed


def test_tests_that_draw_are_the_same_in_every_run():
    tests = "def check(candidate):\n    import random\n    for _ in range(9): candidate(random.randrange(10**9))\n"
    outputs = {check("import random\ndef f(x): print(x, random.random())", tests).output for _ in range(2)}
    assert len(outputs) == 1 and len(outputs.pop().splitlines()) == 9


def test_tests_that_call_nothing_still_need_the_program():
    assert check("def f(x): pass", "def check(candidate): pass").passed
    assert check("def g(x): pass", "def check(candidate): pass").status == "failed"
    assert check("raise SystemExit", "def check(candidate): pass").status == "exited"


@pytest.mark.parametrize("tests", ["def check(", "x = 1", "1 / 0", "def check(candidate): candidate(check)"])
def test_tests_that_cannot_run_are_an_error(tests):
    with pytest.raises(DataError, match="tests of function f do not run"):
        check("def f(x): return x", tests)


def test_no_program_can_make_its_tests_an_error():
    tests = "def check(candidate):\n    assert candidate([candidate(1)]) == [1]\n"
    nested = "def f(x):\n    for _ in range(99): x = [x]\n    return x"
    assert check(nested, tests).status == "failed"


def test_a_long_program():
    assert check("x = 1\n" * 100_000 + "def f(x): return 2 * x").passed


def test_probe():
    layers = probe()
    assert {"rlimits", "seccomp"} <= set(layers) and {"own read-only root", "landlock"} & set(layers)
    assert "own read-only root" not in probe(namespaces=False)


@pytest.mark.parametrize("namespaces", [True, False])
def test_a_killed_host_leaves_no_process(namespaces):
    code = (
        "from nanochat.evaluate.sandbox import check_function\n"
        "check_function('def f(x):\\n    while True: pass', support='', tests='def check(c): c(1)', entry_point='f',"
        f" timeout_s=100, namespaces={namespaces})"
    )
    host = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[3])
    try:
        _until(lambda: len(supervisors(host.pid)) >= 3)
    finally:
        host.send_signal(signal.SIGKILL)
        host.wait()
    _until(lambda: not supervisors(host.pid))


def _until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        with contextlib.suppress(InterruptedError):
            os.sched_yield()
