"""A server for tests that serves a folder laid out like the hub the way the hub does, and misbehaves on demand.

    with HubServer(folder, faults=Faults(scripted={"files/words.txt": ["cut", "503"]})) as server:
        fetch("files/words.txt", source=Mirror(server.address), …)

Large files (and all parquet ones) answer 302 with `X-Linked-Etag` (SHA-256), `X-Linked-Size` and `X-Repo-Commit`, to a
signed address that serves once, on a second port under another host name: the "CDN". Small ones come directly, with a
git blob's SHA-1 as ETag. `/eval_bundle.zip` is the zipped folder, `/files/…` are plain files, both as S3 serves them.

With `etags="dated"` it is an ordinary web server instead, which sends all files directly, with an ETag that tells one
version from another and nothing of the content; with `etags="none"` one that sends no ETag at all.
"""

import hashlib
import http.server
import io
import random
import re
import socket
import struct
import threading
import time
import zipfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pyarrow.parquet as pq

LFS_BYTES = 10_000
# Faults of a GET of content, of the address that leads to it, and of both.
CONTENT_FAULTS = ("cut", "reset", "stall", "wrong", "no-range", "expired", "hold", "no-length", "page", "trickle")
ANY_FAULTS = ("429", "429-retry-after", "429-ratelimit", "503", "change", "401", "403", "404")


@dataclass
class Faults:
    """What goes wrong.

    `scripted` holds, for each path below the data folder, faults of its coming requests in order; `always` one fault
    for every request. `rates` are chances of a fault for each request of any path, drawn from `seed`, the path and the
    request's number; after `limit` of them a path is left alone, and after two of them that spoil its content
    (`wrong`, `change`) of those.
    """

    scripted: dict[str, list[str]] = field(default_factory=dict)
    always: dict[str, str] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    seed: int = 0
    limit: int = 6


