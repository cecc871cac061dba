"""Files of the catalogue from where they are: the public hubs, or a folder laid out like them.

A fetched file appears at its place complete and checked, or not at all. Partial downloads lie in
`<folder of the file>/.partial/<name>/`, outside of what Snakemake deletes after a failed job, so that they resume.
"""

import errno
import hashlib
import logging
import os
import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Literal

from nanochat.artifact import digest_file
from nanochat.config import Catalogue
from nanochat.data.download import download
from nanochat.data.shards import check_parquet
from nanochat.errors import DataError

log = logging.getLogger(__name__)

Source = Literal["hub"] | Path
BUNDLE = "eval_bundle"
_BUNDLE_LIMIT_BYTES = 8 << 30  # the public bundle unpacks to 0.2 GB; a zip bomb does not


def fetch(path: str, *, source: Source, out: Path, catalogue: Catalogue) -> None:
    """Bring one file to `out`, atomically.

    Args:
        path: below the data folder, as in the catalogue: `datasets/<owner>/<name>/<file>` or `files/<file>`.
        source: `hub`, or a folder laid out like the hub, from which files are hard-linked (copied over file systems).
        out: where the file goes.
        catalogue: revisions of data sets, and addresses of the files that are not on the hub.

    Raises:
        DataError: if the file is not there, truncated or of another digest; nothing is left at `out`.
    """
    _check_relative(path)
    partial = out.parent / ".partial" / out.name
    temporary = partial.with_name(f"{out.name}.{os.getpid()}.tmp")
    temporary.parent.mkdir(parents=True, exist_ok=True)
    try:
        if source != "hub":
            _link_or_copy(_in_folder(Path(source), path), temporary)
        elif path.startswith("datasets/"):
            _from_hub(path, partial, catalogue).replace(temporary)
        else:
            _from_address(path, partial, catalogue).replace(temporary)
        try:
            _check_content(temporary, path)
        except DataError as error:
            where = "the hub" if source == "hub" else Path(source) / path
            shutil.rmtree(partial, ignore_errors=True)
            raise DataError(f"{path} from {where} is damaged: {error}".replace(str(temporary), out.name)) from None
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)
    shutil.rmtree(partial, ignore_errors=True)
    _remove_if_empty(partial.parent)


