"""One file over HTTP, byte for byte, whatever the server does."""

import logging

import pytest

from nanochat.data.download import Remote, download
from nanochat.data.retry import Retry, waiting_time
from nanochat.errors import DataError
from tests.data.hub_server import Faults, HubServer

CONTENT = bytes(range(256)) * 400
PATH = "files/content.bin"


@pytest.fixture
def serve(tmp_path):
    """Serves CONTENT with the faults given, in order."""
    folder = tmp_path / "site"
    (folder / "files").mkdir(parents=True)
    (folder / PATH).write_bytes(CONTENT)
    return lambda *faults, **more: HubServer(folder, Faults(scripted={PATH: list(faults)}), stall_s=5, **more)


def remote(server, **more):
    return Remote(name="content.bin", address=f"{server.address}/{PATH}", **more)


def retry(pauses=None, attempts=3, timeout_s=5.0):
    pauses = pauses if pauses is not None else []
    return Retry(attempts=attempts, timeout_s=timeout_s, jitter=0.0, least_bytes=1000, sleep=pauses.append)


def asked_ranges(server):
    return [headers.get("range") for _, _, headers in server.requests]


def test_a_file_arrives_whole(serve, tmp_path):
    with serve() as server:
        download(remote(server), tmp_path / "file", retry())
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_cut_transfer_goes_on_where_it_stopped(serve, tmp_path):
    pauses = []
    with serve("hold", "cut") as server:
        download(remote(server), tmp_path / "file", retry(pauses, timeout_s=0.3))
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert asked_ranges(server)[:2] == [None, f"bytes={len(CONTENT) // 2}-"]
    assert server.sent[PATH] == len(CONTENT)
    assert pauses == [1.0, 1.0]  # bytes came, so patience starts anew


def test_a_reset_connection_is_made_again(serve, tmp_path):
    with serve("reset", "reset") as server:
        download(remote(server), tmp_path / "file", retry())
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_server_without_ranges_starts_afresh(serve, tmp_path):
    with serve("hold", "no-range") as server:
        download(remote(server), tmp_path / "file", retry(timeout_s=0.3))
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert server.sent[PATH] == len(CONTENT) * 3 // 2


def test_another_version_of_the_file_starts_afresh(serve, tmp_path):
    with serve("hold") as server, pytest.raises(DataError, match="fell silent"):
        download(remote(server), tmp_path / "file", retry(attempts=1, timeout_s=0.3))
    with serve("change") as server:
        download(remote(server), tmp_path / "file", retry())
    assert (tmp_path / "file").read_bytes() == CONTENT[::-1]


def test_without_a_way_to_tell_versions_a_cut_transfer_starts_afresh(serve, tmp_path):
    """Of a server without ETags: half of one version and half of the other would be of the right size."""
    with serve("hold", "change", etags="none") as server:
        download(remote(server), tmp_path / "file", retry(timeout_s=0.3))
    assert (tmp_path / "file").read_bytes() == CONTENT[::-1]
    assert asked_ranges(server) == [None, None]
    with serve("hold", etags="none") as server, pytest.raises(DataError, match=r"fell silent \(1 tries"):
        download(remote(server), tmp_path / "other", retry(attempts=1, timeout_s=0.3))
    assert not (tmp_path / "other").exists()  # nothing is left that a later call could go on with


def test_the_rest_of_another_version_is_not_taken_from_a_server_that_ignores_if_range(serve, tmp_path):
    with serve("hold", "change", etags="dated") as server:
        server.heeds_if_range = False
        download(remote(server), tmp_path / "file", retry(timeout_s=0.3))
    assert (tmp_path / "file").read_bytes() == CONTENT[::-1]
    assert asked_ranges(server) == [None, f"bytes={len(CONTENT) // 2}-", None]


