"""The rule export on the tiny run."""

import pytest

from nanochat.artifact import read_manifest, verify


def test_export_of_the_best_stage(workflow, tiny_run):
    workflow.run("--cores", "1", "export")
    made = verify(tiny_run / "export" / "rl")
    assert made.inputs["model"] == read_manifest(tiny_run / "rl").digest
    card = (tiny_run / "export" / "rl" / "README.md").read_text()
    assert "# smoke-rl" in card and "Checkpoint `base`" in card and "Checkpoint `rl`" in card
    assert workflow.planned("export") == {}
    changed = ("--config", "export={dtype: bfloat16, stage: rl}")
    assert workflow.planned("export", *changed) == {"export": 1, "export_stage": 1}
    # The stage is a target's, not the rule's: any of them can be asked for by its folder.
    assert workflow.planned("results/smoke/export/base") == {"export_stage": 1}


@pytest.mark.parametrize("arguments", [("--config", "export={stage: best}")])
def test_a_wrong_stage_is_one_line(workflow, arguments):
    done = workflow.run("-n", "export", *arguments, check=False)
    assert done.returncode and "export.stage = 'best'" in done.stdout
