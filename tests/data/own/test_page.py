"""docs/own-data.md: what it shows is run as it stands there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from nanochat.artifact import read_manifest

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/own-data.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Contents of the page's code blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """The page's commands by hand, and what looks at their results."""
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    return [line for line in lines if not line.startswith("snakemake")]


@pytest.fixture
def folder(tmp_path):
    """The files that the page speaks of, from the page where it shows them."""
    (tmp_path / "notes").mkdir()
    for n in range(5):
        (tmp_path / f"notes/{n}.md").write_text(f"Note {n}: water the beans on every {n}. day.\n")
    (tmp_path / "support.jsonl").write_text(blocks("json")[0])
    (tmp_path / "persona.yaml").write_text(next(block for block in blocks("yaml") if block.startswith("name: ")))
    return tmp_path


def test_every_command_of_the_page_runs(folder):
    stages = {re.search(r"workflow_scripts\.(\w+)", line)[1] for line in commands() if line.startswith("python")}
    assert stages == {"own_text", "own_conversations", "persona"}
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    for line in commands():
        done = subprocess.run(
            ["bash", "-c", line], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{line}\n{done.stderr}"
    made = {read_manifest(path.parent).stage: path.parent for path in folder.glob("made*/manifest.json")}
    assert made.keys() == stages  # none has replaced another
    assert '"messages"' in done.stdout  # the last one shows what the persona has become
    for path in re.findall(r"`(made[\w-]*/[\w/.]+)`", PAGE):
        assert (folder / path).is_file(), path
    metrics = read_manifest(made["own_conversations"]).metrics
    assert metrics["conversations"] + metrics["duplicates"] == 3