def test_a_transfer_that_hardly_moves_is_broken_off(serve, tmp_path):
    hurried = Retry(attempts=2, least_bytes=1000, least_window_s=0.1, jitter=0.0, sleep=lambda pause: None)
    with serve("trickle", "trickle") as server, pytest.raises(DataError, match=r"only \d+ bytes came in .* 2 tries"):
        download(remote(server), tmp_path / "file", hurried)
    kept = (tmp_path / "file").stat().st_size
    assert 0 < kept < 100
    with serve("trickle") as server:
        download(remote(server), tmp_path / "file", hurried)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_another_known_digest_starts_afresh(serve, tmp_path):
    with serve("hold") as server, pytest.raises(DataError, match="fell silent"):
        download(remote(server, digest="a" * 40), tmp_path / "file", retry(attempts=1, timeout_s=0.3))
    with serve() as server:
        download(remote(server, digest="b" * 40), tmp_path / "file", retry())
    assert asked_ranges(server) == [None]
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_later_call_goes_on(serve, tmp_path):
    half = len(CONTENT) // 2
    kept = rf"{half:,} bytes are kept.*same command again"
    with serve("hold") as server, pytest.raises(DataError, match=kept):
        download(remote(server), tmp_path / "file", retry(attempts=1, timeout_s=0.3))
    with serve() as server:
        download(remote(server), tmp_path / "file", retry())
    assert asked_ranges(server) == [f"bytes={half}-"]
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_what_is_whole_is_not_fetched_again(serve, tmp_path):
    with serve() as server:
        for size in (len(CONTENT), len(CONTENT), None):
            download(remote(server, digest="a" * 64, size=size), tmp_path / "file", retry())
    assert server.sent[PATH] == len(CONTENT)
    assert asked_ranges(server) == [None, f"bytes={len(CONTENT)}-"]  # 416: there is no more


def test_a_busy_server_is_asked_again_with_growing_pauses(serve, tmp_path):
    pauses = []
    with serve("503", "429", "429-retry-after", "429-ratelimit") as server:
        download(remote(server), tmp_path / "file", retry(pauses, attempts=5))
    assert pauses == [1.0, 2.0, 0.0, 1.0]
    with serve(*["503"] * 5) as server, pytest.raises(DataError, match="answered 503"):
        download(remote(server), tmp_path / "other", retry())
    assert len(server.requests) == 3


@pytest.mark.parametrize("code", ["401", "403", "404"])
def test_a_refusal_is_not_asked_twice(serve, tmp_path, code):
    with serve(code) as server, pytest.raises(DataError, match=f"answered {code}"):
        download(remote(server), tmp_path / "file", retry())
    assert len(server.requests) == 1
    assert not (tmp_path / "file").exists()


def test_a_page_in_place_of_the_file_is_not_taken(serve, tmp_path):
    with serve("page") as server:
        download(remote(server), tmp_path / "file", retry())
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert len(server.requests) == 2


def test_a_file_of_unannounced_length_needs_a_digest(serve, tmp_path):
    with serve("no-length", "no-length") as server, pytest.raises(DataError, match="does not say how long"):
        download(remote(server), tmp_path / "file", retry(attempts=2))
    with serve("no-length") as server:
        download(remote(server, digest="a" * 64), tmp_path / "file", retry())
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_no_server_is_a_clear_error(serve, tmp_path):
    with serve() as server:
        nowhere = remote(server)
    with pytest.raises(DataError, match=r"refused.*local folder"):
        download(nowhere, tmp_path / "file", retry(attempts=2))


def test_progress_is_told_in_whole_lines(serve, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    with serve("hold") as server:
        download(remote(server), tmp_path / "file", Retry(timeout_s=0.3, progress_s=0.0, sleep=lambda pause: None))
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == "content.bin: 0.1 MB"
    assert any("of 0.1 MB (50%)" in line for line in lines)
    assert lines[-1].startswith("content.bin: 0.1 MB in ")
    assert not any("\r" in line for line in lines)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"RateLimit": '"api";r=0;t=55'}, 56.0),
        ({"RateLimit": '"api";r=12;t=55', "Retry-After": "3"}, 3.0),
    ],
)
def test_servers_say_how_long_to_wait(headers, seconds):
    assert waiting_time(headers) == seconds
