"""The commands of README.md and docs/ are understood as they are meant."""

import re
import shlex
from pathlib import Path

import pytest
from snakemake.cli import get_argument_parser

from tests.conftest import REPOSITORY

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]


def commands() -> list[tuple[str, str]]:
    """(page, command) of every line of a shell block, and of code in the text, that begins with `snakemake`."""
    found = []
    for page in PAGES:
        text = page.read_text()
        blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
        lines = [line for block in blocks for line in block.splitlines()] + re.findall(r"`(snakemake [^`]*)`", text)
        found += [(page.name, line) for line in lines if line.startswith("snakemake ")]
    return found


@pytest.mark.parametrize(("page", "command"), commands())
def test_snakemake_understands_the_command(page, command):
    given = get_argument_parser().parse_args(shlex.split(command, comments=True)[1:])
    for file in map(str, given.configfile or []):
        assert Path(file).suffix == ".yaml", f"{file} is taken for a configuration file"
        assert file == "mine.yaml" or "<run>" in file or (REPOSITORY / file).is_file(), file
    for entry in given.config or []:
        assert "=" in entry, f"{entry} is taken for a setting"


def test_there_are_commands_to_check():
    assert len(commands()) > 15
