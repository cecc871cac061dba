"""Two checkpoints compared by the records of their evaluations."""

import csv
import json

import pyarrow.parquet as pq
import pytest

from nanochat.artifact import Workspace, verify
from nanochat.config import STAGES, load_catalogue
from nanochat.config.stages import CompareStage
from nanochat.errors import ArtifactError
from nanochat.evaluate.scores import mean_centred, score_records, write_records, write_scores
from nanochat.report import compare
from nanochat.report.evaluations import read_evaluation

CHANCE = {"mmlu": 0.25, "arc_easy": 0.25, "arc_challenge": 0.25}


def checkpoint(folder, run, stage="sft", weights="w"):
    view = STAGES[stage]()
    with Workspace(folder / run / stage, stage, view, {}) as workspace:
        (workspace.final / "model.safetensors").write_text(f"{weights} of {run}")
        workspace.finish()
    return folder / run / stage


def evaluation(folder, run, right, stage="sft", settings=None, more=None):
    """`right`: task → item → whether the answer is right, or (right, samples)."""
    records = {}
    for task, items in right.items():
        records[task] = [
            {
                "item": n,
                "correct": bool(value[0] if isinstance(value, tuple) else value),
                "prompt": f"question {n} of {task}",
                "gold": "A",
                **({"right": value[0], "samples": value[1]} if isinstance(value, tuple) else {}),
                **(more or {}).get((task, n), {}),
            }
            for n, value in items.items()
        ]
    scores = [
        score_records(task, "generate", found, available=300, chance=CHANCE.get(task, 0.0), seconds=1.0)
        for task, found in records.items()
    ]
    kind = "base_eval" if stage == "base" else "chat_eval"
    view = STAGES[kind].model_validate(settings or {})
    out = folder / run / "eval" / stage
    with Workspace(out, kind, view, {"model": folder / run / stage}) as workspace:
        value, error = mean_centred(scores)
        write_scores(workspace.final, scores, {"chat_score": {"value": value, "stderr": error}})
        write_records(workspace.final, records)
        workspace.finish()
    return out


def compared(folder, *, stage="sft", other="sft"):
    return compare.run(
        CompareStage.model_validate({"compare": {"resamples": 2000}}),
        out=folder / "out",
        first=folder / "a" / stage,
        second=folder / "b" / other,
        first_evaluation=folder / "a" / "eval" / stage,
        second_evaluation=folder / "b" / "eval" / other,
    )


def two(tmp_path, first, second, **options):
    for run, right in (("a", first), ("b", second)):
        checkpoint(tmp_path, run)
        evaluation(tmp_path, run, right, **options.get(run, {}))


def test_a_known_difference_is_in_table_plot_and_csv(tmp_path):
    same = {n: n % 2 == 0 for n in range(80)}
    two(
        tmp_path,
        {"gsm8k": {n: n < 40 for n in range(200)}, "facts": same},
        {"gsm8k": {n: n < 100 for n in range(200)}, "facts": same},
    )
    manifest = compared(tmp_path)
    assert verify(tmp_path / "out").digest == manifest.digest
    rows = {row["task"]: row for row in manifest.metrics["rows"]}
    gsm = rows["gsm8k"]
    assert (gsm["first"], gsm["second"], gsm["difference"], gsm["items"]) == (0.2, 0.5, pytest.approx(0.3), 200)
    assert 0.2 < gsm["low"] < 0.3 < gsm["high"] < 0.4 and gsm["p"] < 0.01 and gsm["mcnemar"] < 1e-10
    assert gsm["subset"] is True and rows["facts"]["difference"] == 0 and rows["facts"]["p"] == 1
    mean = rows["mean centred"]
    assert mean["mean"] and mean["difference"] == pytest.approx(0.15) and mean["low"] > 0
    page = (tmp_path / "out/compare.md").read_text()
    line = next(line for line in page.splitlines() if line.startswith("| gsm8k"))
    assert "**+0.300**" in line and "200 of 300" in line
    assert "**mean centred, 2 of 2 tasks over a part of their items**" in page
    assert "| facts" in page and "+0.000 to +0.000" in page
    assert (tmp_path / "out/compare.svg").read_text().lstrip().startswith("<?xml") and "](compare.svg)" in page
    with (tmp_path / "out/compare.csv").open() as file:
        table = {row["task"]: row for row in csv.DictReader(file)}
    assert float(table["gsm8k"]["low"]) == gsm["low"] and table["gsm8k"]["part"] == "200 of 300"


def test_only_common_items_count_and_the_page_says_so(tmp_path):
    two(
        tmp_path,
        {"gsm8k": dict.fromkeys(range(60), True), "facts": dict.fromkeys(range(50), True), "mine": {0: True}},
        {"gsm8k": dict.fromkeys(range(20, 90), True) | {30: False}, "facts": dict.fromkeys(range(50), True)},
        b={
            "more": {("facts", 7): {"prompt": "another question"}},
            "settings": {"chat_eval": {"tasks": {"gsm8k": {"max_new_tokens": 99}, "mine": {"max_items": 3}}}},
        },
        a={"settings": {"chat_eval": {"tasks": {"gsm8k": {"max_new_tokens": 256}}}}},
    )
    manifest = compared(tmp_path)
    rows = {row["task"]: row for row in manifest.metrics["rows"]}
    assert rows["gsm8k"]["items"] == 40 and rows["gsm8k"]["difference"] == pytest.approx(-1 / 40)
    assert rows["facts"]["items"] == 49 and "mine" not in rows
    page = (tmp_path / "out/compare.md").read_text()
    for words in (
        "Only the first evaluation has mine.",
        "gsm8k: the first evaluation has 60 items, the second 70; the 40 they share are compared.",
        "facts: left out because question or answer differ between the two: 1.",
        "`chat_eval.tasks.gsm8k.max_new_tokens` is 256 in the first evaluation, 99 in the second.",
    ):
        assert words in page, words
    assert "mine.max_items" not in page


