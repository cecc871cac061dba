"""A score over a part of the items, or a mean over a part of the tasks, says so wherever the report shows it."""

import json
import re

import pytest

from nanochat.artifact import Workspace
from nanochat.config import STAGES
from nanochat.evaluate.core_tasks import CORE_TASKS, core_extent
from nanochat.evaluate.scores import extent, mean_summary, score_records, write_records, write_scores
from nanochat.report import score_tables, summary
from nanochat.report.collect import collect
from nanochat.report.scores import headlines, stage_scores
from tests.report.test_report import links, write

SUBJECTS = {"algebra": "STEM", "physics": "STEM", "law": "humanities"}


def chat_evaluation(folder, stage, asked, right, samples=1, isolation=None):
    """An evaluation written as the stage writes it: three tasks, each of 40 items of which `asked` were asked."""
    records = {
        "mmlu": [
            {"item": n, "correct": n < right, "group": list(SUBJECTS)[n % 3], "gold": "A", "prompt": "?", "reply": "A"}
            for n in range(asked)
        ],
        "gsm8k": [
            {"item": n, "correct": n < right, "right": samples if n < right else samples // 4, "samples": samples}
            for n in range(asked)
        ],
        "humaneval": [{"item": n, "correct": n % 2 == 0, "isolation": isolation or []} for n in range(40)],
    }
    options = {"mmlu": {"category": SUBJECTS.get, "group_sizes": {"algebra": 14, "physics": 13, "law": 13}}}
    scores = [
        score_records(
            task, "choice" if task == "mmlu" else "generate", found, available=40,
            chance=0.25 if task == "mmlu" else 0.0, seconds=1.0, **options.get(task, {}),
        )
        for task, found in records.items()
    ]  # fmt: skip
    view = STAGES["chat_eval"].model_validate({"chat_eval": {"tasks": {task: {} for task in records}}})
    with Workspace(folder.folder / "eval" / stage, "chat_eval", view, {"model": folder.folder / stage}) as workspace:
        left_out = extent([(score.items, score.available) for score in scores])
        write_scores(workspace.final, scores, {"chat_score": mean_summary(scores, left_out)})
        write_records(workspace.final, records)
        workspace.finish(wall_seconds=1.0)


def core_evaluation(folder, tasks, asked=20, available=100):
    records = {task: [{"item": n, "correct": n % 2 == 0} for n in range(asked)] for task in tasks}
    scores = [
        score_records(task, "multiple_choice", found, available=available, chance=0.25, seconds=1.0)
        for task, found in records.items()
    ]
    left_out = core_extent({score.task: (score.items, score.available) for score in scores})
    with Workspace(
        folder.folder / "eval" / "base", "base_eval", STAGES["base_eval"](), {"model": folder.folder / "base"}
    ) as workspace:
        write_scores(workspace.final, scores, {"core": mean_summary(scores, left_out)})
        write_records(workspace.final, records)
        workspace.finish(wall_seconds=1.0)


@pytest.fixture
def run(run_folder):
    run_folder.until_sft()
    core_evaluation(run_folder, sorted(CORE_TASKS)[:12])
    chat_evaluation(run_folder, "mid", asked=30, right=10)
    chat_evaluation(run_folder, "sft", asked=30, right=21, samples=4, isolation=["namespaces", "seccomp"])
    return run_folder


def row(text, name):
    return next(line for line in text.splitlines() if re.match(rf"\| \**{re.escape(name)}\b", line))


def test_every_place_in_the_report_says_what_a_score_is_a_part_of(run):
    text = write(run)
    table = row(text, "gsm8k")
    assert table.count("(30 of 40)") == 2 and re.search(r"\| +40 +\|", table)
    assert "of 40)" not in row(text, "humaneval")
    assert "**CORE, 12 of 22 tasks, at most 20 items each**" in text
    chat = "2 of 3 tasks over a part of their items"
    assert f"**chat score, {chat}**" in text
    first = text.split("## Scores")[0]
    assert "CORE of the base model (12 of 22 tasks, at most 20 items each) is **0.333 ± " in first
    assert re.search(rf"the chat score after supervised fine-tuning \({chat}\) is \*\*0\.\d+ ± 0\.\d+\*\*", first)
    changes = text[text.index("What each stage changed, against") : text.index("### Categories")]
    assert "(30 of 40)" in row(changes, "gsm8k") and chat in row(changes, "chat score")
    assert "20 of 100" in row(text, "arc_easy")
    picture = next(link for link in links(text) if "scores" in link)
    alt = next(line for line in text.splitlines() if f"]({picture})" in line)
    assert "gsm8k 0.78 (30 of 40)" in alt and "CORE 0.33 (12 of 22 tasks, at most 20 items each)" in alt
    assert "base_eval: 12 of 12 tasks asked fewer items than there are" in text


def test_a_whole_evaluation_has_no_brackets(run_folder):
    run_folder.until_sft()
    core_evaluation(run_folder, sorted(CORE_TASKS), asked=100)
    chat_evaluation(run_folder, "mid", asked=40, right=10)
    chat_evaluation(run_folder, "sft", asked=40, right=30)
    text = write(run_folder)
    assert not re.search(r"\d \(\d+ of \d+\)", text) and "of 22 tasks" not in text
    assert re.search(r"^\| \*\*CORE\*\* ", text, re.MULTILINE) and "CORE of the base model is **0.333" in text


def test_tasks_that_are_not_cores_are_not_called_so(run_folder):
    run_folder.until_sft()
    core_evaluation(run_folder, ["world_choice", "world_cloze"], asked=100)
    assert headlines(collect(run_folder.folder, []).artifacts["base_eval"])["CORE"].part == "2 tasks, none of CORE's 22"


def test_stages_that_leave_out_different_things_say_it_in_their_cells(run):
    chat_evaluation(run, "sft", asked=40, right=30)
    content = collect(run.folder, [])
    table = score_tables.score_table(content)
    line = row(table, "gsm8k")
    assert line.count("(30 of 40)") == 1
    mean = row(table, "chat score")
    assert mean.startswith("| **chat score** ") and mean.count("(2 of 3 tasks over a part of their items)") == 1
    assert "(30 of 40)" in row(score_tables.change_table(content), "gsm8k")


def test_categories(run):
    table = score_tables.group_table(collect(run.folder, []))
    stem = next(line for line in table.splitlines() if "STEM" in line)
    assert stem.count("(20 of 27)") == 2
    micro = next(line for line in table.splitlines() if "micro" in line)
    macro = next(line for line in table.splitlines() if "macro" in line)
    assert "0.700 ± 0.084 (30 of 40)" in micro and "(30 of 40 items)" in macro
    assert "### Categories" in write(run)


def test_pass_at_k_and_isolation_stand_beside_the_score(run):
    text = write(run)
    assert "### pass@k" in text
    four = next(line for line in text.splitlines() if "pass@4" in line)
    assert "1.000 ± " in four and four.count("(30 of 40)") == 1 and "gsm8k" in four
    assert "checked answer; sandbox: namespaces + seccomp" in row(text, "humaneval")
    assert "sandbox" not in row(text, "gsm8k")


def test_a_change_counts_the_samples_of_an_item(run):
    chat_evaluation(run, "mid", asked=30, right=10, samples=4)
    table = score_tables.change_table(collect(run.folder, []))
    # 11 items of 30 go from one right reply of four to four
    assert f"+{11 * 0.75 / 30:.3f} ± {0.75 * (11 / 30 * 19 / 30 / 29) ** 0.5:.3f}" in row(table, "gsm8k")


def test_settings_of_tasks_are_told_only_where_they_were_chosen(run):
    text = summary.settings(collect(run.folder, []))
    assert "samples" not in text and "top_p" not in text


def test_a_mean_that_does_not_say_what_it_is_over(run):
    place = run.folder / "eval/sft/scores.json"
    content = json.loads(place.read_text())
    del content["summary"]["chat_score"]["extent"]
    place.write_text(json.dumps(content))
    scores = stage_scores(collect(run.folder, []))
    assert scores["sft"]["chat score"].part == "over which items is not recorded"
    assert scores["sft"]["gsm8k"].part == "30 of 40"


def test_two_stages_that_are_always_wrong_are_not_known_to_be_alike(run_folder):
    run_folder.until_sft()
    for stage in ("mid", "sft"):
        chat_evaluation(run_folder, stage, asked=40, right=0)
    text = write(run_folder)
    changes = text[text.index("What each stage changed, against") :].split("### ")[0]
    error = re.search(r"\+0\.000 ± (0\.\d+)", row(changes, "gsm8k"))
    assert error and float(error[1]) > 0.03
