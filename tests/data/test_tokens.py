from functools import partial

import numpy as np
import pytest

from nanochat.artifact import input_digest
from nanochat.config import TokenizerSettings
from nanochat.config.stages import EmptyStage, TokenizerStage
from nanochat.data import tokenizer_training, tokens
from nanochat.data.shards import text_batches
from nanochat.data.tokenizer import Tokenizer
from nanochat.data.tokens import TokenFile, id_type
from nanochat.errors import ArtifactError, DataError
from tests.data.conftest import TEXTS, write_shard

DOCUMENTS = ["The cat.", None, "naïve 数", " \n", "Anna lives in <|bos|> Paris.\n"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A tokenizer folder and the token folder of DOCUMENTS."""
    root = tmp_path_factory.mktemp("tokens")
    text = write_shard(root / "text.parquet", TEXTS)
    settings = TokenizerStage(tokenizer=TokenizerSettings(vocab_size=512))
    tokenizer_training.run(settings, out=root / "tokenizer", shards=[text])
    shard = write_shard(root / "shard_00000.parquet", DOCUMENTS)
    tokens.run(EmptyStage(), out=root / "tokens" / "shard_00000", shard=shard, tokenizer=root / "tokenizer")
    return root


def test_every_document_starts_with_bos_and_comes_back(made):
    tokenizer = Tokenizer.load(made / "tokenizer")
    file = TokenFile.read(made / "tokens" / "shard_00000", input_digest(made / "tokenizer"))
    kept = [DOCUMENTS[0], DOCUMENTS[2], DOCUMENTS[4]]
    assert file.documents == 3
    for index, text in enumerate(kept):
        ids = file.document(index)
        assert ids[0] == tokenizer.bos
        assert (ids[1:] < tokenizer.bos).all()  # <|bos|> in the text is text
        assert tokenizer.decode(ids[1:]) == text
    assert file.ids.dtype == np.uint16
    metrics = file.manifest.metrics
    assert metrics["skipped"] == {"null": 1, "empty": 1, "not_utf8": 0}
    assert [problem["row"] for problem in metrics["problems"]] == [2, 4]
    assert metrics["bytes"] == sum(len(text.encode()) for text in kept)
    assert (metrics["documents"], metrics["tokens"]) == (3, file.tokens)
    assert file.manifest.tokens == file.tokens
    assert int(tokenizer.token_bytes[file.ids].sum()) == metrics["bytes"]


def test_batches_do_not_show_in_the_result(made, tmp_path, monkeypatch, tokenizer):
    shard = write_shard(tmp_path / "s.parquet", TEXTS)
    one, many = tmp_path / "one", tmp_path / "many"
    for folder, size, threads in ((one, 10**9, 1), (many, 100, 3)):
        folder.mkdir()
        monkeypatch.setattr(tokens, "text_batches", partial(text_batches, batch_bytes=size))
        tokens.write_tokens(shard, tokenizer, folder, threads)
    for name in (tokens.IDS_FILE, tokens.OFFSETS_FILE):
        assert (one / name).read_bytes() == (many / name).read_bytes()


def test_large_vocabularies_take_four_bytes():
    assert id_type(65_536) == np.uint16
    assert id_type(65_537) == np.uint32


def test_tokens_of_another_tokenizer_are_refused(made):
    with pytest.raises(ArtifactError, match=r"made with the tokenizer .*expected 0000.*rerun snakemake"):
        TokenFile.read(made / "tokens" / "shard_00000", "0" * 64)


def test_a_shortened_token_file_is_refused(made, tmp_path):
    import shutil

    folder = shutil.copytree(made / "tokens" / "shard_00000", tmp_path / "copy")
    (folder / tokens.IDS_FILE).write_bytes((folder / tokens.IDS_FILE).read_bytes()[:-2])
    with pytest.raises(ArtifactError, match=r"tokens\.bin is [\d,]+ bytes long, its manifest says"):
        TokenFile.read(folder)
    (folder / tokens.IDS_FILE).unlink()
    with pytest.raises(ArtifactError, match=r"tokens\.bin is missing"):
        TokenFile.read(folder)


def test_a_shard_without_documents_is_an_error_and_leaves_nothing(made, tmp_path):
    shard = write_shard(tmp_path / "empty.parquet", ["", None])
    out = tmp_path / "tokens" / "empty"
    with pytest.raises(DataError, match="no document to tokenize"):
        tokens.run(EmptyStage(), out=out, shard=shard, tokenizer=made / "tokenizer")
    assert not out.exists()