def test_chat_core_is_over_its_six_tasks(tmp_path):
    six = [name for name, entry in load_catalogue().tasks.items() if entry.in_chat_core]
    half, more = {n: n < 30 for n in range(60)}, {n: n < 42 for n in range(60)}
    two(tmp_path, dict.fromkeys([*six, "facts"], half), dict.fromkeys(six, more) | {"facts": half})
    row = next(row for row in compared(tmp_path).metrics["rows"] if row["mean"])
    assert row["task"] == "ChatCORE" and row["items"] == 360 and row["part"] == "at most 60 items each"
    assert row["difference"] == pytest.approx(0.2 * (3 / 0.75 + 3) / 6)


def test_base_models_are_compared_by_core(tmp_path):
    for run, right in (("a", 30), ("b", 20)):
        checkpoint(tmp_path, run, "base")
        evaluation(tmp_path, run, {"copa": {n: n < right for n in range(60)}}, stage="base")
    row = next(row for row in compared(tmp_path, stage="base", other="base").metrics["rows"] if row["mean"])
    assert (row["task"], row["part"]) == ("CORE", "1 of 22 tasks, at most 60 items each")


def test_samples_are_compared_by_their_shares(tmp_path):
    two(
        tmp_path,
        {"gsm8k": {n: (1, 4) for n in range(40)}},
        {"gsm8k": {n: (n % 4, 4) for n in range(40)}},
    )
    row = compared(tmp_path).metrics["rows"][1]
    assert row["difference"] == pytest.approx(0.125) and row["mcnemar"] is None


def test_what_cannot_be_compared_says_so(tmp_path):
    items = {"gsm8k": {0: True}}
    checkpoint(tmp_path, "a")
    evaluation(tmp_path, "a", items)
    checkpoint(tmp_path, "b", weights="w2")
    evaluation(tmp_path, "b", {"facts": {0: True}})
    with pytest.raises(ArtifactError, match=r"have no items in common \(tasks gsm8k and facts\)"):
        compared(tmp_path)
    checkpoint(tmp_path, "b", weights="others")
    with pytest.raises(ArtifactError, match=r"is an evaluation of another model than .*b/sft holds now"):
        compared(tmp_path)
    checkpoint(tmp_path, "b", "base")
    evaluation(tmp_path, "b", items, stage="base")
    with pytest.raises(ArtifactError, match=r"is a chat_eval, .* a base_eval"):
        compared(tmp_path, other="base")
    assert not (tmp_path / "out").exists()


def test_the_same_weights_twice(tmp_path):
    two(tmp_path, {"gsm8k": {0: True}}, {"gsm8k": {0: True}})
    (tmp_path / "b/sft/model.safetensors").write_text((tmp_path / "a/sft/model.safetensors").read_text())
    (tmp_path / "b/sft/manifest.json").write_text((tmp_path / "a/sft/manifest.json").read_text())
    manifest = json.loads((tmp_path / "b/eval/sft/manifest.json").read_text())
    manifest["inputs"]["model"] = json.loads((tmp_path / "a/eval/sft/manifest.json").read_text())["inputs"]["model"]
    (tmp_path / "b/eval/sft/manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match="hold the same model"):
        compared(tmp_path)


def test_an_evaluation_without_records(tmp_path):
    two(tmp_path, {"gsm8k": {0: True}}, {"gsm8k": {0: True}})
    path = tmp_path / "a/eval/sft/records.parquet"
    pq.write_table(pq.read_table(path).drop(["correct"]), path)
    with pytest.raises(ArtifactError, match=r"scores and records cannot be read \('correct'\)"):
        read_evaluation(path.parent)
    path.unlink()
    with pytest.raises(ArtifactError, match=r"records\.parquet is missing"):
        compared(tmp_path)


def test_an_earlier_result_is_not_taken_for_another_checkpoint(tmp_path):
    two(tmp_path, {"gsm8k": {0: True, 1: False}}, {"gsm8k": {0: True, 1: True}})
    compared(tmp_path)
    checkpoint(tmp_path, "b", weights="trained again")  # its evaluation was not
    with pytest.raises(ArtifactError, match=r"is an evaluation of another model than .*b/sft holds now"):
        compared(tmp_path)


def test_the_same_tasks_with_other_questions(tmp_path):
    two(tmp_path, {"gsm8k": {0: True}}, {"gsm8k": {1: True}})
    with pytest.raises(ArtifactError, match="have gsm8k in common, but no item with the same question"):
        compared(tmp_path)


def test_an_interval_without_width_is_no_certainty(tmp_path):
    wrong = {"gsm8k": dict.fromkeys(range(40), False), "facts": {n: n < 4 for n in range(40)}}
    two(tmp_path, wrong, wrong | {"facts": {n: n < 5 for n in range(40)}})
    notes = compared(tmp_path).metrics["notes"]
    assert [note for note in notes if "no width" in note and note.endswith(": gsm8k.")]
