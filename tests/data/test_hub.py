import hashlib
import os
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from nanochat.config import load_catalogue
from nanochat.data.hub import fetch, fetch_bundle
from nanochat.data.retry import Retry
from nanochat.data.source import Mirror, parse_source
from nanochat.errors import DataError
from tests.conftest import REPOSITORY
from tests.data.conftest import write_shard
from tests.data.hub_server import HubServer

PATH = "datasets/world/text/shard_00000.parquet"
CATALOGUE = load_catalogue()


@pytest.fixture
def mirror(tmp_path):
    """A folder laid out like the hub, with a shard, a plain file and a bundle."""
    root = tmp_path / "mirror"
    write_shard(root / PATH, [f"document {n}" for n in range(100)])
    (root / "files").mkdir()
    (root / "files" / "words.txt").write_text("apple\npear\n")
    (root / "eval_bundle" / "eval_data" / "world").mkdir(parents=True)
    (root / "eval_bundle" / "core.yaml").write_text("icl_tasks: []\n")
    (root / "eval_bundle" / "eval_data" / "world" / "a.jsonl").write_text("{}\n")
    return root


def everything_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_file_of_a_folder_is_linked_and_survives_the_folder(mirror, tmp_path):
    out = tmp_path / "data" / PATH
    fetch(PATH, source=mirror, out=out, catalogue=CATALOGUE)
    assert not out.is_symlink()
    assert out.samefile(mirror / PATH)
    content = (mirror / PATH).read_bytes()
    (mirror / PATH).unlink()
    assert out.read_bytes() == content
    assert everything_below(out.parent) == [out.name]


def test_a_symbolic_link_in_a_mirror_is_followed(mirror, tmp_path):
    (mirror / "files" / "link.txt").symlink_to("words.txt")
    out = tmp_path / "data" / "files" / "link.txt"
    fetch("files/link.txt", source=mirror, out=out, catalogue=CATALOGUE)
    assert not out.is_symlink()
    assert out.read_text() == "apple\npear\n"


def test_where_links_are_forbidden_the_file_is_copied(mirror, tmp_path, monkeypatch):
    def forbidden(*arguments, **keywords):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", forbidden)
    out = tmp_path / "data" / "words.txt"
    fetch("files/words.txt", source=mirror, out=out, catalogue=CATALOGUE)
    assert out.read_text() == "apple\npear\n"
    assert not out.samefile(mirror / "files" / "words.txt")


def test_a_truncated_shard_leaves_nothing_and_a_repaired_one_succeeds(mirror, tmp_path):
    out = tmp_path / "data" / PATH
    content = (mirror / PATH).read_bytes()
    (mirror / PATH).write_bytes(content[:-20])
    with pytest.raises(DataError, match=rf"{PATH} from {mirror}.*truncated") as error:
        fetch(PATH, source=mirror, out=out, catalogue=CATALOGUE)
    assert f"{len(content) - 20:,} bytes" in str(error.value)
    assert ".tmp" not in str(error.value)
    assert everything_below(out.parent) == []
    (mirror / PATH).write_bytes(content)
    fetch(PATH, source=mirror, out=out, catalogue=CATALOGUE)
    assert out.read_bytes() == content


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("files/missing.txt", "has no such file"),
        ("files/../../secret", "expected a path below the data folder"),
        ("/etc/passwd", "expected a path below the data folder"),
        ("other/words.txt", "expected a path below the data folder"),
    ],
)
def test_bad_paths_are_named(mirror, tmp_path, path, named):
    with pytest.raises(DataError, match=named):
        fetch(path, source=mirror, out=tmp_path / "out", catalogue=CATALOGUE)
    with pytest.raises(DataError, match="is not a folder"):
        fetch("files/words.txt", source=tmp_path / "nowhere", out=tmp_path / "out", catalogue=CATALOGUE)
    assert not (tmp_path / "out").exists()


def test_a_file_without_an_address_is_named(tmp_path):
    with pytest.raises(DataError, match=r"files/words\.txt has no address in the catalogue"):
        fetch("files/words.txt", source="hub", out=tmp_path / "words.txt", catalogue=CATALOGUE)


