"""What can be said of a downloaded file: by the digest that its server states, by its looks."""

import hashlib
from pathlib import Path

from nanochat.artifact import digest_file
from nanochat.data.archive import check_zip
from nanochat.data.disk import BUNDLE
from nanochat.data.download import Received, Remote
from nanochat.data.shards import check_parquet
from nanochat.errors import DataError


def stated_digest(remote: Remote, received: Received) -> str | None:
    """The digest of the content that the server vouches for: SHA-256, a git blob's SHA-1, or S3's MD5."""
    if remote.digest:
        return remote.digest
    # S3's ETag of what was uploaded in one part; of several parts it has a dash.
    return received.etag if received.server == "AmazonS3" and received.etag and len(received.etag) == 32 else None


def digest_problem(file: Path, stated: str) -> str:
    """In words, how the content differs from a digest of 64, 40 or 32 hex digits; empty if it does not."""
    if len(stated) == 64:
        found = digest_file(file)
    elif len(stated) == 40:
        found = _hash(file, "sha1", b"blob %d\0" % file.stat().st_size)
    else:
        found = _hash(file, "md5")
    return "" if found == stated else f"has the digest {found[:12]}…, the server says {stated[:12]}…"


def content_problem(file: Path, path: str) -> str:
    """In words, what is wrong with the file of a path of the catalogue by its looks; empty if nothing is."""
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


def _hash(file: Path, kind: str, head: bytes = b"") -> str:
    total = hashlib.new(kind, head, usedforsecurity=False)
    with file.open("rb") as content:
        while block := content.read(1 << 20):
            total.update(block)
    return total.hexdigest()
