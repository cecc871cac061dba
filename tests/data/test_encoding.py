import numpy as np
import pyarrow as pa
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from nanochat.data import encoding
from nanochat.data.encoding import BulkEncoder
from nanochat.data.parallel import in_order
from nanochat.data.tokenizer import Tokenizer
from nanochat.errors import ArtifactError
from tests.data.conftest import TEXTS
from tests.data.test_chunks import TEXTS as RANDOM_TEXTS

UINT16 = np.dtype(np.uint16)


def encoded(encoder: BulkEncoder, batches: list[list[str]]) -> list[list[int]]:
    documents = []
    for ids, lengths in encoder.encode(pa.array(batch, pa.large_string()) for batch in batches):
        assert ids.dtype == UINT16
        documents += [part.tolist() for part in np.split(ids, np.cumsum(lengths)[:-1])]
    return documents


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(RANDOM_TEXTS, min_size=1, max_size=4), min_size=1, max_size=4), st.integers(1, 3))
def test_the_ids_are_those_of_the_tokenizer(tokenizer, batches, threads):
    expected = [[tokenizer.bos, *tokenizer.encode(text)] for batch in batches for text in batch]
    assert encoded(BulkEncoder(tokenizer, UINT16, threads), batches) == expected


def test_threads_share_one_memory(tokenizer):
    batches = [[*TEXTS[n % len(TEXTS) :], f"word{n} " * 50] for n in range(40)]
    expected = [[tokenizer.bos, *tokenizer.encode(text)] for batch in batches for text in batch]
    assert encoded(BulkEncoder(tokenizer, UINT16, 4), batches) == expected


def test_a_full_memory_is_begun_anew(tokenizer, monkeypatch):
    monkeypatch.setattr(encoding, "_KEPT_CHUNKS", 10)
    batches = [[" ".join(f"w{n}x{k}" for k in range(20))] for n in range(20)]
    expected = [[tokenizer.bos, *tokenizer.encode(text)] for batch in batches for text in batch]
    assert encoded(BulkEncoder(tokenizer, UINT16, 2), batches) == expected


def test_endless_words_are_encoded_in_pieces_and_come_back(tokenizer):
    text = "中文" * 120_000
    ids = encoded(BulkEncoder(tokenizer, UINT16), [[text]])[0]
    assert tokenizer.decode(ids[1:]) == text


def test_results_come_in_order_and_errors_at_their_place():
    assert list(in_order(lambda n: n * n, range(20), 3)) == [n * n for n in range(20)]

    def fails_at_five(number: int) -> int:
        if number == 5:
            raise ValueError("five")
        return number

    found = []
    with pytest.raises(ValueError, match="five"):
        for number in in_order(fails_at_five, range(20), 3):
            found.append(number)
    assert found == [0, 1, 2, 3, 4]


def test_items_are_drawn_only_as_they_are_needed():
    drawn = []

    def items():
        for number in range(100):
            drawn.append(number)
            yield number

    results = in_order(lambda n: n, items(), 2)
    assert next(results) == 0
    assert len(drawn) <= 4


def test_a_tokenizer_of_another_split_is_refused(tokenizer):
    other = tokenizers.Tokenizer.from_str(tokenizer._core.to_str())
    other.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    with pytest.raises(ArtifactError, match="its split"):
        BulkEncoder(Tokenizer(other), UINT16)
