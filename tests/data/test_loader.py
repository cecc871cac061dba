from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanochat.artifact import Manifest
from nanochat.data import loader
from nanochat.data.loader import ConversationRows, TokenRows
from nanochat.data.tokens import TokenFile
from nanochat.errors import DataError

BOS = 60_000
MANIFEST = Manifest(stage="tokens", fingerprint="", created="", settings={}, inputs={}, files={}, code={}, libraries={})


def token_file(lengths, first=1):
    """Documents of the given token counts; every token but bos appears once in the whole file."""
    documents = []
    for length in lengths:
        documents.append([BOS, *range(first, first + length - 1)])
        first += length - 1
    ids = np.array([number for document in documents for number in document], dtype=np.uint16)
    return TokenFile(Path("nowhere"), ids, np.cumsum([0, *lengths]), MANIFEST)


def pairs_of(batch):
    """(input, target) pairs that carry loss, each row's segment in order."""
    valid = batch.targets != -1
    return list(zip(batch.inputs[valid].tolist(), batch.targets[valid].tolist(), strict=True))


def file_pairs(files):
    return [
        pair
        for file in files
        for index in range(file.documents)
        for pair in zip(file.document(index)[:-1].tolist(), file.document(index)[1:].tolist(), strict=True)
    ]


def assert_rows_are_well_formed(batch):
    for inputs, targets, segments in zip(batch.inputs, batch.targets, batch.segments, strict=True):
        assert (np.diff(segments) >= 0).all()
        assert segments[0] == 0
        inside = (segments[1:] == segments[:-1]) & (targets[:-1] != -1) & (targets[1:] != -1)
        assert (inputs[1:][inside] == targets[:-1][inside]).all()  # a segment is one run of text


LENGTHS = st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=12), min_size=1, max_size=4).filter(
    lambda shards: max(map(max, shards)) > 1  # a document of `<|bos|>` alone has nothing to learn
)


@settings(max_examples=60)
@given(LENGTHS, st.integers(1, 24), st.integers(0, 5), st.integers(1, 6))
def test_an_epoch_holds_every_pair_exactly_once(shards, sequence_length, seed, window_rows):
    firsts = np.cumsum([1, *(sum(lengths) - len(lengths) for lengths in shards)])
    files = [token_file(lengths, int(first)) for lengths, first in zip(shards, firsts[:-1], strict=True)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loader, "_WINDOW_ROWS", window_rows)
        rows = TokenRows(files, sequence_length, seed, BOS)
        for epoch in range(2):
            batch = rows.read(epoch * rows.rows_per_epoch, rows.rows_per_epoch)
            assert Counter(pairs_of(batch)) == Counter(file_pairs(files))
            assert_rows_are_well_formed(batch)


@settings(max_examples=40)
@given(LENGTHS, st.lists(st.integers(1, 5), min_size=1, max_size=8), st.integers(0, 30))
def test_token_rows_do_not_depend_on_how_they_are_read(shards, counts, start):
    files = [token_file(lengths) for lengths in shards]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loader, "_WINDOW_ROWS", 2)
        rows = TokenRows(files, 8, 1, BOS)
        whole = rows.read(start, sum(counts))
        place = 0
        for count in counts:
            # A fresh source each time: a resumed run has read nothing before.
            part = TokenRows(files, 8, 1, BOS).read(start + place, count)
            for name in ("inputs", "targets", "segments"):
                assert np.array_equal(getattr(part, name), getattr(whole, name)[place : place + count])
            place += count


def test_order_depends_on_seed_and_epoch():
    files = [token_file([30] * 40)]
    rows = TokenRows(files, 16, 1, BOS)
    count = rows.rows_per_epoch
    first, second = rows.read(0, count), rows.read(count, count)
    other = TokenRows(files, 16, 2, BOS).read(0, count)
    assert not np.array_equal(first.inputs, second.inputs)
    assert not np.array_equal(first.inputs, other.inputs)


def test_less_than_one_row_of_a_window_is_padding_and_it_is_apart():
    files = [token_file(np.random.default_rng(0).integers(2, 100, 300).tolist())]
    rows = TokenRows(files, 64, 0, BOS)
    batch = rows.read(0, rows.rows_per_epoch)
    padding = batch.targets == -1
    assert 0 < padding.sum() < 64
    assert (batch.inputs[padding] == BOS).all()
    for row in np.flatnonzero(padding.any(axis=1)):
        # Padding does not attend to a document, and no document to it.
        assert not set(batch.segments[row][padding[row]]) & set(batch.segments[row][~padding[row]])


def test_resuming_packs_one_window_only(monkeypatch):
    monkeypatch.setattr(loader, "_WINDOW_ROWS", 4)
    packed = []
    original = loader.best_fit_full
    monkeypatch.setattr(loader, "best_fit_full", lambda *given: packed.append(1) or original(*given))
    rows = TokenRows([token_file([30] * 10) for _ in range(20)], 16, 0, BOS)
    window = rows.rows_per_epoch // 20
    rows.read(13 * window + 1, 2)
    assert len(packed) == 1
    for start in range(rows.rows_per_epoch):
        rows.read(start, 1)
    assert len(packed) <= 21


