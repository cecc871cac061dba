"""One file over HTTP for addresses outside of the hub: resumed, retried, its size checked."""

import contextlib
import http.client
import json
import logging
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nanochat.errors import DataError

log = logging.getLogger(__name__)

_CHUNK = 1 << 20
_RETRIED_STATUS = {408, 425, 429, 500, 502, 503, 504}


class _TransientError(Exception):
    """A try that may succeed when made again."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


@dataclass(frozen=True)
class Retry:
    """How often and after what pauses a download is tried again."""

    attempts: int = 5
    """Tries that bring no new byte before giving up."""
    first_pause_s: float = 1.0
    """Pause after the first of them; doubled each time."""
    timeout_s: float = 30.0
    """Longest silence of the server."""
    sleep: Callable[[float], None] = time.sleep


def download(address: str, target: Path, retry: Retry | None = None) -> None:
    """Download `address` to `target`, going on where an earlier call was cut off.

    The partial file is `target` itself, with the server's ETag beside it; a changed file starts afresh.

    Raises:
        DataError: if the server refuses, the tries are used up, or the size is not what the server announced.
    """
    retry = retry or Retry()
    target.parent.mkdir(parents=True, exist_ok=True)
    failures = 0
    while True:
        before = _size(target)
        try:
            _attempt(address, target, retry.timeout_s)
            target.with_name(target.name + ".etag").unlink(missing_ok=True)
            return
        except urllib.error.HTTPError as error:
            if error.code == 416:  # the partial file is longer than the remote one: it is another file
                target.unlink(missing_ok=True)
            elif error.code not in _RETRIED_STATUS:
                raise DataError(
                    f"{address} answered {error.code} {error.reason}; check the address in config/catalogue.yaml, or "
                    "use a local folder with data.source"
                ) from None
            reason = _TransientError(f"answered {error.code} {error.reason}", _retry_after(error))
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            reason = _TransientError(str(getattr(error, "reason", error)) or type(error).__name__)
        except _TransientError as error:
            reason = error
        found = _size(target)
        failures = 1 if found > before else failures + 1
        if failures >= retry.attempts:
            raise DataError(
                f"{address}: {reason} ({found:,} bytes are kept in {target}, {retry.attempts} tries); run the same "
                "command again to go on, or use a local folder with data.source"
            ) from None
        pause = reason.wait_s if reason.wait_s is not None else retry.first_pause_s * 2 ** (failures - 1)
        log.warning("%s: %s; trying again in %.0f s", address, reason, pause)
        retry.sleep(pause)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _retry_after(error: urllib.error.HTTPError) -> float | None:
    with contextlib.suppress(TypeError, ValueError):
        return min(300.0, float(error.headers.get("Retry-After")))
    return None


def _attempt(address: str, target: Path, timeout_s: float) -> None:
    note = target.with_name(target.name + ".etag")
    known = json.loads(note.read_text()) if note.exists() else None
    have = _size(target) if known else 0
    headers = {"Accept-Encoding": "identity", "User-Agent": "nanochat-workflow"}
    if have:
        # If-Range: the server sends the whole file where it has changed since.
        headers |= {"Range": f"bytes={have}-", "If-Range": known}
    with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=timeout_s) as answer:
        resumed = answer.status == 206
        total = _total(answer, have if resumed else 0)
        etag = answer.headers.get("ETag")
        if etag and not etag.startswith("W/"):
            note.write_text(json.dumps(etag))
        else:
            note.unlink(missing_ok=True)
        with target.open("ab" if resumed else "wb") as file:
            while chunk := answer.read(_CHUNK):
                file.write(chunk)
    found = _size(target)
    if total is not None and found > total:
        target.unlink()
    if total is not None and found != total:
        raise _TransientError(f"{found:,} bytes arrived, expected {total:,}")


def _total(answer: http.client.HTTPResponse, begin: int) -> int | None:
    if answer.status == 206:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
        if not match or int(match[1]) != begin:
            raise DataError(
                f"{answer.url} sent the range {answer.headers.get('Content-Range')!r}, expected one from {begin}"
            )
        return int(match[2])
    length = answer.headers.get("Content-Length")
    return int(length) if length is not None else None