def fetch_bundle(*, source: Source, out: Path, catalogue: Catalogue) -> None:
    """Bring the CORE-format evaluation bundle to the directory `out`, atomically.

    Raises:
        DataError: if it is not there, damaged, or holds no core.yaml and eval_data.
    """
    partial = out.parent / ".partial" / out.name
    temporary = out.parent / ".partial" / f"{out.name}.{os.getpid()}.tmp"
    temporary.parent.mkdir(parents=True, exist_ok=True)
    try:
        if source != "hub":
            folder = Path(source) / BUNDLE
            if not folder.is_dir():
                raise DataError(f"{folder} does not exist; expected the folder inside eval_bundle.zip there")
            shutil.copytree(folder, temporary, copy_function=lambda a, b: _link_or_copy(Path(a), Path(b)))
        else:
            archive = _from_address(BUNDLE, partial, catalogue)
            try:
                _unzip(archive, temporary)
            except DataError:
                shutil.rmtree(partial, ignore_errors=True)
                raise
        root = temporary if (temporary / "core.yaml").is_file() else temporary / BUNDLE
        if not (root / "core.yaml").is_file() or not (root / "eval_data").is_dir():
            raise DataError(f"the evaluation bundle from {source} holds no core.yaml beside eval_data/; expected both")
        if out.is_dir():
            shutil.rmtree(out)
        root.replace(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    shutil.rmtree(partial, ignore_errors=True)
    _remove_if_empty(partial.parent)


def _check_relative(path: str) -> None:
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts or parts.parts[:1] not in (("datasets",), ("files",)):
        raise DataError(
            f"{path}: expected a path below the data folder, datasets/<owner>/<name>/<file> or files/<file>"
        )


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        log.debug("%s holds other downloads", folder)


def _in_folder(source: Path, path: str) -> Path:
    file = source / path
    if not file.is_file():
        state = "has no such file" if source.is_dir() else "is not a folder"
        raise DataError(f"{path}: {source} {state}; expected a folder laid out like the hub (data.source)")
    return file.resolve()


def _link_or_copy(source: Path, target: Path) -> None:
    """Hard-link where the file system allows it; a link into a mirror would break when the mirror moves."""
    source = source.resolve()
    try:
        target.hardlink_to(source)
    except OSError:  # another file system, or one that forbids it
        try:
            shutil.copyfile(source, target)
        except OSError as error:  # a full disk is the target's, though the error names the source
            raise OSError(error.errno, error.strerror, str(target)) from None
    expected, found = source.stat().st_size, target.stat().st_size
    if expected != found:
        raise DataError(f"{target} has {found:,} bytes, {source} has {expected:,}; is the disk full?")


def _check_content(file: Path, path: str) -> None:
    if path.endswith(".parquet"):
        check_parquet(file)
    elif file.stat().st_size == 0:
        raise DataError(f"{file} is empty; expected content")


def _revision(path: str, repository: str, catalogue: Catalogue) -> str:
    for corpus in catalogue.corpora.values():
        if corpus.repo == repository:
            return corpus.revision
    for task in catalogue.tasks.values():
        if path in (*task.train, *task.test):
            return task.revision
    return "main"


def _from_hub(path: str, partial: Path, catalogue: Catalogue) -> Path:
    """Download with huggingface_hub, which resumes, retries, and honours HF_ENDPOINT, HF_TOKEN and offline mode."""
    try:
        from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    except ImportError as error:
        raise DataError(f"{path}: downloads need the package huggingface_hub ({error}); install it") from None
    _, owner, name, *rest = path.split("/")
    repository, file = f"{owner}/{name}", "/".join(rest)
    revision = _revision(path, repository, catalogue)
    address = hf_hub_url(repository, file, repo_type="dataset", revision=revision)
    try:
        metadata = get_hf_file_metadata(address)
        # The commit of the answer, so that the file and the digest it is checked with are of one version.
        found = Path(
            hf_hub_download(
                repository,
                file,
                repo_type="dataset",
                revision=metadata.commit_hash or revision,
                local_dir=partial,
            )
        )
    except Exception as error:  # the library's own, its HTTP client's (which one changes by version), or the disk's
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES):
            raise
        raise DataError(
            f"{path}: cannot be fetched from {address} ({str(error).splitlines()[0]}); run the same command again to "
            "go on where it stopped, or use a local folder with data.source"
        ) from None
    size = found.stat().st_size
    digest = _digest_like(metadata.etag, found)
    if metadata.size is not None and size != metadata.size:
        problem = f"has {size:,} bytes, the hub says {metadata.size:,}"
    elif digest is not None and digest != metadata.etag:
        problem = f"has the digest {digest[:12]}…, the hub says {str(metadata.etag)[:12]}…"
    else:
        return found
    shutil.rmtree(partial, ignore_errors=True)
    raise DataError(f"{path} {problem}; the download was damaged and is removed: run the same command again")


def _digest_like(etag: str | None, file: Path) -> str | None:
    """Digest of the kind the hub's ETag is: SHA-256 for large files, a git blob's SHA-1 for small ones."""
    if etag and len(etag) == 64:
        return digest_file(file)
    if etag and len(etag) == 40:
        content = file.read_bytes()
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    return None


def _from_address(path: str, partial: Path, catalogue: Catalogue) -> Path:
    if path not in catalogue.urls:
        known = ", ".join(catalogue.urls)
        raise DataError(f"{path} has no address in the catalogue (it knows {known}); use a local folder (data.source)")
    target = partial / "content"
    download(catalogue.urls[path], target)
    return target


def _unzip(archive: Path, folder: Path) -> None:
    """Unpack regular files only, none outside of `folder`; zipfile checks every file's CRC."""
    try:
        with zipfile.ZipFile(archive) as file:
            members = [member for member in file.infolist() if not member.is_dir()]
            total = sum(member.file_size for member in members)
            if total > _BUNDLE_LIMIT_BYTES:
                raise DataError(f"{archive} unpacks to {total:,} bytes, expected at most {_BUNDLE_LIMIT_BYTES:,}")
            for member in members:
                name = PurePosixPath(member.filename)
                kind = stat.S_IFMT(member.external_attr >> 16)
                if name.is_absolute() or ".." in name.parts or kind not in (0, stat.S_IFREG):
                    raise DataError(f"{archive} holds {member.filename!r}; expected plain files inside one folder")
                file.extract(member, folder)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's fault, not the archive's
        raise DataError(f"{archive} is no readable zip ({error}); run the same command again") from None
