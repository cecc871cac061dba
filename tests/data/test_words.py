import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from nanochat.config import TokenizerSettings
from nanochat.data.tokenizer import Tokenizer, splitter
from nanochat.data.words import WordCounter
from tests.data.test_chunks import TEXTS as RANDOM_TEXTS
from tests.data.test_chunks import words as split_words

SETTINGS = TokenizerSettings(vocab_size=1024)


def counted(batches: list[list[str]], threads: int = 1, **limits: int) -> WordCounter:
    counter = WordCounter(splitter(SETTINGS), **limits)
    counter.count((pa.array(batch, pa.large_string()) for batch in batches), threads)
    return counter


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(RANDOM_TEXTS, min_size=1, max_size=5), min_size=1, max_size=4), st.integers(1, 3))
def test_words_are_counted_as_the_split_gives_them(batches, threads):
    counter = counted(batches, threads)
    expected: dict[str, int] = {}
    for batch in batches:
        for text in batch:
            for word in split_words(text, SETTINGS.max_digits):
                expected[word] = expected.get(word, 0) + 1
    assert counter.words() == expected
    assert counter.documents == sum(map(len, batches))
    assert counter.characters == sum(len(text) for batch in batches for text in batch)


def test_the_rarer_half_is_forgotten_and_said_so():
    batches = [[f"often{n % 5} rare{n}" for n in range(start, start + 50)] for start in range(0, 1000, 50)]
    counter = counted(batches, limit=200)
    found = counter.words()
    assert len(found) <= 250
    assert all(found[f"often{n}"] == 200 for n in range(5) if f"often{n}" in found)
    assert {"often"} <= set(found) or any(word.startswith("often") for word in found)
    assert counter.forgotten > 500
    assert sum(found.values()) + counter.forgotten >= 2000


def test_text_without_blanks_stays_within_its_memory():
    """Chinese: no blanks, so that every document is a chunk of its own and none comes again."""
    chance = np.random.default_rng(1)
    letters = [chr(0x4E00 + n) for n in range(400)]

    def document() -> str:
        return "。".join("".join(chance.choice(letters, 12)) for _ in range(40))

    batches = [[document() for _ in range(10)] for _ in range(8)]
    counter = counted(batches, size_limit=40_000)
    found = counter.words()
    assert 0 < sum(3 * len(word) for word in found) < 80_000
    assert max(map(len, found)) <= 13  # words, not documents
    assert counter.forgotten > 0
    trained = Tokenizer.learn(counter, SETTINGS)
    text = batches[0][0]
    assert trained.decode(trained.encode(text)) == text
    assert len(trained.encode(text)) < len(text.encode()) / 2
