"""Files of the catalogue from where they are: the public hubs, a mirror of them, or a folder laid out like them.

A fetched file appears at its place complete and checked, or not at all. Partial downloads lie in
`<folder of the file>/.partial/<name>/`, outside of what Snakemake deletes after a failed job, so that they resume.
"""

import contextlib
import fcntl
import hashlib
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from nanochat.artifact import digest_file
from nanochat.config.catalogue import Catalogue
from nanochat.data.archive import check_zip, unzip
from nanochat.data.disk import BUNDLE, full_disk
from nanochat.data.download import ChangedError, Received, RefusedError, Remote, download
from nanochat.data.remembered import check_digest
from nanochat.data.remote import locate
from nanochat.data.retry import Retry
from nanochat.data.shards import check_parquet
from nanochat.data.source import Mirror, Source
from nanochat.errors import DataError

log = logging.getLogger(__name__)


def fetch(path: str, *, source: Source, out: Path, catalogue: Catalogue, retry: Retry | None = None) -> None:
    """Bring one file to `out`, atomically.

    Args:
        path: below the data folder, as in the catalogue: `datasets/<owner>/<name>/<file>` or `files/<file>`.
        source: `hub`, a mirror, or a folder laid out like the hub, from which files are hard-linked (copied over file
            systems).
        out: where the file goes.
        catalogue: revisions of data sets, and addresses and digests of the files that are not on the hub.
        retry: patience with servers.

    Raises:
        DataError: if the file is not there, truncated or of another digest, or the disk is full; nothing is left at
            `out`.
    """
    _check_relative(path)
    with _alone(out) as (partial, made):
        if made:
            return
        temporary = partial.with_name(f"{out.name}.{os.getpid()}.tmp")
        try:
            if isinstance(source, Path):
                _link_or_copy(_in_folder(source, path), temporary)
                problem = _content_problem(temporary, path)
                if problem:
                    raise DataError(f"{path} from {source / path} is damaged: {problem}")
            else:
                _bring(path, source, out, partial, catalogue, retry or Retry(), temporary)
            _sync(temporary)
            temporary.replace(out)
        finally:
            temporary.unlink(missing_ok=True)
        shutil.rmtree(partial, ignore_errors=True)


def fetch_bundle(*, source: Source, out: Path, catalogue: Catalogue, retry: Retry | None = None) -> None:
    """Bring the CORE-format evaluation bundle to the directory `out`, atomically.

    Raises:
        DataError: if it is not there, damaged, or holds no core.yaml and eval_data.
    """
    with _alone(out) as (partial, made):
        if made:
            return
        temporary = partial.with_name(f"{out.name}.{os.getpid()}.tmp")
        archive = partial.with_name(f"{out.name}.{os.getpid()}.zip")
        try:
            if isinstance(source, Path):
                folder = source / BUNDLE
                if not folder.is_dir():
                    raise DataError(f"{folder} does not exist; expected the folder inside eval_bundle.zip there")
                shutil.copytree(folder, temporary, copy_function=lambda a, b: _link_or_copy(Path(a), Path(b)))
            else:
                _bring(BUNDLE, source, out, partial, catalogue, retry or Retry(), archive)
                unzip(archive, temporary)
            root = temporary if (temporary / "core.yaml").is_file() else temporary / BUNDLE
            if not (root / "core.yaml").is_file() or not (root / "eval_data").is_dir():
                raise DataError(
                    f"the evaluation bundle from {source} holds no core.yaml beside eval_data/; expected both"
                )
            if out.is_dir():
                shutil.rmtree(out)
            root.replace(out)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            archive.unlink(missing_ok=True)
        shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def _alone(out: Path) -> Iterator[tuple[Path, bool]]:
    """The folder for the partial download, held by a lock, and whether another process made `out` meanwhile.

    A killed snakemake leaves its jobs running, and two writers would spoil one partial file.
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
            yield path.with_name(out.name), waited and out.exists()
        finally:
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # other downloads are in there
                path.parent.rmdir()


def _bring(
    path: str, source: Source, out: Path, partial: Path, catalogue: Catalogue, retry: Retry, target: Path
) -> None:
    """Fetch from a server to `target`, again where the content is not what it should be."""
    assert not isinstance(source, Path)
    pinned = catalogue.urls[path].sha256 if path in catalogue.urls else None
    content = partial / "content"
    problem = ""
    for _ in range(retry.damaged_tries):
        found = locate(path, source=source, folder=_data_set_folder(path, out), catalogue=catalogue, retry=retry)
        if isinstance(found, Remote):
            try:
                received = download(found, content, retry)
            except RefusedError as error:
                hint = "check its address in nanochat/config/catalogue.yaml" if source == "hub" else "add it there"
                raise DataError(f"{error}; {hint}, or use another data.source") from None
            except ChangedError as error:
                shutil.rmtree(partial, ignore_errors=True)
                problem = str(error)
                log.warning("%s; fetching it anew", problem)
                continue
            problem = _wrong_digest(content, found.digest, received)
        else:
            _link_or_copy(found.file, content)
            problem = _wrong_digest(content, found.digest, Received())
            if problem:
                raise DataError(f"{path}: {found.file} in the hub cache {problem}; delete it and run the command again")
            log.info("%s: taken from the hub cache, %s", path, found.file)
        if not problem and found.digest is None:
            problem = _content_problem(content, path)  # without a digest, all that can be told
        if not problem:
            break
        shutil.rmtree(partial, ignore_errors=True)
        log.warning("%s %s; fetching it anew", path, problem)
    else:
        raise DataError(
            f"{path}: {retry.damaged_tries} downloads were damaged or changed on the way; the last one {problem}. "
            "Something between here and the server alters it, or its publisher replaced it: use a local folder or "
            "another mirror with data.source"
        )
    problem = _content_problem(content, path)
    if problem:  # though it has the digest its publisher states
        shutil.rmtree(partial, ignore_errors=True)
        raise DataError(f"{path} from {_named(source)} is damaged there: {problem}; use another data.source")
    if path in catalogue.urls:
        _check_trust(path, source, out, content, pinned, found, received)
    content.replace(target)


def _check_trust(
    path: str, source: Source, out: Path, content: Path, pinned: str | None, remote: Remote, received: Received
) -> None:
    """Files that no data set vouches for: the catalogue's digest, or else that of the first time."""
    digest = digest_file(content)
    if pinned is None:
        size = content.stat().st_size
        check_digest(out, name=path, digest=digest, size=size, etag=received.etag, address=remote.address)
    elif isinstance(source, Mirror) and digest != pinned:
        log.warning("%s: the mirror has a file of its own, SHA-256 %s; the catalogue knows %s", path, digest, pinned)