def test_no_text_and_bad_positions_are_named():
    with pytest.raises(DataError, match="no document of two tokens"):
        TokenRows([token_file([1, 1])], 8, 0, BOS)
    with pytest.raises(DataError, match=r"rows \[-1, 3\)"):
        TokenRows([token_file([9])], 8, 0, BOS).read(-1, 4)


def conversations_of(lengths):
    """Conversations of distinct tokens; the second half of each is the assistant's."""
    result = []
    first = 1
    for length in lengths:
        result.append((list(range(first, first + length)), [int(2 * place >= length) for place in range(length)]))
        first += length
    return result


CONVERSATIONS = st.lists(st.integers(2, 30), min_size=1, max_size=40).map(conversations_of)


def expected_targets(conversations, sequence_length, train_on):
    return Counter(
        target
        for ids, mask in conversations
        for target, own in list(zip(ids, mask, strict=True))[1 : sequence_length + 1]
        if own or train_on == "everything"
    )


@settings(max_examples=60)
@given(CONVERSATIONS, st.integers(4, 40), st.sampled_from(["assistant", "everything"]))
def test_every_conversation_is_seen_once_per_epoch_and_whole(conversations, sequence_length, train_on):
    expected = expected_targets(conversations, sequence_length, train_on)
    if not expected:
        with pytest.raises(DataError, match="none of"):
            ConversationRows(conversations, sequence_length, 0, train_on)
        return
    rows = ConversationRows(conversations, sequence_length, 0, train_on)
    for epoch in range(2):
        batch = rows.read(epoch * rows.rows_per_epoch, rows.rows_per_epoch)
        assert Counter(target for _, target in pairs_of(batch)) == expected
        assert (batch.targets != -1).any(axis=1).all()  # no row is all ignored
        assert_rows_are_well_formed(batch)
        starts = {ids[0] for ids, _ in conversations}
        new = np.diff(batch.segments, axis=1, prepend=-1) > 0
        heads = batch.inputs[new]
        # Each segment begins with a conversation's first token, but for the padding.
        padding = (batch.targets[new] == -1) & (heads == rows.read(0, 1).inputs[0, -1])
        assert all(head in starts for head in heads[~padding].tolist())
    assert rows.dropped + rows.conversations == len(conversations)
    assert rows.cut == sum(len(ids) > sequence_length + 1 for ids, _ in conversations)


@settings(max_examples=40)
@given(CONVERSATIONS, st.lists(st.integers(1, 5), min_size=1, max_size=6), st.integers(0, 30))
def test_conversation_rows_do_not_depend_on_how_they_are_read(conversations, counts, start):
    whole = ConversationRows(conversations, 32, 3).read(start, sum(counts))
    place = 0
    for count in counts:
        part = ConversationRows(conversations, 32, 3).read(start + place, count)
        for name in ("inputs", "targets", "segments"):
            assert np.array_equal(getattr(part, name), getattr(whole, name)[place : place + count])
        place += count


def test_conversations_without_anything_to_learn_in_the_row_are_dropped():
    conversations = [
        ([1, 2, 3], [0, 0, 0]),
        ([5, 6, 7], [0, 1, 1]),
        (list(range(10, 40)), [0] * 29 + [1]),  # the answer lies beyond the row
        ([8], [1]),
    ]
    rows = ConversationRows(conversations, 8, 0)
    assert (rows.dropped, rows.cut, rows.conversations, rows.rows_per_epoch) == (3, 1, 1, 1)
    assert pairs_of(rows.read(0, 1)) == [(5, 6), (6, 7)]


def test_realistic_conversations_waste_less_than_a_hundredth():
    lengths = np.random.default_rng(0).lognormal(5.3, 0.8, 3000).astype(int) + 8
    rows = ConversationRows([(range(n), [1] * n) for n in lengths.tolist()], 2048, 0)
    assert 0 <= rows.waste < 0.01


def test_every_stretch_of_rows_is_a_sample_of_the_mixture():
    # Two tasks, one of long and one of short conversations, given one after the other.
    long, short = [([1] * 180, [1] * 180)] * 400, [([2] * 30, [1] * 30)] * 2400
    rows = ConversationRows(long + short, 256, 0)
    share = [float((rows.read(start, 50).inputs == 1).mean()) for start in range(0, rows.rows_per_epoch - 50, 50)]
    assert max(share) - min(share) < 0.3


@pytest.mark.shared
def test_real_shards_are_packed_without_loss(shared_hub, tmp_path, tokenizer):
    from nanochat.data.tokens import IDS_FILE, OFFSETS_FILE, write_tokens

    shard = shared_hub / "datasets/karpathy/climbmix-400b-shuffle/shard_06542.parquet"
    metrics = write_tokens(shard, tokenizer, tmp_path)
    file = TokenFile(
        tmp_path,
        np.fromfile(tmp_path / IDS_FILE, dtype=metrics["dtype"]),
        np.load(tmp_path / OFFSETS_FILE),
        MANIFEST,
    )
    rows = TokenRows([file], 512, 42, tokenizer.bos)
    batch = rows.read(0, rows.rows_per_epoch)
    assert batch.valid_targets == file.tokens - file.documents
    assert int(tokenizer.token_bytes[batch.targets[batch.targets != -1]].sum()) == metrics["bytes"]
    assert batch.valid_targets > 0.99 * batch.targets.size
