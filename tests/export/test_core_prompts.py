"""Prompts and task files for lm-evaluation-harness; what it makes of them is in test_lm_eval.py."""

import json

import pytest
import yaml

from nanochat.config.stages import EmptyStage
from nanochat.errors import DataError
from nanochat.evaluate.core import read_bundle, texts_of
from nanochat.export.core_prompts import run
from tests.evaluate.test_core import write_bundle
from tests.export.conftest import checkpoint
from tests.infer.fixtures import make_model, make_tokenizer


@pytest.fixture
def bundle(tmp_path):
    return write_bundle(tmp_path / "bundle")


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_prompts_are_what_the_evaluation_asks(bundle, tmp_path):
    out = tmp_path / "prompts"
    assert run(bundle=bundle, out=out) == ["core_homes", "core_who", "core_cloze"]
    for task in read_bundle(bundle):
        rows = lines(out / f"{task.label}.jsonl")
        assert [row["item"] for row in rows] == list(range(len(task.items)))
        for row in rows:
            contexts = row.get("contexts", [row.get("context")])
            endings = row.get("choices", [row.get("continuation")])
            texts = [(context, ending) for context in contexts for ending in endings]
            assert texts == texts_of(task, row["item"])
            assert row.get("gold") == task.items[row["item"]].get("gold")
            assert texts[0][0].count("\n\n") == task.shots


def test_task_files_name_fields_and_add_nothing(bundle, tmp_path):
    out = tmp_path / "prompts"
    run(bundle=bundle, out=out)
    for label in ("homes", "who", "cloze"):
        task = yaml.safe_load((out / f"{label}.yaml").read_text())
        assert task["task"] == f"core_{label}"
        assert (task["dataset_path"], task["num_fewshot"], task["target_delimiter"]) == ("json", 0, "")
        rows = lines(out / f"{label}.jsonl")
        assert {task[key] for key in task if key.startswith("doc_to")} <= set(rows[0])
        assert task["dataset_kwargs"]["data_files"]["test"] == str(out / f"{label}.jsonl")


def test_some_tasks_and_items_with_their_lengths(bundle, tmp_path):
    tokenizer, out = make_tokenizer(), tmp_path / "prompts"
    checkpoint(tmp_path / "base", "base", make_model(512, context=48), tokenizer, EmptyStage(), {})
    assert run(bundle=bundle, out=out, tasks=["cloze"], max_items=5, model=tmp_path / "base") == ["core_cloze"]
    assert sorted(path.name for path in out.iterdir()) == ["cloze.jsonl", "cloze.yaml"]
    rows = lines(out / "cloze.jsonl")
    assert len(rows) == 5
    for row in rows:
        assert row["tokens"] == [1 + len(tokenizer.encode(row["context"] + row["continuation"]))]
        assert row["truncated"] == (row["tokens"][0] > 48)
    with pytest.raises(DataError, match="nothing_like_it"):
        run(bundle=bundle, out=out, tasks=["nothing_like_it"])