def _wrong_digest(file: Path, digest: str | None, received: Received) -> str:
    """What is wrong with the content, in words; empty if nothing is, as far as the server told its digest."""
    expected, found = digest, ""
    if digest and len(digest) == 64:
        found = digest_file(file)
    elif digest and len(digest) == 40:
        found = _hash(file, "sha1", b"blob %d\0" % file.stat().st_size)
    elif received.server == "AmazonS3" and received.etag and len(received.etag) == 32:
        expected, found = received.etag, _hash(file, "md5")  # S3's ETag of what was uploaded in one part
    if found == (expected if found else ""):
        return ""
    return f"has the digest {found[:12]}…, the server says {(expected or '')[:12]}…"


def _hash(file: Path, kind: str, head: bytes = b"") -> str:
    total = hashlib.new(kind, head, usedforsecurity=False)
    with file.open("rb") as content:
        while block := content.read(1 << 20):
            total.update(block)
    return total.hexdigest()


def _data_set_folder(path: str, out: Path) -> Path:
    """`datasets/<owner>/<name>` in the data folder that `out` lies in."""
    parts = PurePosixPath(path).parts
    return out.parents[len(parts) - 4] if out.parts[-len(parts) :] == parts and len(parts) > 3 else out.parent


def _named(source: Source) -> str:
    return "the hub" if source == "hub" else str(source)


def _check_relative(path: str) -> None:
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts or parts.parts[:1] not in (("datasets",), ("files",)):
        raise DataError(
            f"{path}: expected a path below the data folder, datasets/<owner>/<name>/<file> or files/<file>"
        )
    if parts.parts[0] == "datasets" and len(parts.parts) < 4:
        raise DataError(f"{path}: expected datasets/<owner>/<name>/<file>")


def _in_folder(source: Path, path: str) -> Path:
    file = source / path
    if not file.is_file():
        state = "has no such file" if source.is_dir() else "is not a folder"
        raise DataError(f"{path}: {source} {state}; expected a folder laid out like the hub (data.source)")
    return file.resolve()


def _link_or_copy(source: Path, target: Path) -> None:
    """Hard-link where the file system allows it; a link into a mirror would break when the mirror moves."""
    source = source.resolve()
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


def _content_problem(file: Path, path: str) -> str:
    """What is wrong with a file by its looks, in words; empty if nothing is."""
    if file.stat().st_size == 0:
        return "it is empty"
    try:
        if path.endswith(".parquet"):
            check_parquet(file)
        elif path == BUNDLE:
            check_zip(file)
    except DataError as error:
        return str(error).replace(str(file), path.rpartition("/")[2])
    return ""


def _sync(file: Path) -> None:
    """On the disk before it has its name: a power cut must not leave a whole name with half a content."""
    with file.open("rb") as content:
        os.fsync(content.fileno())
