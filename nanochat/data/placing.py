"""How a fetched file comes to its place: by one process, linked or copied, on the disk before it has its name."""

import contextlib
import fcntl
import logging
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from nanochat.data.disk import full_disk
from nanochat.errors import DataError

log = logging.getLogger(__name__)


@contextlib.contextmanager
def alone(out: Path) -> Iterator[tuple[Path, bool]]:
    """The folder for the partial download of `out`, held by a lock, and whether another process made `out` meanwhile.

    A killed snakemake leaves its jobs running, and two writers would spoil one partial file. All that is in the folder
    when the lock is free is of a process that ended.
    """
    path = out.parent / ".partial" / f"{out.name}.lock"
    waited = False
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock = path.open("a")
        except FileNotFoundError:  # another job just removed the empty folder
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            waited = True
            log.warning("%s is being fetched by another process; waiting for it to end", out)
            fcntl.flock(lock, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock.fileno()), path.stat()):
                break
        lock.close()  # its holder removed it: the lock of a file without a name keeps nobody out
    with lock:
        try:
            partial = path.with_name(out.name)
            _remove_leftovers(partial)
            yield partial, waited and out.exists()
        finally:
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # other downloads are in there
                path.parent.rmdir()


def link_or_copy(source: Path, target: Path) -> None:
    """Hard-link where the file system allows it; a link into a mirror would break when the mirror moves.

    Raises:
        DataError: if the disk is full, or the copy came out shorter.
    """
    source, target = Path(source).resolve(), Path(target)  # shutil.copytree hands over strings
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        target.hardlink_to(source)
    except OSError:  # another file system, or one that forbids it
        try:
            shutil.copyfile(source, target)
        except OSError as error:
            raise full_disk(OSError(error.errno, error.strerror, str(target)), str(source), target) from None
    expected, found = source.stat().st_size, target.stat().st_size
    if expected != found:
        raise DataError(f"{target} has {found:,} bytes, {source} has {expected:,}; is the disk full?")


def place(made: Path, out: Path) -> None:
    """Give a finished file or folder its name.

    It is on the disk before: a power cut must not leave a whole name with half a content. A kill before the rename
    leaves it where it was made, to be found there by the next process.
    """
    for folder, _, files in os.walk(made, topdown=False):
        for name in files:
            _sync(Path(folder, name))
        _sync(Path(folder))
    if made.is_file():
        _sync(made)
    if out.is_dir():
        shutil.rmtree(out)
    made.replace(out)
    _sync(out.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        if not path.is_dir():  # some file systems know no fsync of folders
            raise
    finally:
        os.close(descriptor)


def _remove_leftovers(partial: Path) -> None:
    """What former versions of nanochat, killed, left beside the partial download under names of their process."""
    for path in partial.parent.iterdir():
        if re.fullmatch(rf"{re.escape(partial.name)}\.\d+\.(tmp|zip)", path.name):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
