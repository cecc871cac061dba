"""Room on the disk, before the first byte and while it runs out."""

import hashlib
import logging
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from huggingface_hub import constants

from nanochat.config import load_catalogue
from nanochat.config.plan import FetchPlan
from nanochat.data.disk import check_disk, check_room
from nanochat.data.hub import fetch
from nanochat.data.retry import Retry
from nanochat.data.source import Mirror
from nanochat.errors import DataError
from tests.conftest import REPOSITORY
from tests.data.conftest import write_shard
from tests.data.hub_server import Faults, HubServer

CATALOGUE = load_catalogue()
FINEWEB = CATALOGUE.corpora["fineweb_edu"]
WORDS = "files/words_alpha.txt"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A hub cache that holds nothing, in place of the user's."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return tmp_path / "cache"


@pytest.fixture
def elsewhere(tmp_path):
    """A folder on another file system."""
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs /dev/shm as a second file system")
    with tempfile.TemporaryDirectory(dir=shared) as folder:
        yield Path(folder)


def plan(data, *paths, source="hub", **more):
    return check_disk(paths, source=source, data=data, catalogue=CATALOGUE, **more)


def test_a_plan_counts_what_is_missing(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    data = tmp_path / "data"
    shards = [FINEWEB.path(index) for index in range(3)]
    found = plan(data, *shards, *shards, WORDS, "eval_bundle", more={tmp_path / "tokens": 1000})
    bundle = CATALOGUE.urls["eval_bundle"]
    words = CATALOGUE.urls[WORDS].bytes
    assert found["fetch_bytes"] == 3 * FINEWEB.shard_bytes + words + bundle.bytes + bundle.unpacked_bytes
    assert found["fetch_files"] == 5
    assert found["needed_bytes"] == found["fetch_bytes"] + 1000
    assert found["more_bytes"] == 1000
    assert found["unknown"] == []
    assert len(found["disks"]) == 1

    write_shard(data / shards[0], ["text"])  # in place
    partial = (data / shards[1]).parent / ".partial" / "shard_00001.parquet" / "content"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(bytes(5000))
    (data / "eval_bundle").mkdir()
    found = plan(data, *shards, "eval_bundle", "files/other.txt")
    assert found["fetch_bytes"] == 2 * FINEWEB.shard_bytes - 5000
    assert found["unknown"] == ["files/other.txt"]
    assert "leaves out files/other.txt" in caplog.text


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


def cached(cache, path, content=b"text"):
    """Put a file into the hub cache, as huggingface_hub lays it out."""
    repository = cache / f"datasets--{FINEWEB.repo.replace('/', '--')}"
    blob = repository / "blobs" / hashlib.sha256(content).hexdigest()
    blob.parent.mkdir(parents=True)
    blob.write_bytes(content)
    link = repository / "snapshots" / FINEWEB.revision / path.rpartition("/")[2]
    link.parent.mkdir(parents=True)
    link.symlink_to(blob)


def test_files_of_the_hub_cache_take_no_room_on_its_disk(tmp_path, cache):
    cached(cache, FINEWEB.path(0))
    assert plan(tmp_path, FINEWEB.path(0), FINEWEB.path(1))["fetch_bytes"] == FINEWEB.shard_bytes
    mirror = plan(tmp_path, FINEWEB.path(0), source=Mirror("http://mirror.example"))
    assert mirror["fetch_bytes"] == FINEWEB.shard_bytes


def test_files_of_the_hub_cache_are_copied_to_another_disk(elsewhere, cache):
    cached(cache, FINEWEB.path(0), b"text")
    assert plan(elsewhere, FINEWEB.path(0))["fetch_bytes"] == 4


def test_offline_no_data_set_is_fetched(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    found = plan(tmp_path, FINEWEB.path(0), WORDS)
    assert found["fetch_bytes"] == CATALOGUE.urls[WORDS].bytes  # which is not on the hub
    assert found["unknown"] == []


@pytest.mark.parametrize("small", ["shards", "tokens"])
def test_every_disk_that_the_data_folder_leads_to_is_checked(tmp_path, elsewhere, monkeypatch, small):
    """`data/hub` is a link to another disk than `data/tokens` lies on."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "hub").symlink_to(elsewhere)
    here = tmp_path.stat().st_dev
    usage = shutil.disk_usage(tmp_path)

    def free(folder):
        is_small = (Path(folder).stat().st_dev == here) == (small == "tokens")
        return type(usage)(int(1e12), 0, int(2e9 if is_small else 1e12))

    monkeypatch.setattr(shutil, "disk_usage", free)
    shards = [FINEWEB.path(index) for index in range(100 if small == "shards" else 1)]
    tokens = {data / "tokens" / "key" / "fineweb_edu": int(10e9)}
    named = data / "hub" if small == "shards" else data / "tokens"
    with pytest.raises(DataError, match=rf"^{named}.* has 2\.0 GB free, and this run needs 11\.0 GB there"):
        plan(data / "hub", *shards, more=tokens)
    other = plan(data / "hub", FINEWEB.path(0), more={} if small == "tokens" else tokens)
    assert [disk["needed_bytes"] for disk in other["disks"]] == [
        FINEWEB.shard_bytes,
        *([] if small == "tokens" else [int(10e9)]),
    ]


@pytest.mark.parametrize(
    ("free", "more", "fits"),
    [(10.2e9, 9e9, True), (9.9e9, 9e9, False), (0.0, 0, False)],
)
def test_a_small_disk_is_named_with_the_way_out(tmp_path, monkeypatch, free, more, fits):
    usage = type(shutil.disk_usage(tmp_path))(int(100e9), int(100e9 - free), int(free))
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    if fits:
        (disk,) = plan(tmp_path, FINEWEB.path(0), more={tmp_path: int(more)})["disks"]
        assert disk["free_bytes"] == free
        return
    with pytest.raises(
        DataError, match=rf"{tmp_path}.*{free / 1e9:.1f} GB free.*needs.*data\.train_shards.*make `data` a link"
    ):
        plan(tmp_path, FINEWEB.path(0), more={tmp_path: int(more)})


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
