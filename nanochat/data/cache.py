"""What the user's own hub cache (`HF_HOME`, `HF_HUB_CACHE`) holds: found without a network."""

import re
from dataclasses import dataclass
from pathlib import Path

from nanochat.config.catalogue import Catalogue
from nanochat.data.remembered import COMMIT, read_commit

DIGEST = re.compile(r"[0-9a-f]{64}|[0-9a-f]{40}")


@dataclass(frozen=True)
class Cached:
    """A file in the user's hub cache."""

    file: Path
    digest: str | None
    """SHA-256, or a git blob's SHA-1, that the content must have; None where the cache does not tell."""


def wanted_revision(path: str, folder: Path, catalogue: Catalogue) -> str:
    """The commit that the files of a data set are taken from, or the branch where none is decided on yet.

    Args:
        path: `datasets/<owner>/<name>/<file>`.
        folder: of the data set, where the commit of a branch is recorded.
        catalogue: what it pins.
    """
    pin = catalogue.revision_of(path)
    return pin if COMMIT.fullmatch(pin) else read_commit(folder) or pin


def is_offline() -> bool:
    """Whether the user set HF_HUB_OFFLINE, as huggingface_hub read it."""
    try:
        from huggingface_hub import constants
    except ImportError:  # without it nothing comes from the hub, and `locate` says so
        return False
    return bool(constants.HF_HUB_OFFLINE)


def find_cached(path: str, revision: str) -> Cached | None:
    """The file of a data set in the cache at a commit, or at what the cache last knew of a branch.

    Args:
        path: `datasets/<owner>/<name>/<file>`.
        revision: commit or branch.
    """
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    _, owner, name, *rest = path.split("/")
    found = try_to_load_from_cache(f"{owner}/{name}", "/".join(rest), repo_type="dataset", revision=revision)
    if not isinstance(found, str):
        return None
    blob = Path(found).resolve()
    return Cached(blob, blob.name if DIGEST.fullmatch(blob.name) else None)


def held_by_cache(path: str, folder: Path, catalogue: Catalogue) -> Cached | None:
    """The file that `locate` would take from the cache, as far as that is known without asking the hub.

    Args:
        path: `datasets/<owner>/<name>/<file>`.
        folder: of the data set.
        catalogue: commits of data sets.
    """
    revision = wanted_revision(path, folder, catalogue)
    return find_cached(path, revision) if COMMIT.fullmatch(revision) or is_offline() else None
