import itertools

import numpy as np
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models, pre_tokenizers, trainers

from nanochat.data.bpe import learn_merges

WORDS = st.dictionaries(st.text("abcd", min_size=1, max_size=12), st.integers(1, 30), min_size=1, max_size=40)


def learned(words: dict[str, int], size: int, min_count: int = 2) -> tuple[list[bytes], list[tuple[bytes, bytes]]]:
    names = [b"a", b"b", b"c", b"d"]
    text = "".join(words)
    offsets = np.cumsum([0, *map(len, words)])
    tokens = np.array([ord(letter) - ord("a") for letter in text], dtype=np.int32)
    names, merges = learn_merges(names, tokens, offsets, np.array(list(words.values())), size, min_count)
    return names, [(names[left], names[right]) for left, right in merges]


def merge_word(word: list[bytes], pair: tuple[bytes, bytes]) -> list[bytes]:
    out: list[bytes] = []
    place = 0
    while place < len(word):
        if tuple(word[place : place + 2]) == pair:
            out.append(pair[0] + pair[1])
            place += 2
        else:
            out.append(word[place])
            place += 1
    return out


@settings(max_examples=300, deadline=None)
@given(WORDS)
def test_every_merge_is_of_a_most_frequent_pair(words):
    """The definition, step by step: counts of all pairs in all words, the highest is merged."""
    _, merges = learned(words, 200)
    state = {word: [letter.encode() for letter in word] for word in words}
    for pair in merges:
        counts: dict[tuple[bytes, bytes], int] = {}
        for word, pieces in state.items():
            for left, right in itertools.pairwise(pieces):
                counts[left, right] = counts.get((left, right), 0) + words[word]
        assert counts[pair] == max(counts.values()) >= 2
        state = {word: merge_word(pieces, pair) for word, pieces in state.items()}
    left_over: dict[tuple[bytes, bytes], int] = {}
    for word, pieces in state.items():
        for pair in itertools.pairwise(pieces):
            left_over[pair] = left_over.get(pair, 0) + words[word]
    assert all(count < 2 for count in left_over.values())


@settings(max_examples=50, deadline=None)
@given(WORDS, st.integers(5, 12))
def test_as_many_tokens_as_asked_for_and_all_different(words, size):
    names, merges = learned(words, size)
    assert len(names) == len(set(names)) <= size
    assert set(names[4:]) == {left + right for left, right in merges}


def test_runs_of_one_letter_merge_from_the_left():
    names, merges = learned({"aaaaaaa": 3, "aaaa": 2}, 7)
    assert merges == [(b"a", b"a"), (b"aa", b"aa"), (b"aa", b"a")]
    assert names[4:] == [b"aa", b"aaaa", b"aaa"]


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text("ab", min_size=1, max_size=30), st.integers(1, 9), min_size=1, max_size=20))
def test_no_token_is_made_twice(words):
    """Runs and overlaps are where it would happen, and a vocabulary could not hold it."""
    names, _ = learned(words, 500, min_count=1)
    assert len(names) == len(set(names))


def test_the_merges_are_those_of_the_trainer_of_tokenizers():
    """On a text, not only in size: merge by merge."""
    text = (pre_tokenizers.__doc__ or "") + tokenizers.Tokenizer.__doc__ + trainers.BpeTrainer.__doc__
    words: dict[str, int] = {}
    for word in (text * 3).split():
        if word.isascii():
            words[word] = words.get(word, 0) + 1
    alphabet = sorted(set("".join(words)))
    core = tokenizers.Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(vocab_size=400, min_frequency=2, initial_alphabet=alphabet, show_progress=False)
    core.train_from_iterator([word for word, count in words.items() for _ in range(count)], trainer)
    flat = "".join(words)
    names, _ = learn_merges(
        [letter.encode() for letter in alphabet],
        np.array([alphabet.index(letter) for letter in flat], dtype=np.int32),
        np.cumsum([0, *map(len, words)]),
        np.array(list(words.values())),
        400,
        2,
    )
    theirs = [token for token, _ in sorted(core.get_vocab().items(), key=lambda entry: entry[1])]
    assert [name.decode() for name in names] == theirs
