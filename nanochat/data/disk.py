"""Room on the disk: for one file before its first byte, and for everything a run will fetch before the first file."""

import errno
import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from nanochat.config.catalogue import Catalogue
from nanochat.data.source import Source
from nanochat.errors import DataError

log = logging.getLogger(__name__)

BUNDLE = "eval_bundle"
_RESERVE_BYTES = 1_000_000_000
_RESERVE_SHARE = 0.05


class DiskPlan(TypedDict):
    """What `check_disk` found, in bytes."""

    folder: str
    fetch_bytes: int
    """Still to be fetched."""
    fetch_files: int
    more_bytes: int
    """Made from it by later stages."""
    needed_bytes: int
    """Both together."""
    reserve_bytes: int
    """To be left free beyond that."""
    free_bytes: int
    unknown: list[str]
    """Files whose size the catalogue does not tell; not counted."""


def check_disk(
    paths: Sequence[str], *, source: Source, data: Path, catalogue: Catalogue, more_bytes: int = 0
) -> DiskPlan:
    """Compare what a plan still needs with the free space, from the catalogue's sizes, without a network.

    Files in place count nothing, partial ones what is missing of them, files of a folder on the same file system
    nothing (they are hard-linked). One gigabyte, or a twentieth of a small disk, is to stay free.

    Args:
        paths: everything the run wants below the data folder, `eval_bundle` (the archive and its content) included.
        source: where they come from.
        data: the data folder; it need not exist yet.
        catalogue: sizes, of shards and small files about.
        more_bytes: what later stages will write on that disk, token files above all.

    Raises:
        DataError: if the disk is too small, with what is needed, what is free, and the way out.
    """
    missing, unknown, files = 0, [], 0
    for path in dict.fromkeys(paths):
        size = _missing_bytes(path, source, data, catalogue)
        if size is None:
            unknown.append(path)
        elif size:
            missing += size
            files += 1
    usage = shutil.disk_usage(_existing(data))
    needed = missing + more_bytes
    reserve = min(_RESERVE_BYTES, int(usage.total * _RESERVE_SHARE))
    if needed and needed + reserve > usage.free:
        raise DataError(
            f"{data.absolute()} has {_gigabytes(usage.free)} free, and this run needs {_gigabytes(needed + reserve)}: "
            f"{_gigabytes(missing)} for {files} files to fetch, {_gigabytes(more_bytes)} for what is made of them, "
            f"{_gigabytes(reserve)} to stay free; use fewer shards (data.train_shards), free some space, or make "
            f"{data} a link to a folder on a larger disk"
        )
    return DiskPlan(
        folder=str(data.absolute()),
        fetch_bytes=missing,
        fetch_files=files,
        more_bytes=more_bytes,
        needed_bytes=needed,
        reserve_bytes=reserve,
        free_bytes=usage.free,
        unknown=unknown,
    )


def check_room(folder: Path, size: int, name: str) -> None:
    """Check that one file fits before its first byte.

    Raises:
        DataError: if fewer than `size` bytes are free where `folder` lies.
    """
    free = shutil.disk_usage(_existing(folder)).free
    if size > free:
        raise DataError(
            f"{name}: {size:,} bytes are still to come, but {folder} has {free:,} free; free some space, or make the "
            "data folder a link to a larger disk, and run the same command again"
        )


def full_disk(error: OSError, name: str, target: Path) -> OSError | DataError:
    """The error to raise for one that occurred while writing `target`: in words where the disk is full."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return error
    return DataError(
        f"{name}: {os.strerror(error.errno)}: {target} holds {target.stat().st_size:,} bytes of it; free space, or "
        "make the data folder a link to a larger disk, and run the same command again to go on"
    )


def _missing_bytes(path: str, source: Source, data: Path, catalogue: Catalogue) -> int | None:
    out = data / path
    if out.exists():
        return 0
    if isinstance(source, Path):
        if _existing(source).stat().st_dev == _existing(data).stat().st_dev:
            return 0
        return _bytes_below(source / path)
    size = catalogue.bytes_of(path)
    if size is None:
        return None
    partial = out.parent / ".partial" / out.name / "content"
    return max(0, size - (partial.stat().st_size if partial.is_file() else 0))


def _bytes_below(path: Path) -> int | None:
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return path.stat().st_size if path.is_file() else None


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return folder


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.1f} GB"
