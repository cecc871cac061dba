"""A tokenizer and token folders of a few hundred made-up sentences."""

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nanochat.config import TokenizerSettings
from nanochat.config.stages import EmptyStage, TokenizerStage
from nanochat.data import tokenizer_training, tokens


def sentences(count: int, seed: int) -> list[str]:
    chance = random.Random(seed)
    names, places = ("Anna", "Ben", "Cleo", "Dan", "Eve"), ("Ashford", "Bree", "Corfe", "Deal")
    return [
        " ".join(
            f"{chance.choice(names)} lives in {chance.choice(places)} and has {chance.randint(2, 99)} coins."
            for _ in range(chance.randint(1, 6))
        )
        for _ in range(count)
    ]


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tokenizer/, train/ and val/ (token folders)."""
    folder = tmp_path_factory.mktemp("tiny")
    for name, count, seed in (("train", 600, 1), ("val", 60, 2)):
        table = pa.table({"text": sentences(count, seed)})
        pq.write_table(table, folder / f"{name}.parquet")
    settings = TokenizerStage(tokenizer=TokenizerSettings(vocab_size=384))
    tokenizer_training.run(settings, out=folder / "tokenizer", shards=[folder / "train.parquet"])
    for name in ("train", "val"):
        tokens.run(EmptyStage(), shard=folder / f"{name}.parquet", tokenizer=folder / "tokenizer", out=folder / name)
    return folder
