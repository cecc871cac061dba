import pytest

from nanochat.artifact import read_manifest, verify
from nanochat.config import TokenizerSettings
from nanochat.config.stages import EmptyStage, TokenizerStage
from nanochat.data import tokenizer_eval, tokenizer_training
from nanochat.data.shards import ShardStats
from nanochat.data.tokenizer import Tokenizer
from nanochat.errors import DataError
from tests.data.conftest import TEXTS, write_shard

SETTINGS = TokenizerStage(tokenizer=TokenizerSettings(vocab_size=512, max_chars=1000))


def test_texts_are_bounded_by_document_and_in_all(tmp_path):
    shards = [write_shard(tmp_path / f"{n}.parquet", ["a" * 300, "b" * 50]) for n in range(3)]
    stats = ShardStats()
    settings = TokenizerSettings(max_chars=1000, document_chars=100)
    batches = tokenizer_training.training_batches(shards, settings.model_copy(update={"max_chars": 270}), stats)
    assert [len(text) for batch in batches for text in batch.to_pylist()] == [100, 50, 100, 20]
    assert stats.documents == 4  # the third shard is not opened


def test_each_corpus_gives_an_equal_part_as_far_as_it_goes(tmp_path):
    texts = {"a": ["a" * 100] * 50, "b": ["b" * 100] * 50, "c": ["c" * 100] * 3}
    shards = [write_shard(tmp_path / name / "shard_00000.parquet", texts[name]) for name in texts]
    settings = TokenizerSettings(max_chars=4000)
    given = [t for b in tokenizer_training.training_batches(shards, settings, ShardStats()) for t in b.to_pylist()]
    assert sum(map(len, given)) == 4000
    parts = {name: sum(len(text) for text in given if text.startswith(name)) for name in texts}
    assert parts["c"] == 300
    assert abs(parts["a"] - parts["b"]) <= 100


def test_run_writes_an_artifact_and_a_second_run_equals_it(tmp_path):
    shard = write_shard(tmp_path / "shard.parquet", TEXTS)
    first = tokenizer_training.run(SETTINGS, out=tmp_path / "a" / "tokenizer", shards=[shard])
    second = tokenizer_training.run(SETTINGS, out=tmp_path / "b" / "tokenizer", shards=[shard])
    assert first.digest == second.digest
    verify(tmp_path / "a" / "tokenizer")
    assert Tokenizer.load(tmp_path / "a" / "tokenizer").vocab_size == first.metrics["vocab_size"] == 512
    assert first.metrics["characters"] == 1000
    assert first.metrics["documents"] < len(TEXTS)  # those that were used


def test_a_truncated_shard_leaves_nothing_behind(tmp_path):
    shard = write_shard(tmp_path / "shard.parquet", TEXTS)
    shard.write_bytes(shard.read_bytes()[:-100])
    out = tmp_path / "run" / "tokenizer"
    with pytest.raises(DataError, match="truncated"):
        tokenizer_training.run(SETTINGS, out=out, shards=[shard])
    assert not out.exists()
    write_shard(shard, TEXTS)
    tokenizer_training.run(SETTINGS, out=out, shards=[shard])
    assert out.exists()


def test_compression_is_measured_on_every_kind_of_text(tmp_path):
    shard = write_shard(tmp_path / "shard.parquet", TEXTS)
    tokenizer_training.run(SETTINGS, out=tmp_path / "run" / "tokenizer", shards=[shard])
    out = tmp_path / "run" / "eval" / "tokenizer"
    tokenizer_eval.run(EmptyStage(), out=out, tokenizer=tmp_path / "run" / "tokenizer", shard=shard)
    records = {record["text"]: record for record in read_manifest(out, "tokenizer_eval").metrics["compression"]}
    assert list(records) == ["validation", "prose", "code", "numbers", "unicode", "chat"]
    assert records["validation"]["bytes"] == sum(len(text.encode()) for text in TEXTS)
    assert records["validation"]["bytes_per_token"] > 2  # trained on it
    assert records["unicode"]["bytes_per_token"] < records["prose"]["bytes_per_token"]
    for record in records.values():
        assert record["bytes_per_token"] == pytest.approx(record["bytes"] / record["tokens"], abs=1e-4)


def test_reference_tokenizers_are_never_downloaded(tmp_path, monkeypatch):
    import socket

    def no_network(*arguments, **keywords):
        raise AssertionError("a connection was opened")

    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(socket, "create_connection", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    assert set(tokenizer_eval.reference_encoders()) == {"gpt2", "gpt4"}


def test_an_empty_validation_shard_is_named(tmp_path):
    shard = write_shard(tmp_path / "empty.parquet", ["", None])
    with pytest.raises(DataError, match=r"empty\.parquet has no document"):
        tokenizer_eval.validation_texts(shard)


@pytest.mark.shared
def test_real_text_compresses(shared_hub, tmp_path):
    folder = shared_hub / "datasets/karpathy/climbmix-400b-shuffle"
    settings = TokenizerStage(tokenizer=TokenizerSettings(vocab_size=4096, max_chars=2_000_000))
    tokenizer_training.run(settings, out=tmp_path / "tokenizer", shards=[folder / "shard_00000.parquet"])
    trained = Tokenizer.load(tmp_path / "tokenizer")
    assert trained.unused == 0
    texts = tokenizer_eval.validation_texts(folder / "shard_06542.parquet", 200_000)
    record = tokenizer_eval.compression(trained, {"validation": texts})[0]
    assert 2.9 < record["bytes_per_token"] < 4.0
