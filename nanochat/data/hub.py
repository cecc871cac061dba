"""Files of the catalogue from where they are: the public hubs, a mirror of them, or a folder laid out like them.

A fetched file appears at its place complete and checked, or not at all. Partial downloads lie in
`<folder of the file>/.partial/<name>/`, outside of what Snakemake deletes after a failed job, so that they resume.
"""

import logging
import shutil
from functools import partial as given
from pathlib import Path, PurePosixPath

from nanochat.artifact import digest_file
from nanochat.config.catalogue import Catalogue
from nanochat.data.archive import unzip
from nanochat.data.cache import Cached
from nanochat.data.disk import BUNDLE
from nanochat.data.download import ChangedError, Received, RefusedError, Remote, download
from nanochat.data.placing import alone, link_or_copy, place
from nanochat.data.remembered import check_digest, remembered_digest
from nanochat.data.remote import locate
from nanochat.data.retry import Retry
from nanochat.data.source import Mirror, Source
from nanochat.data.verify import content_problem, digest_problem, stated_digest
from nanochat.errors import DataError

log = logging.getLogger(__name__)

_CONTENT = "content"


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
    with alone(out) as (partial, made):
        if made:
            return
        if isinstance(source, Path):
            content = _take(_in_folder(source, path), partial)
            problem = content_problem(content, path)
            if problem:
                shutil.rmtree(partial, ignore_errors=True)
                raise DataError(f"{path} from {source / path} is damaged: {problem}")
        else:
            content = _bring(path, source, out, partial, catalogue, retry or Retry())
        place(content, out)
        shutil.rmtree(partial, ignore_errors=True)


def fetch_bundle(*, source: Source, out: Path, catalogue: Catalogue, retry: Retry | None = None) -> None:
    """Bring the CORE-format evaluation bundle to the directory `out`, atomically.

    Raises:
        DataError: if it is not there, damaged, or holds no core.yaml and eval_data.
    """
    with alone(out) as (partial, made):
        if made:
            return
        unpacked = partial / "unpacked"
        shutil.rmtree(unpacked, ignore_errors=True)  # half of it, from a process that was killed
        if isinstance(source, Path):
            unpack = given(_copy_bundle, source, unpacked)
        else:
            unpack = given(unzip, _bring(BUNDLE, source, out, partial, catalogue, retry or Retry()), unpacked)
        try:
            unpack()
            root = unpacked if (unpacked / "core.yaml").is_file() else unpacked / BUNDLE
            if not (root / "core.yaml").is_file() or not (root / "eval_data").is_dir():
                raise DataError(
                    f"the evaluation bundle from {source} holds no core.yaml beside eval_data/; expected both"
                )
        except DataError:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        place(root, out)
        shutil.rmtree(partial, ignore_errors=True)


def _bring(path: str, source: Source, out: Path, partial: Path, catalogue: Catalogue, retry: Retry) -> Path:
    """Fetch from a server into `partial`, again where the content is not what it should be; the checked file."""
    assert not isinstance(source, Path)
    content = partial / _CONTENT
    folder = _data_set_folder(path, out)
    find = given(locate, path, source=source, folder=folder, catalogue=catalogue, retry=retry)
    pinned = catalogue.urls[path].sha256 if path in catalogue.urls else None
    known = {pinned, remembered_digest(out)}
    problem, damaged, unconfirmed = "", 0, 0
    while damaged < retry.damaged_tries:
        found = find()
        if isinstance(found, Cached):
            return _from_cache(path, found, partial)
        try:
            received = download(found, content, retry)
        except RefusedError as error:
            hint = "check its address in nanochat/config/catalogue.yaml" if source == "hub" else "add it there"
            raise DataError(f"{error}; {hint}, or use another data.source") from None
        except ChangedError as error:
            problem = str(error)
        else:
            stated = stated_digest(found, received)
            problem = digest_problem(content, stated) if stated else content_problem(content, path)
            if not problem and not stated and path.startswith("datasets/"):
                problem = _change(found, find())
            elif not problem and not stated and (digest := digest_file(content)) not in known:
                # Nobody vouches for it: the same bytes twice are the server's file, damage differs from time to time.
                known.add(digest)
                unconfirmed += 1
                if unconfirmed == 1:
                    log.info("%s: the server states no digest of it; fetching it once more to compare", path)
                    shutil.rmtree(partial, ignore_errors=True)
                    continue
                problem = "is another file than the download before it"
            if not problem:
                break
        damaged += 1
        shutil.rmtree(partial, ignore_errors=True)
        log.warning("%s: %s; fetching it anew", path, problem)
    else:
        raise DataError(
            f"{path}: {retry.damaged_tries} downloads were damaged or changed on the way; the last one: {problem}. "
            "Something between here and the server alters it, or its publisher replaced it: use a local folder or "
            "another mirror with data.source"
        )
    problem = content_problem(content, path)
    if problem:  # though it has the digest its publisher states
        shutil.rmtree(partial, ignore_errors=True)
        raise DataError(f"{path} from {_named(source)} is damaged there: {problem}; use another data.source")
    if path in catalogue.urls:
        _check_trust(path, source, out, content, pinned, found, received)
    return content


def _check_trust(
    path: str, source: Source, out: Path, content: Path, pinned: str | None, remote: Remote, received: Received
) -> None:
    """Files that no data set vouches for: the catalogue's digest, or else that of the first time."""
    digest = digest_file(content)
    if digest == pinned:
        return
    size = content.stat().st_size
    check_digest(out, name=path, digest=digest, size=size, etag=received.etag, address=remote.address)
    if pinned and isinstance(source, Mirror):
        log.warning("%s: the mirror has a file of its own, SHA-256 %s; the catalogue knows %s", path, digest, pinned)


def _change(before: Remote, after: Remote | Cached) -> str:
    """In words, how a file of which no digest is known changed while it was fetched; empty if it did not."""
    if isinstance(after, Cached) or (before.size, before.etag) == (after.size, after.etag):
        return ""
    return f"was replaced while it came ({before.size} bytes, ETag {before.etag}; then {after.size}, {after.etag})"


def _from_cache(path: str, cached: Cached, partial: Path) -> Path:
    """A file of the user's hub cache, linked into `partial` and checked."""
    content = _take(cached.file, partial)
    problem = digest_problem(content, cached.digest) if cached.digest else ""
    problem = problem or content_problem(content, path)
    if problem:
        shutil.rmtree(partial, ignore_errors=True)
        raise DataError(f"{path}: {cached.file} in the hub cache {problem}; delete it and run the command again")
    log.info("%s: taken from the hub cache, %s", path, cached.file)
    return content


def _take(file: Path, partial: Path) -> Path:
    """A file of this machine, linked or copied into `partial` in place of what a download left there."""
    shutil.rmtree(partial, ignore_errors=True)
    link_or_copy(file, partial / _CONTENT)
    return partial / _CONTENT


def _copy_bundle(source: Path, target: Path) -> None:
    folder = source / BUNDLE
    if not folder.is_dir():
        raise DataError(f"{folder} does not exist; expected the folder inside eval_bundle.zip there")
    shutil.copytree(folder, target, copy_function=link_or_copy)


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
