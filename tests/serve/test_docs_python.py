"""Every example of docs/python.md is run on a trained model."""

import doctest
import re
import shutil
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "python.md"


def run_page(page, folder):
    """Run all examples of a page in turn, as one reader would; returns how many blocks there were."""
    names = {"__name__": "__main__"}
    blocks = re.findall(r"^```(python|pycon)\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    for number, (kind, code) in enumerate(blocks, 1):
        where = f"{page.name}, block {number}"
        if kind == "python":
            exec(compile(code, where, "exec"), names)
            continue
        test = doctest.DocTestParser().get_doctest(code, names, where, str(page), 0)
        said = []
        result = doctest.DocTestRunner(verbose=False).run(test, out=said.append, clear_globs=False)
        assert result.attempted and not result.failed, "".join(said)
        names = test.globs
    return len(blocks)


def test_the_examples_are_true(chat_run, tmp_path, monkeypatch, capsys):
    shutil.copytree(chat_run, tmp_path / "results" / "tiny")
    monkeypatch.chdir(tmp_path)
    assert run_page(PAGE, tmp_path) > 6
    assert "<<12+30=42>>" in capsys.readouterr().out
