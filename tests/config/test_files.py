import pytest

from nanochat.config.files import find_files
from nanochat.errors import ConfigError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    names = ("notes/a.md", "notes/deep/b.txt.gz", "notes/.git/c.txt", "notes/picture.png", "d.parquet", "e.bin")
    for name in (*names, "app/package.json", "app/talk.jsonl", "app/more.ndjson.zst", "only/settings.json.gz"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("patterns", "files", "others"),
    [
        (["notes"], ("notes/a.md", "notes/deep/b.txt.gz"), 1),
        (["notes/", "notes/a.md"], ("notes/a.md", "notes/deep/b.txt.gz"), 1),
        (["notes/*.md", "d.parquet"], ("d.parquet", "notes/a.md"), 0),
        (["notes/**/*.gz"], ("notes/deep/b.txt.gz",), 0),
        (["e.bin"], ("e.bin",), 0),  # named: its reader says what it thinks of it
        (["app"], ("app/more.ndjson.zst", "app/talk.jsonl"), 1),  # settings are no text
        (["app/*.json"], ("app/package.json",), 0),
        (["app", "app/package.json"], ("app/more.ndjson.zst", "app/package.json", "app/talk.jsonl"), 0),
        (["notes", "notes/picture.png"], ("notes/a.md", "notes/deep/b.txt.gz", "notes/picture.png"), 0),
    ],
)
def test_what_patterns_mean(folder, patterns, files, others):
    found = find_files(patterns, "own.text.files")
    assert (found.files, found.others) == (files, others)


def test_absolute_paths_and_the_home_folder(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    assert find_files(["~/notes/a.md"], "k").files == find_files([str(folder / "notes" / "*.md")], "k").files


@pytest.mark.parametrize("pattern", ["nothing", "notes/*.pdf"])
def test_a_pattern_without_files_is_named(folder, pattern):
    with pytest.raises(ConfigError, match=r"own\.text\.files: " + pattern.replace("*", r"\*")):
        find_files([pattern], "own.text.files")


def test_a_folder_of_json_says_how_it_is_named(folder):
    with pytest.raises(ConfigError, match=r"only holds no text file; .* write only/\*\*/\*\.json"):
        find_files(["only"], "own.text.files")
