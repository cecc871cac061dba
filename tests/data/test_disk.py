"""Room on the disk, before the first byte and while it runs out."""

import hashlib
import shutil
import subprocess
import sys

import pytest

from nanochat.config import load_catalogue
from nanochat.config.plan import FetchPlan
from nanochat.data.disk import check_disk, check_room
from nanochat.data.hub import fetch
from nanochat.data.retry import Retry
from nanochat.errors import DataError
from tests.conftest import REPOSITORY
from tests.data.conftest import write_shard
from tests.data.hub_server import Faults, HubServer

CATALOGUE = load_catalogue()
FINEWEB = CATALOGUE.corpora["fineweb_edu"]
WORDS = "files/words_alpha.txt"


def plan(data, *paths, source="hub", **more):
    return check_disk(paths, source=source, data=data, catalogue=CATALOGUE, **more)


def test_a_plan_counts_what_is_missing(tmp_path):
    data = tmp_path / "data"
    shards = [FINEWEB.path(index) for index in range(3)]
    found = plan(data, *shards, *shards, WORDS, "eval_bundle", more_bytes=1000)
    bundle = CATALOGUE.urls["eval_bundle"]
    words = CATALOGUE.urls[WORDS].bytes
    assert found["fetch_bytes"] == 3 * FINEWEB.shard_bytes + words + bundle.bytes + bundle.unpacked_bytes
    assert found["fetch_files"] == 5
    assert found["needed_bytes"] == found["fetch_bytes"] + 1000
    assert found["unknown"] == []

    write_shard(data / shards[0], ["text"])  # in place
    partial = (data / shards[1]).parent / ".partial" / "shard_00001.parquet" / "content"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(bytes(5000))
    (data / "eval_bundle").mkdir()
    found = plan(data, *shards, "eval_bundle", "files/other.txt")
    assert found["fetch_bytes"] == 2 * FINEWEB.shard_bytes - 5000
    assert found["unknown"] == ["files/other.txt"]


def test_every_public_file_has_a_size():
    made = {path for task in CATALOGUE.tasks.values() for path in (*task.train, *task.test) if "world" in path}
    paths = (
        {path for task in CATALOGUE.tasks.values() for path in (*task.train, *task.test)} - made - {"files/words.txt"}
    )
    assert [path for path in sorted(paths) if not CATALOGUE.bytes_of(path)] == []


def test_files_of_a_folder_on_the_same_disk_take_no_room(tmp_path):
    data, mirror = tmp_path / "data", tmp_path / "mirror"
    write_shard(mirror / FINEWEB.path(0), ["text"])
    assert plan(data, FINEWEB.path(0), source=mirror)["needed_bytes"] == 0


@pytest.mark.parametrize(
    ("free", "more", "fits"),
    [(10.2e9, 9e9, True), (9.9e9, 9e9, False), (0.0, 0, False)],
)
def test_a_small_disk_is_named_with_the_way_out(tmp_path, monkeypatch, free, more, fits):
    usage = type(shutil.disk_usage(tmp_path))(int(100e9), int(100e9 - free), int(free))
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    if fits:
        assert plan(tmp_path, FINEWEB.path(0), more_bytes=int(more))["free_bytes"] == free
        return
    with pytest.raises(DataError, match=rf"{tmp_path}.*{free / 1e9:.1f} GB free.*needs.*data\.train_shards.*a link"):
        plan(tmp_path, FINEWEB.path(0), more_bytes=int(more))


def test_a_full_disk_with_nothing_left_to_do_is_no_problem(tmp_path, monkeypatch):
    write_shard(tmp_path / FINEWEB.path(0), ["text"])
    full = type(shutil.disk_usage(tmp_path))(int(1e12), int(1e12), 0)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: full)
    assert plan(tmp_path, FINEWEB.path(0))["needed_bytes"] == 0
    with pytest.raises(DataError, match="0 free"):
        check_room(tmp_path, 1, "x")


def test_a_plan_too_large_for_the_disk_stops_the_first_fetch(tmp_path):
    """For the whole run, before the first byte: also what becomes of the files counts."""
    mirror, data = tmp_path / "mirror", tmp_path / "data"
    (mirror / "files").mkdir(parents=True)
    (mirror / "files" / "words_alpha.txt").write_text("word\n")
    folder = tmp_path / "tokens"
    (folder / "shard_00000").mkdir(parents=True)
    command = [sys.executable, "-m", "workflow_scripts.fetch", WORDS, "--source", str(mirror), "--data", str(data)]
    for shards, code in ((2, 1), (1, 0)):
        plan = FetchPlan(files=(WORDS,), tokens={str(folder): (shards, 10**15)})
        given = [*command, "--out", str(data / WORDS), "--plan", plan.model_dump_json()]
        done = subprocess.run(given, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
        assert done.returncode == code, done.stderr
        assert (data / WORDS).exists() == (code == 0)
        if code:
            assert "1,000,000.0 GB for what is made of them" in done.stderr
            assert "Traceback" not in done.stderr


@pytest.fixture
def small_disk(tmp_path):
    """A file system of two megabytes, one of them taken."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small tmpfs here: {mounted.stderr.strip()}")
    try:
        (folder / "filler").write_bytes(bytes(1 << 20))
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize(
    ("fault", "words"),
    [("none", "bytes are still to come"), ("no-length", "No space left on device")],
    ids=["seen before the first byte", "found out on the way"],
)
def test_a_disk_that_is_too_small_for_a_file(small_disk, tmp_path, fault, words):
    path = "files/big.bin"
    site = tmp_path / "site"
    (site / "files").mkdir(parents=True)
    content = bytes(range(256)) * 6000
    (site / path).write_bytes(content)
    out = small_disk / "data" / path
    quick = Retry(attempts=2, sleep=lambda pause: None)
    with HubServer(site, Faults(always={path: fault})) as server:
        # A file whose length is not announced is only fetched for its digest.
        address, digest = f"{server.address}/{path}", hashlib.sha256(content).hexdigest()
        entry = CATALOGUE.urls[WORDS].model_copy(update={"address": address, "sha256": digest})
        catalogue = CATALOGUE.model_copy(update={"urls": {path: entry}})
        with pytest.raises(DataError, match=words) as error:
            fetch(path, source="hub", out=out, catalogue=catalogue, retry=quick)
        assert "larger disk" in str(error.value)
        assert not out.exists()
        kept = sum(file.stat().st_size for file in small_disk.rglob("content"))
        (small_disk / "filler").unlink()
        fetch(path, source="hub", out=out, catalogue=catalogue, retry=quick)
    assert out.read_bytes() == content
    assert bool(kept) == (fault == "no-length")
    if kept:
        assert server.requests[-1][2]["range"] == f"bytes={kept}-"
