"""One file over HTTP: resumed, retried, its size checked, with log lines of progress.

The hub's own library moves bytes into a file of a random name that it deletes on failure and never finds again after
a kill (huggingface_hub 2.4), and does not try again when a connection is reset; so bytes of the hub come this way too.
"""

import http.client
import json
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from email.message import Message
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from nanochat.data.disk import check_room, full_disk
from nanochat.data.progress import Progress
from nanochat.data.retry import RETRIED_STATUS, Patience, Retry, TransientError, waiting_time
from nanochat.errors import DataError

_CHUNK = 1 << 18


@dataclass(frozen=True)
class Remote:
    """A file on a server, and what is known of it before the first byte."""

    name: str
    """What messages call it."""
    address: str
    size: int | None = None
    """Bytes, where known."""
    digest: str | None = None
    """SHA-256 (64 hex digits) or a git blob's SHA-1 (40), where known. Bytes on disk are continued for it only."""
    etag: str | None = None
    """ETag before the first byte, where known."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Of the request. `Authorization` goes to the address's own host, not to one it redirects to."""


@dataclass(frozen=True)
class Received:
    """What the server said of the content."""

    digest: str | None = None
    """Of `Remote.digest`, for which these bytes were fetched."""
    etag: str | None = None
    """Strong ETag, without quotes."""
    server: str | None = None


