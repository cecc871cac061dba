import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from nanochat.data.merging import Merger
from tests.data.test_bpe import WORDS, learned, merge_word


@settings(max_examples=200, deadline=None)
@given(WORDS, st.lists(st.text("abcd", min_size=1, max_size=20), min_size=1, max_size=20))
def test_merging_many_words_is_merging_each_in_the_order_learned(words, texts):
    names, merges = learned(words, 60)
    number = {name: place for place, name in enumerate(names)}
    merger = Merger([(number[left], number[right], number[left + right]) for left, right in merges])
    tokens = np.array([ord(letter) - ord("a") for text in texts for letter in text])
    found, counts = merger.apply(tokens, np.cumsum([0, *map(len, texts)]))
    parts = np.split(found, np.cumsum(counts)[:-1])
    for text, part in zip(texts, parts, strict=True):
        pieces = [letter.encode() for letter in text]
        while ready := [pair for pair in merges if pair in set(itertools.pairwise(pieces))]:
            pieces = merge_word(pieces, ready[0])
        assert [names[token] for token in part] == pieces
