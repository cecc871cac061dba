"""Where files are fetched from: the public hubs, a mirror of them on a server, or a folder laid out like them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from nanochat.errors import DataError


@dataclass(frozen=True)
class Mirror:
    """A server with the hub's files: what it has is what there is, so it is asked for `main`, never for a pin.

    It serves `<address>/datasets/<owner>/<name>/resolve/main/<file>` the way the hub does, and the plain files at
    `<address>/files/<name>` and `<address>/eval_bundle.zip`.
    """

    address: str

    def __str__(self) -> str:
        return self.address


Source = Literal["hub"] | Mirror | Path


def parse_source(text: str) -> Source:
    """The source that `data.source` means: `hub`, an `http(s)://` address, or else the path of a folder.

    Raises:
        DataError: if an address has no host, or carries a password that would end up in logs and reports.
    """
    if text == "hub":
        return "hub"
    if not text.lower().startswith(("http://", "https://")):
        return Path(text)
    parts = urlsplit(text)
    if not parts.hostname:
        raise DataError(f"data.source = {text}: expected the address of a mirror, as https://host/folder")
    if parts.username or parts.password:
        raise DataError(
            f"data.source: the address of {parts.hostname} holds a user name or password, which would be logged; "
            "expected an address without"
        )
    return Mirror(text.rstrip("/"))
