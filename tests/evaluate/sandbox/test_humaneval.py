import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nanochat.config import TaskEntry
from nanochat.evaluate.sandbox import Outcome, probe
from nanochat.evaluate.tasks import humaneval
from nanochat.evaluate.tasks.humaneval import HumanEval, definition_of, support_of

PROMPT = 'import os\n\ndef helper(x):\n    return x\n\ndef f(x):\n    """Double."""\n'


@pytest.mark.shared
def test_all_reference_solutions_pass_and_all_wrong_ones_fail(shared_hub):
    path = shared_hub / "datasets/openai/openai_humaneval/openai_humaneval/test-00000-of-00001.parquet"
    task = HumanEval("humaneval", TaskEntry(kind="humaneval", metric="generate", licence="MIT"), "test", [path])
    assert len(task) == 164
    assert task.isolation() == ()
    replies = [task.conversation(index)["messages"][-1]["content"] for index in range(164)]
    assert task.rewards(range(164), replies) == [1.0] * 164
    assert task.rewards(range(164), ["    return 'wrong'\n"] * 164) == [0.0] * 164
    assert {"rlimits", "seccomp"} <= set(task.isolation())


def test_a_whole_function_replaces_the_prompts_and_a_part_follows_it():
    whole = "```python\ndef f(x): return 2 * x\n```"
    assert definition_of(PROMPT, whole, "f") == support_of(PROMPT, "f") + "\ndef f(x): return 2 * x\n"
    assert definition_of(PROMPT, "    return 2 * x\n", "f") == PROMPT + "    return 2 * x\n"


def test_support_is_what_stands_before_the_function():
    assert support_of(PROMPT, "f") == "import os\n\ndef helper(x):\n    return x\n\n"
    assert support_of(PROMPT, "g") == PROMPT


def test_a_program_that_was_ended_before_it_began_has_the_layers_of_the_machine(tmp_path, monkeypatch):
    row = {"task_id": "0", "prompt": PROMPT, "canonical_solution": "    return 2 * x\n", "entry_point": "f"}
    pq.write_table(pa.Table.from_pylist([row | {"test": "def check(candidate):\n    pass\n"}]), tmp_path / "rows")
    entry = TaskEntry(kind="humaneval", metric="generate", licence="MIT")
    task = HumanEval("humaneval", entry, "test", [tmp_path / "rows"])
    monkeypatch.setattr(humaneval, "check_function", lambda *_, **__: Outcome("timeout", "", (), 10.0))
    assert task.isolation() == () and task.reward(0, "    return 2 * x\n") == 0.0
    assert task.isolation() == probe()