class RefusedError(DataError):
    """The server answered that it will not send the file; `status` is its code."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class ChangedError(DataError):
    """The file at the address is not the one that was announced before."""


def download(remote: Remote, target: Path, retry: Retry | None = None) -> Received:
    """Download a file to `target`, going on where an earlier call or process was cut off.

    The partial file is `target` itself, with a note beside it of what it is a part of: with a known digest it is
    continued for the same digest; without, by the strong ETag that it had, if the server still has that (`If-Range`,
    RFC 9110). With neither, every try starts at the first byte: the rest might be that of another version. A date
    (`Last-Modified`) does not help: it counts whole seconds, and may be the same for two versions.

    Raises:
        RefusedError: if the server answers that there is no such file, or that it is not for everyone.
        ChangedError: if the server sends another size than `remote.size`.
        DataError: if the tries are used up or the disk is full; what arrived is kept.
    """
    retry = retry or Retry()
    target.parent.mkdir(parents=True, exist_ok=True)
    note = target.with_name(target.name + ".json")
    _drop_other_content(remote, target, note)
    patience = Patience(remote.name, retry)
    progress = Progress(remote.name, _size(target), retry)
    farthest = _size(target)
    while True:
        try:
            if not (remote.digest and target.exists() and _size(target) == remote.size):
                _attempt(remote, target, note, retry, progress)
            progress.finish(_size(target))
            return _read_note(note) or Received()
        except TransientError as error:
            reached = _size(target)
            if reached >= farthest + retry.least_bytes:
                farthest = reached
                patience.progressed()
            _drop_other_content(remote, target, note)
            patience.failed(error, f"{_size(target):,} bytes are kept in {target}" if _size(target) else "")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _read_note(note: Path) -> Received | None:
    try:
        return Received(**json.loads(note.read_text()))
    except (OSError, ValueError, TypeError):  # none, or torn by a kill
        return None


def _drop_other_content(remote: Remote, target: Path, note: Path) -> None:
    """Remove a partial file that cannot be told to be of the version that the server has now."""
    known = _read_note(note)
    continues = known is not None and (known.digest == remote.digest if remote.digest else known.etag is not None)
    if not continues or (remote.size is not None and _size(target) > remote.size):
        _drop(target, note)


def _drop(target: Path, note: Path) -> None:
    target.unlink(missing_ok=True)
    note.unlink(missing_ok=True)


def _attempt(remote: Remote, target: Path, note: Path, retry: Retry, progress: Progress) -> None:
    have = _size(target)
    known = _read_note(note)
    request = urllib.request.Request(remote.address, headers={"Accept-Encoding": "identity", "User-Agent": "nanochat"})
    for key, value in remote.headers.items():
        if key.lower() == "authorization":
            request.add_unredirected_header(key, value)
        else:
            request.add_header(key, value)
    if have:
        request.add_header("Range", f"bytes={have}-")
        if not remote.digest and known and known.etag:
            request.add_header("If-Range", f'"{known.etag}"')
    try:
        answer = urllib.request.build_opener(_Redirects).open(request, timeout=retry.timeout_s)
    except urllib.error.HTTPError as error:
        error.close()
        _judge(remote, error, target, note, have)
        return  # everything is here already
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise DataError(
                f"{remote.name}: the certificate of {urlsplit(remote.address).hostname} is not trusted "
                f"({error.reason.verify_message}); behind a company's proxy, point SSL_CERT_FILE at its certificates"
            ) from None
        raise TransientError(str(error.reason) or "no connection") from None
    except (http.client.HTTPException, OSError) as error:
        raise TransientError(_words(error)) from None
    with answer:
        _receive(remote, answer, target, note, have, progress)


def _judge(remote: Remote, error: urllib.error.HTTPError, target: Path, note: Path, have: int) -> None:
    """Raise what an answer of failure means; return where it means that nothing is missing."""
    answered = f"{urlsplit(error.url).hostname} answered {error.code} {error.reason}"
    if error.code == 416:
        total = re.fullmatch(r"bytes \*/(\d+)", error.headers.get("Content-Range") or "")
        if have and total and int(total[1]) == have and remote.size in (None, have):
            return
        _drop(target, note)
        raise TransientError(f"{answered}: the partial file is of another version and is dropped")
    if error.code in RETRIED_STATUS:
        raise TransientError(answered, waiting_time(error.headers))
    if _origin(error.url) != _origin(remote.address) and 400 <= error.code < 500:
        # A signed address of the storage behind the hub, which expired: the hub gives a new one.
        raise TransientError(answered)
    raise RefusedError(f"{remote.name}: {answered} for {remote.address}", error.code)


def _receive(
    remote: Remote, answer: http.client.HTTPResponse, target: Path, note: Path, have: int, progress: Progress
) -> None:
    if "text/html" in (answer.headers.get("Content-Type") or ""):
        raise TransientError("a web page came instead of the file (the sign-in page of this network?)")
    if (answer.headers.get("Content-Encoding") or "identity").lower() != "identity":
        raise TransientError(f"the file came as {answer.headers['Content-Encoding']}, expected it as it is")
    begin = have if answer.status == 206 else 0
    known = _read_note(note)
    if begin and not remote.digest and known and known.etag != _received(remote, answer.headers).etag:
        _drop(target, note)  # a server that knows ranges, but not If-Range
        raise TransientError("the rest of another version came; the partial file is dropped")
    total = _total(remote, answer, begin)
    if remote.size is not None and total is not None and total != remote.size:
        raise ChangedError(f"{remote.name} now has {total:,} bytes, announced were {remote.size:,}")
    if total is None and remote.size is None and not remote.digest and not answer.chunked:
        raise TransientError("the server does not say how long the file is, so a cut one could not be told")
    total = total if total is not None else remote.size
    if begin == 0:
        # Before the first byte, so that bytes without a note, which nobody could place, cannot exist.
        target.unlink(missing_ok=True)
        note.write_text(json.dumps(asdict(_received(remote, answer.headers))))
    if total is not None:
        check_room(target.parent, total - begin, remote.name)
    progress.start(begin, total)
    with target.open("ab", buffering=0) as file:
        position = begin
        while total is None or position < total:
            try:
                chunk = answer.read1(_CHUNK)
            except (http.client.HTTPException, OSError) as error:
                raise TransientError(_words(error)) from None
            if not chunk:
                break
            position += _write(file, chunk, remote.name, target)
            progress.at(position)
    if total is not None and position > total:
        target.unlink()
    if total is not None and position != total:
        raise TransientError(f"the connection ended at byte {position:,} of {total:,}")


def _write(file: IO[bytes], chunk: bytes, name: str, target: Path) -> int:
    view = memoryview(chunk)
    try:
        while view:
            view = view[file.write(view) :]
    except OSError as error:
        raise full_disk(error, name, target) from None
    return len(chunk)


def _received(remote: Remote, headers: Message) -> Received:
    etag = headers.get("ETag") or ""
    strong = re.fullmatch(r'"([^"]*)"', etag)
    return Received(digest=remote.digest, etag=strong[1] if strong else None, server=headers.get("Server"))


def _total(remote: Remote, answer: http.client.HTTPResponse, begin: int) -> int | None:
    """Bytes of the whole file, as this answer states them."""
    if answer.status == 206:
        given = answer.headers.get("Content-Range")
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", given or "")
        if not match or int(match[1]) != begin:
            raise DataError(f"{remote.name}: the range {given!r} came from {remote.address}, expected one from {begin}")
        return int(match[2])
    length = answer.headers.get("Content-Length")
    return int(length) if length is not None and length.isdigit() else None


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "the server fell silent"
    if isinstance(error, http.client.IncompleteRead):
        return "the connection ended early"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _origin(address: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(address)
    return parts.scheme, parts.hostname, parts.port


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects; a token goes along within one host only."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        """The request for the new address."""
        following = super().redirect_request(req, fp, code, msg, headers, newurl)
        if following is not None and _origin(newurl) == _origin(req.full_url):
            for key, value in req.unredirected_hdrs.items():
                if key.lower() == "authorization":
                    following.add_unredirected_header(key, value)
        return following