class HubServer:
    """A running server; `address` is what `data.source` or HF_ENDPOINT takes."""

    def __init__(
        self,
        folder: Path,
        faults: Faults | None = None,
        *,
        stall_s: float = 2.0,
        etags: Literal["digest", "dated", "none"] = "digest",
    ) -> None:
        self.folder = folder
        self.etags = etags
        self.heeds_if_range = True
        self.faults = faults or Faults()
        self.stall_s = stall_s
        self.sent: Counter[str] = Counter()
        """Path → bytes of content sent."""
        self.happened: Counter[str] = Counter()
        """Fault → times it was served."""
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        """Method and path (`cdn:` before it where the CDN was asked), and headers."""
        self.holding = threading.Event()
        """Set while a `hold` has sent half of a file."""
        self._closing = threading.Event()
        self._changed: dict[str, bytes] = {}
        self._versions: dict[str, list[bytes]] = {}
        self._spoiled: Counter[str] = Counter()
        self._drawn: Counter[str] = Counter()
        self._faulty: Counter[str] = Counter()
        self._signatures: dict[str, str] = {}
        self._zipped: bytes | None = None
        self._lock = threading.Lock()
        self._servers = [_Http(("127.0.0.1", 0), self, cdn) for cdn in (False, True)]
        self._threads = [
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
            for server in self._servers
        ]

    def __enter__(self) -> "HubServer":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._closing.set()
        for server, thread in zip(self._servers, self._threads, strict=True):
            server.shutdown()
            thread.join()
            server.server_close()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._servers[0].server_port}"

    @property
    def cdn(self) -> str:
        return f"http://localhost:{self._servers[1].server_port}"

    def authorizations(self, cdn: bool) -> set[str | None]:
        """Values of the Authorization header that the hub, or the CDN, was sent."""
        return {headers.get("authorization") for _, path, headers in self.requests if path.startswith("cdn:") == cdn}

    def content(self, path: str) -> bytes | None:
        """What is at a path below the data folder now."""
        if path in self._changed:
            return self._changed[path]
        if path == "eval_bundle":
            return self._bundle()
        file = self.folder / path
        return file.read_bytes() if file.is_file() and ".." not in path else None

    def versions(self, path: str) -> list[bytes]:
        """All contents that a path had so far, the present one last."""
        now = self.content(path)
        return [*self._versions.get(path, []), *([] if now is None else [now])]

    def commit(self, path: str) -> str:
        """The commit that the data set of a path is at now."""
        repository = "/".join(path.split("/")[:3])
        versions = [hashlib.sha1(v).hexdigest() for p, v in sorted(self._changed.items()) if p.startswith(repository)]
        return hashlib.sha1(":".join([repository, *versions]).encode()).hexdigest()

    def version_headers(self, path: str, digest: str) -> dict[str, str]:
        """What tells the present version of a file from another: its digest, where the server states digests."""
        dated = f"{len(self._versions.get(path, [])):x}-{len(self.content(path) or b''):x}"
        return {} if self.etags == "none" else {"ETag": f'"{digest if self.etags == "digest" else dated}"'}

    def change(self, path: str) -> None:
        """Another version of a file, as if its publisher had replaced it."""
        before = self.content(path)
        assert before is not None
        with self._lock:
            self._versions.setdefault(path, []).append(before)
            if path.endswith(".parquet"):
                table = pq.read_table(io.BytesIO(before))
                changed = io.BytesIO()
                pq.write_table(table.take(list(range(table.num_rows))[::-1]), changed, row_group_size=1024)
                self._changed[path] = changed.getvalue()
            else:
                self._changed[path] = before[::-1]

    def _bundle(self) -> bytes | None:
        root = self.folder / "eval_bundle"
        if self._zipped is None and root.is_dir():
            packed = io.BytesIO()
            with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
                for file in sorted(root.rglob("*")):
                    if file.is_file():
                        archive.writestr(f"eval_bundle/{file.relative_to(root)}", file.read_bytes())
            self._zipped = packed.getvalue()
        return self._zipped

    def _fault(self, path: str, has_content: bool) -> str | None:
        """The fault of this request, if any."""
        allowed = (*ANY_FAULTS, *CONTENT_FAULTS) if has_content else ANY_FAULTS
        with self._lock:
            fault = self.faults.always.get(path)
            script = self.faults.scripted.get(path)
            if fault is None and script and script[0] in allowed:
                fault = script.pop(0)
            if fault is None and self.faults.rates and self._faulty[path] < self.faults.limit:
                number = self._drawn[path]
                self._drawn[path] += 1
                draw = random.Random(f"{self.faults.seed}:{path}:{number}").random()
                for name, rate in self.faults.rates.items():
                    if draw < rate:
                        fault = name
                        break
                    draw -= rate
                if fault in ("wrong", "change") and self._spoiled[path] >= 2:
                    fault = None
                if fault in allowed:
                    self._faulty[path] += 1
                    self._spoiled[path] += fault in ("wrong", "change")
            if fault not in allowed:
                return None
            self.happened[fault] += 1
        return fault

    def _sign(self, path: str) -> str:
        with self._lock:
            signature = hashlib.sha256(f"{path}:{len(self._signatures)}".encode()).hexdigest()[:16]
            self._signatures[signature] = path
        return signature

    def _redeem(self, signature: str) -> str | None:
        with self._lock:
            return self._signatures.pop(signature, None)