def test_the_bundle_of_a_folder(mirror, tmp_path):
    out = tmp_path / "data" / "eval_bundle"
    fetch_bundle(source=mirror, out=out, catalogue=CATALOGUE)
    assert everything_below(out) == everything_below(mirror / "eval_bundle")
    assert everything_below(out.parent)[0] == "eval_bundle"
    (mirror / "eval_bundle" / "core.yaml").unlink()
    with pytest.raises(DataError, match=r"no core\.yaml"):
        fetch_bundle(source=mirror, out=tmp_path / "other", catalogue=CATALOGUE)
    assert not (tmp_path / "other").exists()


def bundle_zip(path, members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as file:
        for name, text in members.items():
            file.writestr(name, text)
    return path


GOOD_BUNDLE = {"eval_bundle/core.yaml": "icl_tasks: []\n", "eval_bundle/eval_data/a/b.jsonl": "{}\n"}
QUICK = Retry(attempts=4, timeout_s=5.0, sleep=lambda pause: None)


def bundle_at(server, sha256=None):
    """The catalogue with the bundle at an address of the test's server."""
    entry = CATALOGUE.urls["eval_bundle"]
    here = entry.model_copy(update={"address": f"{server.address}/files/bundle.zip", "sha256": sha256})
    return CATALOGUE.model_copy(update={"urls": {"eval_bundle": here}})


@pytest.fixture
def site(mirror):
    """The mirror folder behind a server."""
    with HubServer(mirror) as server:
        yield server


def test_the_bundle_of_a_mirror(site, tmp_path):
    out = tmp_path / "data" / "eval_bundle"
    fetch_bundle(source=Mirror(site.address), out=out, catalogue=bundle_at(site), retry=QUICK)
    assert everything_below(out) == everything_below(site.folder / "eval_bundle")
    assert everything_below(out.parent)[:2] == [".eval_bundle.origin.json", "eval_bundle"]


def test_the_bundle_of_an_address_has_the_digest_of_the_catalogue(site, tmp_path):
    archive = bundle_zip(site.folder / "files" / "bundle.zip", GOOD_BUNDLE)
    out = tmp_path / "data" / "eval_bundle"
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    fetch_bundle(source="hub", out=out, catalogue=bundle_at(site, digest), retry=QUICK)
    assert everything_below(out) == ["core.yaml", "eval_data", "eval_data/a", "eval_data/a/b.jsonl"]
    assert everything_below(out.parent)[0] == "eval_bundle"
    other = tmp_path / "other" / "eval_bundle"
    with pytest.raises(DataError, match=r"3 downloads were damaged.*the server says 000000000000…"):
        fetch_bundle(source="hub", out=other, catalogue=bundle_at(site, "0" * 64), retry=QUICK)
    assert everything_below(other.parent) == []


@pytest.mark.parametrize("name", ["../evil.txt", "/evil.txt", "eval_bundle/../../evil.txt"])
def test_a_zip_cannot_write_elsewhere(site, tmp_path, name):
    bundle_zip(site.folder / "files" / "bundle.zip", GOOD_BUNDLE | {name: "evil"})
    with pytest.raises(DataError, match=r"evil\.txt.*expected plain files"):
        fetch_bundle(source="hub", out=tmp_path / "data" / "eval_bundle", catalogue=bundle_at(site), retry=QUICK)
    assert not list(tmp_path.rglob("evil.txt"))


def test_a_damaged_zip_is_named_and_a_repaired_one_succeeds(site, tmp_path):
    archive = bundle_zip(site.folder / "files" / "bundle.zip", GOOD_BUNDLE)
    content = archive.read_bytes()
    out = tmp_path / "data" / "eval_bundle"
    for damaged in (content[:-40], content.replace(b"icl_tasks: []", b"icl_tasks: {}", 1)):
        archive.write_bytes(damaged)
        with pytest.raises(DataError, match="no readable zip"):
            fetch_bundle(source="hub", out=out, catalogue=bundle_at(site), retry=QUICK)
        assert not out.exists()
    archive.write_bytes(content)
    fetch_bundle(source="hub", out=out, catalogue=bundle_at(site), retry=QUICK)
    assert out.is_dir()


def test_an_unpinned_file_that_changes_is_named(site, tmp_path):
    entry = CATALOGUE.urls["files/words_alpha.txt"]
    here = entry.model_copy(update={"address": f"{site.address}/files/words.txt", "sha256": None})
    catalogue = CATALOGUE.model_copy(update={"urls": {"files/words.txt": here}})
    out = tmp_path / "data" / "files" / "words.txt"
    fetch("files/words.txt", source="hub", out=out, catalogue=catalogue, retry=QUICK)
    out.unlink()
    fetch("files/words.txt", source="hub", out=out, catalogue=catalogue, retry=QUICK)
    out.unlink()
    site.change("files/words.txt")
    with pytest.raises(DataError, match=r"now has another file than on 20.*delete .*origin\.json") as error:
        fetch("files/words.txt", source="hub", out=out, catalogue=catalogue, retry=QUICK)
    assert not out.exists()
    Path(str(error.value).partition("delete ")[2].partition(" and")[0]).unlink()  # what the message says
    fetch("files/words.txt", source="hub", out=out, catalogue=catalogue, retry=QUICK)
    assert out.read_bytes() == site.content("files/words.txt")


def test_a_mirror_may_have_a_word_list_of_its_own(site, tmp_path, caplog):
    (site.folder / "files" / "words_alpha.txt").write_text("apple\n")
    out = tmp_path / "data" / "files" / "words_alpha.txt"
    fetch("files/words_alpha.txt", source=Mirror(site.address), out=out, catalogue=CATALOGUE, retry=QUICK)
    assert out.read_text() == "apple\n"
    assert "a file of its own" in caplog.text


@pytest.fixture
def web(mirror):
    """The mirror folder behind an ordinary web server, which knows no digests."""
    (mirror / "files" / "words_alpha.txt").write_text("apple\n")
    with HubServer(mirror, etags="dated") as server:
        yield server


def got(server, path):
    """How often the content of a file was asked for."""
    return sum(method == "GET" and asked == f"/{path}" for method, asked, _ in server.requests)


WORDS = "files/words_alpha.txt"


def words_pinned(content=None):
    """The catalogue with the digest of a content for the word list, or with none."""
    digest = hashlib.sha256(content).hexdigest() if content else None
    entry = CATALOGUE.urls[WORDS].model_copy(update={"sha256": digest})
    return CATALOGUE.model_copy(update={"urls": {WORDS: entry}})


@pytest.mark.parametrize(
    ("pinned", "times"),
    [(b"apple\n", 2), (b"others\n", 3), (None, 3)],
    ids=["the pinned file", "a file of the mirror's own", "no pin"],
)
def test_a_byte_that_flips_on_the_way_from_a_plain_web_server_is_noticed(web, tmp_path, pinned, times):
    web.faults.scripted[WORDS] = ["wrong"]
    out = tmp_path / WORDS
    fetch(WORDS, source=Mirror(web.address), out=out, catalogue=words_pinned(pinned), retry=QUICK)
    assert out.read_bytes() == b"apple\n"
    assert got(web, WORDS) == times


def test_a_plain_web_servers_own_file_is_a_warning_and_kept_to(web, tmp_path, caplog):
    out = tmp_path / WORDS
    for _ in range(2):
        out.unlink(missing_ok=True)
        fetch(WORDS, source=Mirror(web.address), out=out, catalogue=CATALOGUE, retry=QUICK)
        assert "a file of its own" in caplog.text
    assert got(web, WORDS) == 3  # the second time it was known
    out.unlink()
    web.change(WORDS)
    with pytest.raises(DataError, match="now has another file than on 20"):
        fetch(WORDS, source=Mirror(web.address), out=out, catalogue=CATALOGUE, retry=QUICK)
    assert not out.exists()


def test_a_plain_web_server_that_sends_other_bytes_each_time_is_an_error(web, tmp_path):
    web.faults.scripted[WORDS] = ["change", "wrong", "wrong", "wrong"]
    (web.folder / WORDS).write_bytes(bytes(range(256)) * 20)
    with pytest.raises(DataError, match=r"3 downloads were damaged.*is another file than the download before it"):
        fetch(WORDS, source=Mirror(web.address), out=tmp_path / WORDS, catalogue=CATALOGUE, retry=QUICK)
    assert everything_below(tmp_path / "files") == []


def test_a_data_set_of_a_plain_web_server_is_of_one_version(web, tmp_path):
    # Nothing is asked for by range, so the content comes as it is; when it is here, its publisher replaces it.
    web.faults.scripted[PATH] = ["no-range", "change"]
    fetch(PATH, source=Mirror(web.address), out=tmp_path / PATH, catalogue=CATALOGUE, retry=QUICK)
    assert web.happened["change"] == 1
    assert (tmp_path / PATH).read_bytes() == web.content(PATH)


KILLED_AT_THE_FIRST_SYNC = """
import os, signal, sys
from pathlib import Path
from nanochat.config import load_catalogue
from nanochat.data.hub import fetch, fetch_bundle
from nanochat.data.source import Mirror

os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
path, address, out = sys.argv[1:]
asked = {"source": Mirror(address), "out": Path(out), "catalogue": load_catalogue()}
fetch_bundle(**asked) if path == "eval_bundle" else fetch(path, **asked)
"""


@pytest.mark.parametrize("path", [PATH, "files/words.txt", "eval_bundle"])
def test_what_was_whole_when_its_process_was_killed_is_not_fetched_again(site, tmp_path, path):
    out = tmp_path / "data" / path
    command = [sys.executable, "-c", KILLED_AT_THE_FIRST_SYNC, path, site.address, str(out)]
    assert subprocess.run(command, cwd=REPOSITORY, timeout=60).returncode == -9
    assert not out.exists()
    assert site.sent[path] == len(site.content(path))
    stale = out.parent / ".partial" / f"{out.name}.4000000.tmp"  # of a former version
    stale.write_bytes(bytes(100))
    if path == "eval_bundle":
        fetch_bundle(source=Mirror(site.address), out=out, catalogue=bundle_at(site), retry=QUICK)
        assert everything_below(out) == everything_below(site.folder / "eval_bundle")
    else:
        fetch(path, source=Mirror(site.address), out=out, catalogue=CATALOGUE, retry=QUICK)
        assert out.read_bytes() == site.content(path)
    assert site.sent[path] == len(site.content(path))
    assert not (out.parent / ".partial").exists()


def test_all_of_a_bundle_is_on_the_disk_before_it_has_its_name(site, tmp_path, monkeypatch):
    out = tmp_path / "data" / "eval_bundle"
    synced = []
    real = os.fsync

    def fsync(descriptor):
        synced.append((Path(os.readlink(f"/proc/self/fd/{descriptor}")), out.exists()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    fetch_bundle(source=Mirror(site.address), out=out, catalogue=bundle_at(site), retry=QUICK)
    before = {path.name for path, existed in synced if not existed}
    assert before >= {path.name for path in out.rglob("*")}
    assert synced[-1] == (out.parent, True)


def test_two_processes_fetch_a_file_once(site, tmp_path):
    out = tmp_path / "data" / PATH
    site.faults.scripted[PATH] = ["stall"]
    site.stall_s = 0.3
    jobs = [
        threading.Thread(
            target=fetch,
            args=(PATH,),
            kwargs={"source": Mirror(site.address), "out": out, "catalogue": CATALOGUE, "retry": QUICK},
        )
        for _ in range(3)
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert site.sent[PATH] == out.stat().st_size
    assert everything_below(out.parent) == [out.name]


def run_script(server, path, out, **environment):
    """The real command in a process of its own: huggingface_hub reads its environment when it is imported."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    cache = out.parents[len(path.split("/"))] / "cache"
    settings = {"HF_ENDPOINT": server.address, "HF_HOME": str(cache), "HF_HUB_DISABLE_TELEMETRY": "1", **environment}
    command = [sys.executable, "-m", "workflow_scripts.fetch", path, "--source", "hub", "--out", str(out)]
    return subprocess.run(command, env=inherited | settings, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)


def test_the_hub_is_asked_with_the_token_and_the_storage_behind_it_without(site, tmp_path):
    out = tmp_path / "data" / PATH
    done = run_script(site, PATH, out, HF_TOKEN="hf_secret")
    assert done.returncode == 0, done.stderr
    assert out.read_bytes() == site.content(PATH)
    assert site.authorizations(cdn=False) == {"Bearer hf_secret"}
    assert site.authorizations(cdn=True) == {None}
    assert "hf_secret" not in done.stderr
    assert site.cdn not in done.stderr
    assert everything_below(out.parent) == [".revision", out.name]


def test_all_files_of_a_branch_are_of_the_first_ones_commit(site, tmp_path):
    second = PATH.replace("00000", "00001")
    write_shard(site.folder / second, [f"more {n}" for n in range(100)])
    commit = site.commit(PATH)
    assert run_script(site, PATH, tmp_path / "data" / PATH).returncode == 0
    site.change(PATH)  # its publisher moves on
    assert site.commit(PATH) != commit
    assert run_script(site, second, tmp_path / "data" / second).returncode == 0
    asked = [path for method, path, _ in site.requests if method == "GET" and path.endswith(second.split("/")[-1])]
    assert asked[0] == f"/datasets/world/text/resolve/{commit}/shard_00001.parquet"
    assert (tmp_path / "data" / PATH).with_name(".revision").read_text().strip() == commit


def test_the_users_cache_is_used_and_offline_it_is_all_there_is(site, tmp_path):
    content = site.content(PATH)
    commit, digest = site.commit(PATH), hashlib.sha256(content).hexdigest()
    repository = tmp_path / "cache" / "hub" / "datasets--world--text"
    blob = repository / "blobs" / digest
    blob.parent.mkdir(parents=True)
    blob.write_bytes(content)
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (snapshot / "shard_00000.parquet").symlink_to(blob)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    online, offline, absent = (tmp_path / name / PATH for name in ("online", "offline", "absent"))
    assert run_script(site, PATH, online).returncode == 0
    assert site.sent[PATH] == 0
    assert online.samefile(blob)
    before = len(site.requests)
    assert run_script(site, PATH, offline, HF_HUB_OFFLINE="1").returncode == 0
    assert offline.read_bytes() == content
    done = run_script(site, PATH, absent, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "empty"))
    assert done.returncode == 1
    assert "HF_HUB_OFFLINE is set" in done.stderr
    assert len(site.requests) == before
    blob.write_bytes(content[::-1])
    done = run_script(site, PATH, absent)
    assert "in the hub cache has the digest" in done.stderr
    assert not absent.exists()


@pytest.mark.parametrize(
    ("code", "words"),
    [("401", "set HF_TOKEN"), ("403", "set HF_TOKEN"), ("404", "has no file shard_00000.parquet at revision main")],
)
def test_a_refusal_of_the_hub_says_what_to_do(site, tmp_path, code, words):
    site.faults.always[PATH] = code
    out = tmp_path / "data" / PATH
    done = run_script(site, PATH, out)
    assert done.returncode == 1
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert words in error
    assert len(site.requests) == 1
    assert everything_below(out.parent) == []


def test_a_shard_that_is_truncated_at_its_source_is_refused(site, tmp_path):
    shard = site.folder / PATH
    shard.write_bytes(shard.read_bytes()[:-30])
    out = tmp_path / "data" / PATH
    with pytest.raises(DataError, match=r"is damaged there.*truncated"):
        fetch(PATH, source=Mirror(site.address), out=out, catalogue=CATALOGUE, retry=QUICK)
    assert everything_below(out.parent) == []


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("hub", "hub"),
        ("https://mirror.example/hub/", Mirror("https://mirror.example/hub")),
        ("../shared/hub", Path("../shared/hub")),
    ],
)
def test_sources_are_told_apart(text, source):
    assert parse_source(text) == source


@pytest.mark.parametrize("text", ["http://", "https://me:secret@mirror.example/"])
def test_addresses_that_cannot_be_are_refused(text):
    with pytest.raises(DataError, match=r"data\.source") as error:
        parse_source(text)
    assert "secret" not in str(error.value)


@pytest.mark.shared
def test_real_files_come_from_a_read_only_mirror(shared_hub, tmp_path):
    for path in ("files/words_alpha.txt", "datasets/openai/gsm8k/main/test-00000-of-00001.parquet"):
        out = tmp_path / "data" / path
        fetch(path, source=shared_hub, out=out, catalogue=CATALOGUE)
        assert out.stat().st_size == (shared_hub / path).stat().st_size
    fetch_bundle(source=shared_hub, out=tmp_path / "data" / "eval_bundle", catalogue=CATALOGUE)
    assert (tmp_path / "data" / "eval_bundle" / "core.yaml").is_file()
