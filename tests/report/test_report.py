"""The report is a pure function of the artifacts: complete, truthful about what is missing, and never a crash."""

import json
import re
import shutil
from pathlib import Path

import pytest

from nanochat.config.stages import ReportStage
from nanochat.report.report import publish, run
from tests.report.conftest import RunFolder


def write(folder) -> str:
    out = folder.folder / "report.md"
    run(
        ReportStage(),
        out=out,
        figures=folder.folder / "figures",
        run_folder=folder.folder,
        token_folders=folder.tokens,
        command="snakemake report.md --configfile results/r/config.yaml",
    )
    return out.read_text()


def links(text: str) -> list[str]:
    return re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    """A run with everything in it and its report, to be read only."""
    folder = RunFolder(tmp_path_factory.mktemp("complete"))
    folder.everything()
    return folder, write(folder)


def test_a_complete_run_has_every_section_with_errors_and_counts(complete):
    _, text = complete
    for heading in ("Scores", "Stages", "Bits per byte", "Training curves", "CORE tasks", "Samples"):
        assert re.search(rf"^## {heading}", text, re.MULTILINE), heading
    row = next(line for line in text.splitlines() if line.startswith("| word_problems"))
    assert re.search(r"0\.520 ± 0\.050", row)
    assert "100 of 300" in row
    assert "snakemake report.md --configfile results/r/config.yaml" in text
    assert "validation text of own" in text
    assert not re.search(r"^(#+ .*)\n+(?=#{1,2} )", text, re.MULTILINE), "an empty section"
    assert "nan" not in text.lower().split()


def test_every_picture_is_there_and_described(complete):
    folder, text = complete
    found = links(text)
    assert len(found) >= 4
    for link in found:
        assert (folder.folder / link).read_text().lstrip().startswith("<?xml")


def test_what_was_not_run_says_so(run_folder):
    run_folder.until_sft()
    text = write(run_folder)
    assert re.search(r"rl.*not run", text)
    (run_folder.folder / "config.yaml").write_text("rl: {enabled: false}\n")
    assert re.search(r"rl.*(switched off|enabled: false)", write(run_folder))


def test_an_empty_folder_is_still_a_report(run_folder):
    run_folder.folder.mkdir(parents=True, exist_ok=True)
    assert "not run" in write(run_folder)


def test_a_missing_evaluation_leaves_a_dash(run_folder):
    run_folder.everything()
    shutil.rmtree(run_folder.folder / "eval" / "sft")
    text = write(run_folder)
    row = next(line for line in text.splitlines() if line.startswith("| word_problems"))
    assert "–" in row


def test_a_broken_chain_is_warned_of_before_the_scores(run_folder):
    run_folder.everything()
    run_folder.finetune("mid", "base", "Another model altogether.")
    text = write(run_folder)
    before_scores = text[: text.index("## Scores")]
    assert "sft" in before_scores
    assert "mid" in before_scores
    assert re.search(r"warning|⚠", before_scores, re.IGNORECASE)


@pytest.mark.parametrize("damage", ["{", '{"stage": 1}'])
def test_a_damaged_manifest_is_reported_and_not_fatal(run_folder, damage):
    run_folder.everything()
    (run_folder.folder / "sft" / "manifest.json").write_text(damage)
    assert "damaged" in write(run_folder)


def test_a_metric_that_is_missing_is_a_dash(run_folder):
    run_folder.everything()
    path = run_folder.folder / "base" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["metrics"].pop("tokens_per_second", None)
    manifest["wall_seconds"] = None
    path.write_text(json.dumps(manifest))
    row = next(line for line in write(run_folder).splitlines() if re.match(r"\| base +\|", line))
    assert "–" in row


def test_the_published_copy_finds_its_pictures(complete):
    folder, _ = complete
    top = folder.root / "report.md"
    publish(folder.folder / "report.md", folder.folder / "figures", top)
    for link in links(top.read_text()):
        assert (Path(top).parent / link).exists()
