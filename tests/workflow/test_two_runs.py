"""`snakemake compare`, on evaluations that are there."""

import json

from tests.conftest import Workflow
from tests.report.test_compare import two

ASKED = ("compare", "--config", "compare={first: results/a/sft, second: results/b/sft}")


def test_two_runs_are_compared_and_nothing_else_is_made(tmp_path):
    runner = Workflow(tmp_path)
    answers = {n: n % 3 > 0 for n in range(90)}
    two(tmp_path / "results", {"facts": answers}, {"facts": answers | dict.fromkeys(range(0, 60, 3), True)})
    made = runner.run("--cores", "1", *ASKED).stdout
    assert "1 of 1 steps (100%) done" in made
    out = tmp_path / "results/smoke/compare/a-sft-vs-b-sft"
    assert {path.name for path in out.iterdir() if not path.name.startswith(".")} == {
        "compare.csv", "compare.md", "compare.svg", "manifest.json",
    }  # fmt: skip
    row = json.loads((out / "manifest.json").read_text())["metrics"]["rows"][1]
    assert row["task"] == "facts" and 0 < row["low"] < row["difference"] == 20 / 90
    assert runner.planned(*ASKED) == {}
    failed = runner.run("compare", "-n", check=False)
    assert failed.returncode == 1 and "error: compare: there is nothing to compare" in failed.stdout
    assert "Traceback" not in failed.stdout


def test_a_checkpoint_without_an_evaluation_gets_one(tmp_path):
    runner = Workflow(tmp_path)
    two(tmp_path / "results", {"facts": {0: True}}, {"facts": {0: True}})
    (tmp_path / "results/b/eval").rename(tmp_path / "elsewhere")
    planned = runner.planned(*ASKED)
    assert planned["compare"] == planned["compare_eval"] == 1 and "sft" not in planned and "chat_eval" not in planned
