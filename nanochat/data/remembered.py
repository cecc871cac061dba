"""What the first fetch of something unpinned saw, written beside it, so that later ones get the same or say so."""

import contextlib
import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nanochat.errors import DataError

COMMIT = re.compile(r"[0-9a-f]{40}")


def read_commit(folder: Path) -> str | None:
    """The commit that the files of a data set in `folder` are of; None before the first of them.

    Raises:
        DataError: if the record is damaged.
    """
    record = folder / ".revision"
    if not record.exists():
        return None
    commit = record.read_text().strip()
    if not COMMIT.fullmatch(commit):
        raise DataError(
            f"{record} holds {commit[:60]!r}, expected the 40 hex digits of a commit; delete it to take the newest one"
        )
    return commit


def remember_commit(folder: Path, commit: str) -> str:
    """Record the commit of a data set, unless another job was faster; the recorded one."""
    _write_first(folder / ".revision", commit + "\n")
    return read_commit(folder) or commit


def remembered_digest(out: Path) -> str | None:
    """SHA-256 of the file that the first fetch to `out` saw, where nobody pins it; None before the first.

    Raises:
        DataError: if the record is damaged.
    """
    record = _record(out)
    return _read(record)[0] if record.exists() else None


def check_digest(out: Path, *, name: str, digest: str, size: int, etag: str | None, address: str) -> None:
    """Compare a file that nobody pins with what the first fetch of it saw, or record it as the first.

    Raises:
        DataError: if it is another file than the first time.
    """
    record = _record(out)
    seen = {"sha256": digest, "bytes": size, "etag": etag, "address": address}
    _write_first(record, json.dumps(seen | {"fetched": datetime.now(UTC).isoformat(timespec="seconds")}) + "\n")
    trusted, when = _read(record)
    if trusted != digest:
        raise DataError(
            f"{name}: {address} now has another file than on {when}: SHA-256 {digest}, then {trusted}. To take the new "
            f"one, delete {record} and run the same command again; to keep to the old one, use a folder that has it "
            "with data.source"
        )


def _record(out: Path) -> Path:
    return out.with_name(f".{out.name}.origin.json")


def _read(record: Path) -> tuple[str, str]:
    """Digest and time of the first fetch."""
    try:
        first: dict[str, Any] = json.loads(record.read_text())
        return first["sha256"], first["fetched"]
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{record} is damaged; delete it to trust the file as it is fetched next") from None


def _write_first(record: Path, text: str) -> None:
    """Create a file with its content at once, or leave the one that is there: the first writer wins."""
    if record.exists():
        return
    record.parent.mkdir(parents=True, exist_ok=True)
    temporary = record.with_name(f"{record.name}.{os.getpid()}.tmp")
    temporary.write_text(text)
    try:
        with contextlib.suppress(FileExistsError):
            os.link(temporary, record)
    except OSError:  # a file system without hard links: a rename is still whole, if not first
        temporary.replace(record)
    finally:
        temporary.unlink(missing_ok=True)
