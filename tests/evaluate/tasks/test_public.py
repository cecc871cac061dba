"""The tasks on real rows: all of them where the real data is, small files of the same schema elsewhere."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nanochat.config import TaskEntry
from nanochat.data.conversation import render, render_prompt
from nanochat.errors import DataError
from nanochat.evaluate.tasks import load_task
from nanochat.evaluate.tasks.arc import Arc
from nanochat.evaluate.tasks.conversations import Conversations
from nanochat.evaluate.tasks.gsm8k import Gsm8k, final_number, solution_parts
from nanochat.evaluate.tasks.humaneval import HumanEval
from nanochat.evaluate.tasks.mmlu import Mmlu
from nanochat.evaluate.tasks.qa import Qa
from nanochat.evaluate.tasks.smoltalk import SmolTalk


def make(kind, cls, path, rows, metric=None):
    pq.write_table(pa.Table.from_pylist(rows), path)
    return cls(kind, TaskEntry(kind=kind, metric=metric, licence="MIT"), "test", [path])


ARC_ROWS = [
    {
        "id": "a",
        "question": "Which is hot?",
        "choices": {"text": ["ice", "fire", "snow"], "label": ["1", "2", "3"]},
        "answerKey": "2",
    },
    {"id": "b", "question": "Which?", "choices": {"text": list("pqrs"), "label": list("ABCD")}, "answerKey": "D"},
    {"id": "c", "question": "Which?", "choices": {"text": ["p", "q"], "label": ["A", "B"]}, "answerKey": "C"},
]


def test_arc(tmp_path):
    task = make("arc", Arc, tmp_path / "f.parquet", ARC_ROWS, "choice")
    prompt, reply = task.conversation(0)["messages"]
    assert prompt["content"] == "Which is hot?\n- ice=A\n- fire=B\n- snow=C\nAnswer with the letter only."
    assert reply["content"] == task.gold(0) == "B" and task.letters(0) == ("A", "B", "C")
    assert task.gold(1) == "D" and task.key(0) != task.key(1)
    with pytest.raises(DataError, match="c has answerKey 'C'"):
        task.gold(2)


def test_mmlu_also_where_rows_are_wrapped(tmp_path):
    row = {"question": "2+2?", "subject": "sums", "choices": ["3", "4", "5", "6"], "answer": 1}
    for name, rows in (("plain", [row]), ("wrapped", [{"train": row}])):
        task = make("mmlu", Mmlu, tmp_path / name, rows, "choice")
        assert task.gold(0) == "B" and task.group(0) == "sums" and len(task) == 1
        assert "- 4=B" in task.conversation(0)["messages"][0]["content"]


def test_choice_letters_are_one_token_everywhere(tmp_path, tokenizer):
    task = make("arc", Arc, tmp_path / "f.parquet", ARC_ROWS[:2], "choice")
    ids, mask = render(tokenizer, task.conversation(1))
    answer = [token for token, own in zip(ids, mask) if own]
    assert answer == [*tokenizer.encode("D"), tokenizer.special["<|assistant_end|>"]]
    assert answer[0] in render_prompt(tokenizer, task.conversation(1))


def test_gsm8k_solutions_become_tool_calls():
    parts = solution_parts("She sold 48/2 = <<48/2=24>>24 clips.\n#### 24")
    assert [(p["type"], p["text"]) for p in parts] == [
        ("text", "She sold 48/2 = "),
        ("python", "48/2"),
        ("python_output", "24"),
        ("text", "24 clips.\n#### 24"),
    ]


@pytest.mark.parametrize(
    ("text", "number"),
    [("#### 5", 5), ("#### 1 then #### 1,234.50", 1234.5), ("####$-3", -3), ("5", None), ("#### ten", None)],
)
def test_final_number(text, number):
    assert final_number(text) == number


def test_gsm8k_reward(tmp_path):
    task = make("gsm8k", Gsm8k, tmp_path / "f", [{"question": "?", "answer": "x\n#### 1,000"}], "generate")
    assert task.reward(0, "so 1000.\n#### 1000") == 1.0 == task.reward(0, "#### 7 no: #### 1,000.0.")
    assert task.reward(0, "1000") == 0.0 == task.reward(0, "#### 100")
    assert task.rewards([0, 0], ["#### 1000", "no"]) == [1.0, 0.0]


@pytest.mark.shared
def test_all_real_gsm8k_answers_parse(shared_hub):
    seen = 0
    for split in ("train", "test"):
        task = load_task("gsm8k", split, shared_hub)
        for index in range(len(task)):
            reply = task.conversation(index)["messages"][1]["content"]
            text = "".join(part["text"] for part in reply if part["type"] != "python_output")
            assert "<<" not in text and ">>" not in text
            assert task.reward(index, text) == 1.0
            seen += 1
    assert seen == 8792


@pytest.mark.shared
@pytest.mark.parametrize("name", ["arc_easy", "arc_challenge", "mmlu"])
def test_all_real_choice_items_are_well_formed(shared_hub, name):
    task = load_task(name, "test", shared_hub)
    for index in range(0, len(task), 1 + len(task) // 1500):
        assert task.gold(index) in task.letters(index)
        assert len(task.letters(index)) in (3, 4, 5)


HUMANEVAL_ROW = {
    "task_id": "t/0",
    "prompt": 'import math\n\ndef helper(x):\n    return x\n\ndef f(x):\n    """Double."""\n',
    "canonical_solution": "    return 2 * helper(x)\n",
    "test": "def check(candidate):\n    assert candidate(2) == 4\n",
    "entry_point": "f",
}


def test_humaneval(tmp_path):
    task = make("humaneval", HumanEval, tmp_path / "f", [HUMANEVAL_ROW], "generate")
    replies = {
        task.conversation(0)["messages"][1]["content"]: 1.0,
        HUMANEVAL_ROW["canonical_solution"]: 1.0,
        "```python\ndef f(x):\n    return helper(x) + math.floor(x)\n": 1.0,
        "    return x": 0.0,
        "```\ndef f(x): import sys; sys.exit(0)\n```": 0.0,
        "": 0.0,
    }
    assert task.rewards([0] * len(replies), list(replies)) == list(replies.values())


def test_qa_wants_the_answer_and_nothing_else(tmp_path):
    task = make("qa", Qa, tmp_path / "f", [{"question": "Where?", "answer": "Ashford"}], "generate")
    said = [message["content"] for message in task.conversation(0)["messages"]]
    assert said == ["Question: Where?", "Answer: Ashford"]
    assert task.reward(0, said[1]) == task.reward(0, " ashford.") == 1.0
    assert task.reward(0, "Ashford or Oakham") == task.reward(0, "") == 0.0


def test_smoltalk(tmp_path, tokenizer):
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
    messages.append({"role": "assistant", "content": "Hello"})
    task = make("smoltalk", SmolTalk, tmp_path / "f", [{"messages": messages, "source": "x"}])
    assert task.conversation(0)["messages"] == messages and task.key(0) == "Hi"
    assert "Be kind.\n\nHi" in tokenizer.decode(render(tokenizer, task.conversation(0))[0])


def test_identity(tmp_path):
    line = json.dumps([{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Me"}])
    path = tmp_path / "f.jsonl"
    entry = TaskEntry(kind="identity", licence="MIT")
    path.write_text(line + "\n\n" + line + "\n")
    task = Conversations("identity", entry, "train", [path])
    assert len(task) == 2 and task.key(1) == "Who?\nMe" and task.conversation(1)["messages"][1]["content"] == "Me"
    other = tmp_path / "g.jsonl"
    other.write_text(json.dumps({"messages": [{"role": "user", "content": "a\u2028b"}]}, ensure_ascii=False))
    both = Conversations("own", entry, "train", [path, other])
    assert len(both) == 3 and both.key(2) == "a\u2028b"
    with pytest.raises(IndexError):
        both.conversation(3)
    for text, message in (
        ("{", "line 1 is not JSON"),
        ("5", "line 1"),
        ('[{"role": "assistant", "content": "x"}]', "expected 'user'"),
    ):
        path.write_text(text + "\n")
        with pytest.raises(DataError, match=message):
            Conversations("identity", entry, "train", [path])


@pytest.mark.shared
def test_real_identity_conversations(shared_hub):
    task = load_task("identity", "train", shared_hub)
    assert len(task) == 1000 and len({task.key(index) for index in range(1000)}) > 990


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(DataError, match="humaneval has no train split"):
        load_task("humaneval", "train", tmp_path)
    with pytest.raises(DataError, match=r"gsm8k/main/test.*does not exist"):
        load_task("gsm8k", "test", tmp_path)
    path = tmp_path / "f.parquet"
    path.write_bytes(b"PAR1 and then the download broke off")
    with pytest.raises(DataError, match="cannot be read as parquet"):
        Qa("qa", TaskEntry(kind="qa", licence="MIT"), "test", [path])
    with pytest.raises(DataError, match="no column question"):
        make("qa", Qa, path, [{"q": "", "answer": ""}])
