"""Two hundred downloads from a server that misbehaves, a killed one, and one whose file changes under way."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from nanochat.config import load_catalogue
from nanochat.data.hub import fetch
from nanochat.data.retry import Retry
from nanochat.data.source import Mirror
from nanochat.errors import DataError
from tests.conftest import REPOSITORY
from tests.data.conftest import write_shard
from tests.data.hub_server import Faults, HubServer

CATALOGUE = load_catalogue()
ROUNDS = 10
SHARDS = [f"datasets/made/text/shard_{index:05d}.parquet" for index in range(8)]
SMALL = [f"datasets/made/notes/note_{index}.txt" for index in range(4)]
PLAIN = [f"files/plain_{index}.bin" for index in range(6)]
FLAKY = [*SHARDS, *SMALL, *PLAIN]
MISSING = "datasets/made/text/shard_99999.parquet"
SPOILED = "datasets/made/text/spoiled.parquet"
RATES = {
    "cut": 0.2,
    "reset": 0.05,
    "429": 0.05,
    "429-retry-after": 0.05,
    "429-ratelimit": 0.05,
    "503": 0.08,
    "wrong": 0.06,
    "change": 0.05,
    "no-range": 0.05,
    "no-length": 0.04,
    "expired": 0.04,
    "page": 0.03,
    "stall": 0.02,
}
# More tries than a path has faults (`Faults.limit`), so that what is merely flaky must arrive.
PATIENT = Retry(attempts=8, timeout_s=0.4, jitter=0.5, sleep=lambda pause: time.sleep(min(pause, 0.002)))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Files of 50 KB to 1 MB, and some small ones."""
    root = tmp_path_factory.mktemp("site")
    draw = random.Random(3)
    for index, path in enumerate([*SHARDS, SPOILED]):
        write_shard(root / path, [draw.randbytes(300).hex() for _ in range(150 + 150 * index)], row_group_size=1024)
    for path, sizes in ((PLAIN, (50_000, 1_000_000)), (SMALL, (10, 9_000))):
        for name in path:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(draw.randbytes(draw.randint(*sizes)))
    return root


def files_below(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_two_hundred_downloads_under_faults_are_right_or_one_error(site, tmp_path):
    happened, outcomes = Counter(), Counter()
    for number in range(ROUNDS):
        data = tmp_path / str(number)
        faults = Faults(rates=RATES, seed=number, always={SPOILED: "wrong"})
        with HubServer(site, faults, stall_s=1.0) as server:
            arrived = set()
            for path in (*FLAKY, MISSING, SPOILED):
                try:
                    fetch(path, source=Mirror(server.address), out=data / path, catalogue=CATALOGUE, retry=PATIENT)
                except DataError as error:
                    assert path in (MISSING, SPOILED), error
                    assert path in str(error)
                    assert "data.source" in str(error)
                    outcomes[path] += 1
                else:
                    assert (data / path).read_bytes() in server.versions(path), path
                    arrived.add(path)
                    outcomes["right"] += 1
            assert arrived == set(FLAKY)
            assert files_below(data) == arrived
            happened += server.happened
    assert outcomes == {"right": ROUNDS * len(FLAKY), MISSING: ROUNDS, SPOILED: ROUNDS}
    assert sum(outcomes.values()) == 200
    assert set(happened) == set(RATES)


def start(server, path, out):
    command = [sys.executable, "-m", "workflow_scripts.fetch", path, "--source", server.address, "--out", str(out)]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    return subprocess.Popen(command, cwd=REPOSITORY, env=environment, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("path", [SHARDS[-1], PLAIN[0]])
def test_a_killed_download_goes_on_where_it_was(site, tmp_path, path):
    out = tmp_path / path
    partial = out.parent / ".partial" / out.name / "content"
    with HubServer(site, Faults(scripted={path: ["hold"]})) as server:
        size = len(server.content(path))
        killed = start(server, path, out)
        try:
            assert server.holding.wait(30)
            deadline = time.monotonic() + 30
            while not (partial.exists() and partial.stat().st_size == size // 2) and time.monotonic() < deadline:
                time.sleep(0.01)
        finally:
            killed.send_signal(signal.SIGKILL)
            killed.communicate()
        assert not out.exists()
        kept = partial.stat().st_size
        assert kept == size // 2
        second = start(server, path, out)
        _, log = second.communicate(timeout=60)
        assert second.returncode == 0, log
        assert server.sent[path] == size
        assert server.requests[-1][2]["range"] == f"bytes={kept}-"
    assert "going on at" in log
    assert out.read_bytes() == (site / path).read_bytes()
    assert files_below(tmp_path) == {path}


@pytest.mark.parametrize("path", [SHARDS[3], PLAIN[3], SMALL[3]])
def test_a_file_that_changes_between_two_tries_is_of_one_version(site, tmp_path, path):
    large = path not in SMALL
    # The first answer ends early; before the rest is asked for, its publisher replaces the file.
    with HubServer(site, Faults(scripted={path: ["hold" if large else "cut", "change"]})) as server:
        fetch(path, source=Mirror(server.address), out=tmp_path / path, catalogue=CATALOGUE, retry=PATIENT)
        assert server.happened["change"] == 1
        assert (tmp_path / path).read_bytes() == server.content(path)


def test_an_expired_address_of_the_storage_is_asked_for_anew(site, tmp_path):
    path = SHARDS[0]
    with HubServer(site, Faults(scripted={path: ["expired", "hold", "expired"]})) as server:
        fetch(path, source=Mirror(server.address), out=tmp_path / path, catalogue=CATALOGUE, retry=PATIENT)
        resolved = [path for method, path, _ in server.requests if method == "GET" and not path.startswith("cdn:")]
    assert len(resolved) == 4
    assert (tmp_path / path).read_bytes() == (site / path).read_bytes()
    assert server.sent[path] == (site / path).stat().st_size


def test_a_storage_that_stays_closed_is_one_error(site, tmp_path):
    path = SHARDS[0]
    with HubServer(site, Faults(always={path: "expired"})) as server, pytest.raises(DataError, match=r"403.*8 tries"):
        fetch(path, source=Mirror(server.address), out=tmp_path / path, catalogue=CATALOGUE, retry=PATIENT)
    assert files_below(tmp_path) == set()
