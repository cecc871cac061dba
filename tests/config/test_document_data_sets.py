"""docs/data-sets.md tells the truth about the catalogue."""

import re

from nanochat.config import load_catalogue
from nanochat.config.document_data_sets import render
from tests.conftest import REPOSITORY

CATALOGUE = load_catalogue()


def test_the_page_is_current():
    command = "python -m nanochat.config.document_data_sets > docs/data-sets.md"
    assert (REPOSITORY / "docs" / "data-sets.md").read_text() == render(CATALOGUE), f"run: {command}"


def test_every_public_data_set_is_pinned_and_of_one_version():
    revisions: dict[str, set[str]] = {}
    for corpus in CATALOGUE.corpora.values():
        revisions.setdefault(corpus.repo, set()).add(corpus.revision)
    for task in CATALOGUE.tasks.values():
        for path in (*task.train, *task.test):
            if path.startswith("datasets/"):
                revisions.setdefault("/".join(path.split("/")[1:3]), set()).add(task.revision)
                assert CATALOGUE.revision_of(path) == task.revision
    for repository, found in revisions.items():
        (revision,) = found
        assert re.fullmatch(r"[0-9a-f]{40}", revision) or repository.startswith("world/"), repository


def test_every_plain_file_has_an_address_or_is_made_here():
    paths = {path for task in CATALOGUE.tasks.values() for path in (*task.train, *task.test)}
    plain = {path for path in paths if path.startswith("files/")} - {"files/words.txt"}
    assert plain == set(CATALOGUE.urls) - {"eval_bundle"}
    assert all("refs/heads" not in entry.address for entry in CATALOGUE.urls.values())
