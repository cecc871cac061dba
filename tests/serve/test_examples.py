"""Examples come from what a checkpoint shows of itself, and from nowhere else."""

import pytest

from nanochat.infer.checkpoint import load_checkpoint
from nanochat.serve.examples import examples
from nanochat.train.samples import answers, continuations


def turns(*contents):
    return {"messages": [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(contents)]}


@pytest.fixture
def loaded(chat_run):
    return load_checkpoint(chat_run / "sft")


def test_they_are_one_short_question_of_each_task(loaded, tmp_path):
    tasks = [
        ("sums", turns("What is 12 + 30?")),
        ("sums", turns("What is 1 + 1?")),
        ("choice", turns("Which?\n- A\n- B")),
        ("long", turns("x" * 200)),
        ("talk", turns("Hi.", "Hello.", "Who are you?")),
        ("markup", turns("Write <b>HTML</b>.")),
    ]
    (tmp_path / "samples.md").write_text(answers(loaded.model, loaded.tokenizer, tasks, max_tokens=4))
    assert examples(tmp_path) == ["What is 12 + 30?", "Write <b>HTML</b>."]


def test_a_base_model_is_given_beginnings(loaded, tmp_path):
    prompts = ["Once upon a time", "In Kingsley there is a small house,", "Once upon a time"]
    (tmp_path / "samples.md").write_text(continuations(loaded.model, loaded.tokenizer, prompts, max_tokens=4))
    assert examples(tmp_path) == prompts[:2]


def test_rl_may_also_be_asked_what_it_learned_before(tmp_path):
    for stage, task, question in (("sft", "talk", "Who are you?"), ("rl", "sums", "What is 1 + 1?")):
        (tmp_path / stage).mkdir()
        (tmp_path / stage / "samples.md").write_text(f"# Samples\n\n**{task}**\n\n> {question}\n\n> Well.\n")
    assert examples(tmp_path / "rl") == ["Who are you?", "What is 1 + 1?"]
    assert examples(tmp_path / "sft") == ["Who are you?"]


def test_without_samples_there_are_none(tmp_path):
    assert examples(tmp_path) == []
    (tmp_path / "samples.md").write_bytes(b"\xff\xfe**\n> nothing")
    assert examples(tmp_path) == []
