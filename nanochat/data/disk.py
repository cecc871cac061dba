"""Room on the disk: for one file before its first byte, and for everything a run will fetch before the first file."""

import errno
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from nanochat.config.catalogue import Catalogue
from nanochat.data.cache import held_by_cache, is_offline
from nanochat.data.source import Source
from nanochat.errors import DataError

log = logging.getLogger(__name__)

BUNDLE = "eval_bundle"
_RESERVE_BYTES = 1_000_000_000
_RESERVE_SHARE = 0.05


class Disk(TypedDict):
    """One file system that a plan writes to, in bytes."""

    folder: str
    """One that lies on it."""
    fetch_bytes: int
    more_bytes: int
    needed_bytes: int
    """Both together."""
    reserve_bytes: int
    """To be left free beyond that."""
    free_bytes: int


class DiskPlan(TypedDict):
    """What `check_disk` found, in bytes."""

    fetch_bytes: int
    """Still to be fetched."""
    fetch_files: int
    more_bytes: int
    """Made from it by later stages."""
    needed_bytes: int
    """Both together."""
    disks: list[Disk]
    """The same for each file system: `data` and what is in it may be links to several."""
    unknown: list[str]
    """Files whose size the catalogue does not tell; not counted."""


@dataclass
class _Need:
    """What goes to one file system."""

    folder: Path
    fetch: int = 0
    more: int = 0
    files: list[str] = field(default_factory=list)


def check_disk(
    paths: Sequence[str], *, source: Source, data: Path, catalogue: Catalogue, more: Mapping[Path, int] | None = None
) -> DiskPlan:
    """Compare what a plan still needs with the free space, from the catalogue's sizes, without a network.

    Files in place count nothing, partial ones what is missing of them. Files of a folder, or of the user's hub cache,
    count nothing on the same file system (they are hard-linked), and their own size on another. With HF_HUB_OFFLINE no
    data set is fetched. On each file system one gigabyte, or a twentieth of a small one, is to stay free.

    Args:
        paths: everything the run wants below the data folder, `eval_bundle` (the archive and its content) included.
        source: where they come from.
        data: the folder they go to; it need not exist yet.
        catalogue: sizes, of shards and small files about.
        more: folder → bytes that later stages will write there, token files above all.

    Raises:
        DataError: if a disk is too small, with what is needed, what is free, and the way out.
    """
    needs: dict[int, _Need] = {}
    unknown = []
    for path in dict.fromkeys(paths):
        out = data / path
        size = _missing_bytes(path, source, out, data, catalogue)
        if size is None:
            unknown.append(path)
        elif size:
            need = _need(needs, out.parent, data)
            need.fetch += size
            need.files.append(path)
    for folder, size in (more or {}).items():
        if size:
            _need(needs, folder, folder).more += size
    if unknown:
        named = ", ".join(unknown[:5]) + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else "")
        log.info("the check of the disk leaves out %s: the catalogue does not tell their size", named)
    return DiskPlan(
        fetch_bytes=sum(need.fetch for need in needs.values()),
        fetch_files=sum(len(need.files) for need in needs.values()),
        more_bytes=sum(need.more for need in needs.values()),
        needed_bytes=sum(need.fetch + need.more for need in needs.values()),
        disks=[_check(need) for need in needs.values()],
        unknown=unknown,
    )


def _need(needs: dict[int, _Need], folder: Path, called: Path) -> _Need:
    """The entry of the file system that a folder is on, or will be; `called` names it where it lies on the same."""
    device = _device(folder)
    return needs.setdefault(device, _Need(called if _device(called) == device else folder))


def _check(need: _Need) -> Disk:
    usage = shutil.disk_usage(_existing(need.folder))
    needed = need.fetch + need.more
    reserve = min(_RESERVE_BYTES, int(usage.total * _RESERVE_SHARE))
    if needed + reserve > usage.free:
        raise DataError(
            f"{need.folder.absolute()} has {_gigabytes(usage.free)} free, and this run needs "
            f"{_gigabytes(needed + reserve)} there: {_gigabytes(need.fetch)} for {len(need.files)} files to fetch, "
            f"{_gigabytes(need.more)} for what is made of them, {_gigabytes(reserve)} to stay free; use fewer shards "
            "(data.train_shards), free some space, or make `data` a link to a folder on a larger disk"
        )
    return Disk(
        folder=str(need.folder.absolute()),
        fetch_bytes=need.fetch,
        more_bytes=need.more,
        needed_bytes=needed,
        reserve_bytes=reserve,
        free_bytes=usage.free,
    )


def check_room(folder: Path, size: int, name: str) -> None:
    """Check that one file fits before its first byte.

    Raises:
        DataError: if fewer than `size` bytes are free where `folder` lies.
    """
    free = shutil.disk_usage(_existing(folder)).free
    if size > free:
        raise DataError(
            f"{name}: {size:,} bytes are still to come, but {folder} has {free:,} free; free some space, or make "
            "`data` a link to a folder on a larger disk, and run the same command again"
        )


def full_disk(error: OSError, name: str, target: Path) -> OSError | DataError:
    """The error to raise for one that occurred while writing `target`: in words where the disk is full."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return error
    return DataError(
        f"{name}: {os.strerror(error.errno)}: {target} holds {target.stat().st_size:,} bytes of it; free space, or "
        "make `data` a link to a folder on a larger disk, and run the same command again to go on"
    )


def _missing_bytes(path: str, source: Source, out: Path, data: Path, catalogue: Catalogue) -> int | None:
    """Bytes that a file still takes at `out`; None if unknown."""
    if out.exists():
        return 0
    if isinstance(source, Path):
        return _copied_bytes(source / path, out)
    if source == "hub" and path.startswith("datasets/"):
        cached = held_by_cache(path, data.joinpath(*path.split("/")[:3]), catalogue)
        if cached or is_offline():
            return _copied_bytes(cached.file, out) if cached else 0
    size = catalogue.bytes_of(path)
    if size is None:
        return None
    partial = out.parent / ".partial" / out.name / "content"
    return max(0, size - (partial.stat().st_size if partial.is_file() else 0))


def _copied_bytes(file: Path, out: Path) -> int | None:
    """Bytes that a file or folder of this machine takes at `out`: none where it can be hard-linked."""
    return 0 if file.exists() and _device(file) == _device(out.parent) else _bytes_below(file)


def _bytes_below(path: Path) -> int | None:
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return path.stat().st_size if path.is_file() else None


def _device(path: Path) -> int:
    """The file system that a path is on, or will be."""
    return _existing(path).stat().st_dev


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return folder


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.1f} GB"
