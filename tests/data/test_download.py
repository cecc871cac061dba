import http.server
import threading

import pytest

from nanochat.data.download import Retry, download
from nanochat.errors import DataError

CONTENT = bytes(range(256)) * 400


class Server:
    """A loopback server whose answers are taken from a list of behaviours, the last one repeated."""

    def __init__(self, *behaviours, etag='"v1"', content=CONTENT):
        self.requests = []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                server.requests.append(dict(self.headers))
                number = min(len(server.requests), len(behaviours)) - 1
                behaviours[number](self)

            def log_message(self, *arguments):
                pass

            def send(self, cut=None, ranges=True, status=200):
                begin = 0
                asked = self.headers.get("Range")
                if asked and ranges and self.headers.get("If-Range") == server.etag:
                    begin = int(asked.removeprefix("bytes=").removesuffix("-"))
                    status = 206
                self.send_response(status)
                if server.etag:
                    self.send_header("ETag", server.etag)
                if status == 206:
                    self.send_header("Content-Range", f"bytes {begin}-{len(server.content) - 1}/{len(server.content)}")
                body = server.content[begin:]
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[:cut])

        self.etag = etag
        self.content = content
        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    @property
    def address(self):
        return f"http://127.0.0.1:{self._http.server_port}/file"


def whole(handler):
    handler.send()


def cut(handler):
    handler.send(cut=30_000)


def without_ranges(handler):
    handler.send(ranges=False)


def status(code):
    return lambda handler: handler.send_error(code)


def retry(pauses=None, attempts=3):
    return Retry(attempts=attempts, timeout_s=5.0, sleep=(pauses if pauses is not None else []).append)


def test_a_file_arrives_whole(tmp_path):
    with Server(whole) as server:
        download(server.address, tmp_path / "file", retry())
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_cut_transfer_goes_on_where_it_stopped(tmp_path):
    pauses = []
    with Server(cut, cut, whole) as server:
        download(server.address, tmp_path / "file", retry(pauses))
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert [asked.get("Range") for asked in server.requests] == [None, "bytes=30000-", "bytes=60000-"]
    assert pauses == [1.0, 1.0]  # bytes came, so patience starts anew


def test_a_server_without_ranges_starts_afresh(tmp_path):
    with Server(cut, without_ranges) as server:
        download(server.address, tmp_path / "file", retry())
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_another_version_of_the_file_starts_afresh(tmp_path):
    with Server(cut) as server, pytest.raises(DataError, match="expected 102,400"):
        download(server.address, tmp_path / "file", retry(attempts=1))
    with Server(whole, etag='"v2"', content=CONTENT[::-1]) as server:
        download(server.address, tmp_path / "file", retry())
    assert (tmp_path / "file").read_bytes() == CONTENT[::-1]


def test_a_later_call_goes_on(tmp_path):
    with Server(cut) as server, pytest.raises(DataError, match=r"30,000 bytes are kept.*same command again"):
        download(server.address, tmp_path / "file", retry(attempts=1))
    with Server(whole) as server:
        download(server.address, tmp_path / "file", retry())
    assert server.requests[0]["Range"] == "bytes=30000-"
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_busy_server_is_asked_again_with_growing_pauses(tmp_path):
    pauses = []
    with Server(status(503), status(429), whole) as server:
        download(server.address, tmp_path / "file", retry(pauses))
    assert pauses == [1.0, 2.0]
    with Server(status(503)) as server, pytest.raises(DataError, match="answered 503"):
        download(server.address, tmp_path / "other", retry())
    assert len(server.requests) == 3


def test_a_missing_file_is_not_asked_for_twice(tmp_path):
    with Server(status(404)) as server, pytest.raises(DataError, match=r"404.*check the address"):
        download(server.address, tmp_path / "file", retry())
    assert len(server.requests) == 1
    assert not (tmp_path / "file").exists()


def test_no_server_is_a_clear_error(tmp_path):
    with Server(whole) as server:
        address = server.address
    with pytest.raises(DataError, match=r"refused.*local folder"):
        download(address, tmp_path / "file", retry(attempts=2))