class _Http(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], hub: HubServer, cdn: bool) -> None:
        super().__init__(address, _Handler)
        self.hub = hub
        self.cdn = cdn

    def handle_error(self, request, client_address) -> None:
        """A client that hangs up is part of the tests."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Http

    def log_message(self, *arguments: object) -> None:
        pass

    def version_string(self) -> str:
        """The Server header: plain files lie on S3, whose ETag is the MD5."""
        if self.server.hub.etags != "digest":
            return "web"
        return "storage" if self.path.startswith("/datasets/") or self.server.cdn else "AmazonS3"

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        hub = self.server.hub
        name = ("cdn:" if self.server.cdn else "") + self.path.partition("?")[0]
        hub.requests.append((self.command, name, {key.lower(): value for key, value in self.headers.items()}))
        if self.server.cdn:
            self._cdn()
            return
        match = re.fullmatch(r"/(datasets/[^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path)
        if match:
            self._resolve(f"{match[1]}/{match[3]}", match[2], body)
        else:
            path = "eval_bundle" if self.path == "/eval_bundle.zip" else self.path.lstrip("/")
            content = hub.content(path) if path == "eval_bundle" or path.startswith("files/") else None
            fault = hub._fault(path, has_content=body)
            if self._refused(path, content, fault):
                return
            etag = hashlib.md5(hub.content(path)).hexdigest()
            self._content(path, hub.version_headers(path, etag), fault, body)

    def _resolve(self, path: str, revision: str, body: bool) -> None:
        hub = self.server.hub
        content = hub.content(path)
        large = content is not None and (len(content) >= LFS_BYTES or path.endswith(".parquet"))
        large = large and hub.etags == "digest"
        fault = hub._fault(path, has_content=body and not large)
        if self._refused(path, content, fault):
            return
        content = hub.content(path)
        commit = hub.commit(path) if revision == "main" else revision
        if hub.etags != "digest":
            self._content(path, hub.version_headers(path, ""), fault, body)
        elif not re.fullmatch(r"[0-9a-f]{40}", commit):
            self._short(404, {"X-Error-Code": "RevisionNotFound"})
        elif large:
            location = f"{hub.cdn}/{path}?signature={hub._sign(path)}"
            headers = {
                "X-Linked-Etag": f'"{hashlib.sha256(content).hexdigest()}"',
                "X-Linked-Size": str(len(content)),
                "X-Repo-Commit": commit,
                "Location": location,
            }
            self._short(302, headers)
        else:
            etag = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            self._content(path, {"ETag": f'"{etag}"', "X-Repo-Commit": commit}, fault, body)

    def _cdn(self) -> None:
        hub = self.server.hub
        path, _, query = self.path.partition("?")
        path = path.lstrip("/")
        signed = hub._redeem(query.removeprefix("signature="))
        fault = hub._fault(path, has_content=True)
        content = hub.content(path)
        if signed != path or fault == "expired":
            self._short(403, {}, b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>")
        elif not self._refused(path, content, fault):
            etag = hashlib.sha256(hub.content(path)).hexdigest()
            self._content(path, {"ETag": f'"{etag}"'}, fault, body=True)

    def _refused(self, path: str, content: bytes | None, fault: str | None) -> bool:
        """Whether an answer without content was sent; a changed file is changed from here on."""
        if content is None or fault == "404":
            self._short(404, {"X-Error-Code": "EntryNotFound"})
        elif fault in ("401", "403"):
            self._short(int(fault), {})
        elif fault == "429":
            self._short(429, {})
        elif fault == "429-retry-after":
            self._short(429, {"Retry-After": "0"})
        elif fault == "429-ratelimit":
            self._short(429, {"RateLimit": '"resolvers";r=0;t=0', "RateLimit-Policy": '"fixed";"resolvers";q=1;w=1'})
        elif fault == "503":
            self._short(503, {})
        else:
            if fault == "change":
                self.server.hub.change(path)
            return False
        return True

    def _short(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def _content(self, path: str, headers: dict[str, str], fault: str | None, body: bool) -> None:
        hub = self.server.hub
        content = hub.content(path)
        begin, status = 0, 200
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        fresh = self.headers.get("If-Range") in (None, headers.get("ETag"))
        if asked and (fresh or not hub.heeds_if_range) and fault != "no-range":
            begin, status = int(asked[1]), 206
            if begin >= len(content):
                self._short(416, {"Content-Range": f"bytes */{len(content)}"})
                return
            headers["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        if fault == "page":
            self._short(200, {"Content-Type": "text/html"}, b"<html>Please sign in</html>")
            return
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        if fault == "no-length":
            self.send_header("Connection", "close")
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(len(content) - begin))
        self.end_headers()
        if body:
            self._send(path, content[begin:], fault)

    def _send(self, path: str, content: bytes, fault: str | None) -> None:
        hub = self.server.hub
        draw = random.Random(f"{hub.faults.seed}:{path}:{len(hub.requests)}")
        if fault == "wrong" and content:
            at = draw.randrange(len(content))
            content = content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]
        if fault == "trickle":  # a hundred bytes one by one, and then the rest at once
            for at in range(min(100, len(content))):
                self._write(path, content[at : at + 1])
                hub._closing.wait(0.02)
            content = content[100:]
        if fault not in ("cut", "reset", "stall", "hold"):
            self._write(path, content)
            return
        self._write(path, content[: len(content) // 2 if fault == "hold" else draw.randrange(len(content) + 1)])
        self.close_connection = True
        if fault == "hold":
            hub.holding.set()
            hub._closing.wait(60)
        elif fault == "stall":
            hub._closing.wait(hub.stall_s)
        elif fault == "reset":
            # Linger of no time: what is not yet sent is dropped, and the client gets a reset instead of an end.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def _write(self, path: str, content: bytes) -> None:
        for begin in range(0, len(content), 1 << 16):
            piece = content[begin : begin + (1 << 16)]
            self.wfile.write(piece)
            self.server.hub.sent[path] += len(piece)
        self.wfile.flush()


if __name__ == "__main__":
    import argparse

    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", type=Path)
    with HubServer(arguments.parse_args().folder) as running:
        print(running.address, flush=True)
        while True:
            time.sleep(3600)
