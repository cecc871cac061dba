import hashlib
import http.server
import os
import subprocess
import sys
import threading
import zipfile

import pytest

from nanochat.config import load_catalogue
from nanochat.data.hub import fetch, fetch_bundle
from nanochat.errors import DataError
from tests.data.conftest import write_shard

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
    assert everything_below(out.parent) == [".partial"]
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


@pytest.fixture
def site(tmp_path):
    """A loopback web server over a folder, imitating the hub's redirect-free answers for small and large files."""
    root = tmp_path / "site"
    root.mkdir()
    claims = {}

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(root))

        def end_headers(self):
            file = root / self.path.lstrip("/").replace("/resolve/main/", "/", 1)
            if "/resolve/" in self.path and file.is_file():
                digest = claims.get(self.path) or hashlib.sha256(file.read_bytes()).hexdigest()
                self.send_header("X-Repo-Commit", "main")
                self.send_header("X-Linked-Etag", f'"{digest}"')
                self.send_header("X-Linked-Size", str(file.stat().st_size))
                self.send_header("ETag", f'"{digest}"')
            super().end_headers()

        def translate_path(self, path):
            return super().translate_path(path.replace("/resolve/main/", "/", 1))

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    server.root, server.claims, server.address = root, claims, f"http://127.0.0.1:{server.server_port}"
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def with_bundle_address(site):
    return CATALOGUE.model_copy(update={"urls": {"eval_bundle": f"{site.address}/eval_bundle.zip"}})


def test_the_bundle_of_an_address(site, tmp_path):
    bundle_zip(site.root / "eval_bundle.zip", GOOD_BUNDLE)
    out = tmp_path / "data" / "eval_bundle"
    fetch_bundle(source="hub", out=out, catalogue=with_bundle_address(site))
    assert everything_below(out) == ["core.yaml", "eval_data", "eval_data/a", "eval_data/a/b.jsonl"]
    assert everything_below(out.parent)[0] == "eval_bundle"


@pytest.mark.parametrize("name", ["../evil.txt", "/evil.txt", "eval_bundle/../../evil.txt"])
def test_a_zip_cannot_write_elsewhere(site, tmp_path, name):
    bundle_zip(site.root / "eval_bundle.zip", GOOD_BUNDLE | {name: "evil"})
    with pytest.raises(DataError, match=r"evil\.txt.*expected plain files"):
        fetch_bundle(source="hub", out=tmp_path / "data" / "eval_bundle", catalogue=with_bundle_address(site))
    assert not list(tmp_path.rglob("evil.txt"))


def test_a_damaged_zip_is_fetched_anew(site, tmp_path):
    archive = bundle_zip(site.root / "eval_bundle.zip", GOOD_BUNDLE)
    content = archive.read_bytes()
    out = tmp_path / "data" / "eval_bundle"
    for damaged in (content[:-40], content.replace(b"icl_tasks: []", b"icl_tasks: {}", 1)):
        archive.write_bytes(damaged)
        with pytest.raises(DataError, match="no readable zip"):
            fetch_bundle(source="hub", out=out, catalogue=with_bundle_address(site))
        assert not out.exists()
    archive.write_bytes(content)
    fetch_bundle(source="hub", out=out, catalogue=with_bundle_address(site))
    assert out.is_dir()


FETCH = """
import sys
from pathlib import Path
from nanochat.config import load_catalogue
from nanochat.data.hub import fetch
from nanochat.errors import DataError
try:
    fetch(sys.argv[1], source="hub", out=Path(sys.argv[2]), catalogue=load_catalogue())
except DataError as error:
    sys.exit(str(error))
"""


def fetch_from_site(site, path, out):
    """In a process of its own: huggingface_hub reads HF_ENDPOINT when it is imported."""
    environment = {
        **os.environ,
        "HF_ENDPOINT": site.address,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    return subprocess.run(
        [sys.executable, "-c", FETCH, path, str(out)], env=environment, capture_output=True, text=True, timeout=60
    )


def test_the_hub_library_fetches_and_the_digest_is_checked(site, tmp_path):
    shard = write_shard(site.root / PATH, [f"document {n}" for n in range(100)])
    out = tmp_path / "data" / PATH
    done = fetch_from_site(site, PATH, out)
    assert done.returncode == 0, done.stderr
    assert out.read_bytes() == shard.read_bytes()
    assert everything_below(out.parent) == [out.name]

    site.claims["/datasets/world/text/resolve/main/shard_00000.parquet"] = "0" * 64
    other = tmp_path / "other" / PATH
    done = fetch_from_site(site, PATH, other)
    assert done.returncode == 1
    assert "has the digest" in done.stderr
    assert "the hub says 000000000000…" in done.stderr
    assert not other.exists()


def test_a_truncated_shard_on_the_hub_is_refused(site, tmp_path):
    shard = write_shard(site.root / PATH, [f"document {n}" for n in range(100)])
    shard.write_bytes(shard.read_bytes()[:-30])
    out = tmp_path / "data" / PATH
    done = fetch_from_site(site, PATH, out)
    assert done.returncode == 1
    assert "truncated" in done.stderr
    assert not out.exists()


@pytest.mark.shared
def test_real_files_come_from_a_read_only_mirror(shared_hub, tmp_path):
    for path in ("files/words_alpha.txt", "datasets/openai/gsm8k/main/test-00000-of-00001.parquet"):
        out = tmp_path / "data" / path
        fetch(path, source=shared_hub, out=out, catalogue=CATALOGUE)
        assert out.stat().st_size == (shared_hub / path).stat().st_size
    fetch_bundle(source=shared_hub, out=tmp_path / "data" / "eval_bundle", catalogue=CATALOGUE)
    assert (tmp_path / "data" / "eval_bundle" / "core.yaml").is_file()
