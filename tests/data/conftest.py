"""A small tokenizer and small shards, as the other tests of the data layer need them."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nanochat.config import TokenizerSettings
from nanochat.data.tokenizer import Tokenizer

TEXTS = [
    "The cat sat on the mat, and the dog sat on the cat. It's late; they'll go home.",
    "Anna lives in Berlin. Ben lives in Paris. The opposite of hot is cold.",
    "def add(a, b):\n    return a + b\n\n\nprint(add(12, 345))\n",
    "Question: What is 3 + 4?\nAnswer: 7. The word cat is spelled c,a,t and has 3 letters.",
] * 5


def write_shard(path: Path, texts, row_group_size: int = 8, column: str = "text") -> Path:
    """A parquet shard laid out like the public ones."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({column: pa.array(texts, pa.string())}), path, row_group_size=row_group_size)
    return path


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """512 tokens, learned from TEXTS."""
    return Tokenizer.train(TEXTS, TokenizerSettings(vocab_size=512, max_chars=1000))
