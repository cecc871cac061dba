"""The files are what the public sets would be: layout, schemas, sizes, bytes."""

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from nanochat.config.catalogue import load_catalogue
from nanochat.config.data import WorldSettings
from nanochat.data.world.documents import documents
from nanochat.data.world.facts import build_world
from nanochat.data.world.generate import generate
from nanochat.data.world.identity import Identity
from nanochat.errors import DataError

SMALL = {"people": 12, "text_megabytes": 0.2, "train_shards": 2, "items": 0.03}
PUBLIC = {
    "word_problems/main/train": "openai/gsm8k/main/train",
    "choice/choice/train": "allenai/ai2_arc/ARC-Easy/train",
    "subjects/all/test": "cais/mmlu/all/test",
    "functions/openai_humaneval/test": "openai/openai_humaneval/openai_humaneval/test",
}


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_every_file_of_the_catalogue_is_made(made):
    world = [entry for entry in load_catalogue().tasks.values() if "world" in entry.licence]
    for path in {path for entry in world for path in (*entry.train, *entry.test)}:
        assert (made.root / path).is_file(), path
    assert (made.root / "files/identity_conversations.jsonl").is_file()
    assert {str(path) for path in digests(made.root)} - set(made.counts) <= {
        "eval_bundle/core.yaml",
        "eval_bundle/eval_meta_data.csv",
    }


def test_counts_are_those_of_the_files(made):
    for path, entry in made.counts.items():
        if path.endswith(".parquet"):
            rows = pq.ParquetFile(made.root / path).metadata.num_rows
            assert rows == entry.get("items", entry.get("documents")) > 0
            assert entry["bytes"] == (made.root / path).stat().st_size


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("word_problems/main/train", 6000),
        ("word_problems/main/test", 400),
        ("facts/main/train", 1500),
        ("facts/main/test", 300),
        ("choice/choice/train", 3000),
        ("choice/choice/validation", 300),
        ("choice/choice/test", 400),
        ("subjects/all/auxiliary_train", 3000),
        ("subjects/all/test", 400),
        ("subjects/all/dev", 45),
        ("functions/openai_humaneval/train", 400),
        ("functions/openai_humaneval/test", 60),
        ("dialogue/data/train", 2500),
        ("dialogue/data/test", 200),
    ],
)
def test_task_files_have_their_size(made, name, least):
    assert len(made.rows(name)) >= least


def test_text_shards_are_laid_out_like_the_public_ones(made):
    folder = made.root / "datasets/world/text"
    shards = sorted(folder.iterdir())
    assert [shard.name for shard in shards] == [f"shard_{index:05d}.parquet" for index in range(5)]
    for shard in shards:
        file = pq.ParquetFile(shard)
        assert file.schema_arrow.names == ["text"]
        assert str(file.schema_arrow.field("text").type) == "string"
        assert file.metadata.row_group(0).column(0).compression == "ZSTD"
        groups = [file.metadata.row_group(index).num_rows for index in range(file.num_row_groups)]
        assert set(groups[:-1]) <= {1024} and groups[-1] <= 1024
    sizes = [sum(len(text.encode()) for text in pq.read_table(shard)["text"].to_pylist()) for shard in shards]
    assert sum(sizes) == pytest.approx(4.0e6, rel=0.01)
    assert sizes[-1] == pytest.approx(0.05 * sum(sizes), rel=0.15)  # the validation shard is the last
    train = {text for shard in shards[:-1] for text in pq.read_table(shard)["text"].to_pylist()}
    assert not train & set(pq.read_table(shards[-1])["text"].to_pylist())


@pytest.mark.shared
@pytest.mark.parametrize(("ours", "theirs"), PUBLIC.items())
def test_schemas_are_those_of_the_public_files(made, shared_hub, ours, theirs):
    mine = pq.read_schema(made.root / f"datasets/world/{ours}-00000-of-00001.parquet").remove_metadata()
    other = pq.read_schema(shared_hub / f"datasets/{theirs}-00000-of-00001.parquet").remove_metadata()
    assert mine.equals(other)


def test_the_dialogue_schema_is_that_of_smoltalk(made):
    schema = pq.read_schema(made.root / "datasets/world/dialogue/data/train-00000-of-00001.parquet")
    assert str(schema.field("messages").type) == "list<element: struct<content: string, role: string>>"
    assert str(schema.field("source").type) == "string"


def test_the_word_list_is_like_words_alpha(made):
    raw = (made.root / "files/words.txt").read_bytes()
    assert raw.endswith(b"\r\n") and raw.count(b"\n") == raw.count(b"\r\n")
    words = raw.decode("ascii").split("\r\n")[:-1]
    assert len(words) >= 3000 and words == sorted(set(words))
    assert all(3 <= len(word) <= 9 and word.isalpha() and word.islower() for word in words)


def test_identity_conversations_alternate(made):
    lines = (made.root / "files/identity_conversations.jsonl").read_text().splitlines()
    assert len(lines) == len(set(lines)) == 300
    for line in lines:
        messages = json.loads(line)
        assert len(messages) >= 2
        assert [message["role"] for message in messages] == ["user", "assistant"] * (len(messages) // 2)
    assert sum("Littleton" in line for line in lines) > 50


def test_the_identity_can_be_another(tmp_path):
    generate(WorldSettings(**SMALL), tmp_path, Identity(name="Ferdinand", maker="Ada"))
    text = (tmp_path / "files/identity_conversations.jsonl").read_text()
    assert "Ferdinand" in text and "Littleton" not in text


def test_equal_settings_give_equal_bytes_in_another_process(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    generate(WorldSettings(**SMALL), here)
    program = (
        "import sys; from pathlib import Path; from nanochat.config.data import WorldSettings;"
        "from nanochat.data.world.generate import generate;"
        f"generate(WorldSettings(**{SMALL!r}), Path(sys.argv[1]))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    subprocess.run([sys.executable, "-c", program, str(there)], check=True, env=environment)
    assert digests(here) == digests(there)


def test_another_seed_is_another_world(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    generate(WorldSettings(seed=1, **SMALL), one)
    generate(WorldSettings(seed=2, **SMALL), two)
    changed = {path for path, digest in digests(one).items() if digests(two)[path] != digest}
    assert "datasets/world/text/shard_00000.parquet" in changed
    assert "datasets/world/facts/main/test-00000-of-00001.parquet" in changed


def test_a_longer_text_begins_with_the_shorter_one():
    world = build_world(1, 12)
    short, long = list(documents(world, 1, 50_000)), list(documents(world, 1, 100_000))
    assert long[: len(short)] == short


def test_twenty_megabytes_hardly_repeat_a_document():
    texts = [text for _, text in documents(build_world(1, 96), 1, 20_000_000)]
    assert sum(len(text.encode()) for text in texts) >= 20_000_000
    assert len(set(texts)) >= 0.95 * len(texts)
    assert max(Counter(texts).values()) < 50


@pytest.mark.parametrize("people", [8, 400])
def test_the_smallest_and_the_largest_population_have_test_items(tmp_path, people):
    counts = generate(WorldSettings(people=people, text_megabytes=0.1, train_shards=1, items=0.02), tmp_path)
    assert all(entry["items"] > 0 for entry in counts.values() if "items" in entry)


def test_a_folder_that_is_not_empty_is_refused(tmp_path):
    (tmp_path / "precious.txt").write_text("keep me")
    with pytest.raises(DataError, match="not an empty directory"):
        generate(WorldSettings(**SMALL), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]
