"""Scoring in packed rows of trees gives what scoring one by one gives."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nanochat.infer.scoring import (
    Span,
    batches_by_length,
    judge_tokens,
    next_logits,
    one_by_one,
    span_losses,
    tree_losses,
)
from nanochat.infer.trees import common_prefix, grow, pack
from nanochat.model.gpt import GPT
from tests.infer.fixtures import make_model

VOCAB = 61
CONTEXT = 40
TOKEN = st.integers(1, VOCAB - 1)
MODELS: dict[tuple[str, str], GPT] = {
    key: make_model(VOCAB, key[0], context=CONTEXT, windows=key[1]) for key in (("modern", "SL"), ("classic", "L"))
}


@st.composite
def items(draw):
    """Items of spans that share a beginning, of any length up to beyond the context."""
    found = []
    for _ in range(draw(st.integers(1, 5))):
        trunk = draw(st.lists(TOKEN, min_size=1, max_size=CONTEXT + 10))
        spans = []
        for _ in range(draw(st.integers(1, 4))):
            tokens = (0, *trunk, *draw(st.lists(TOKEN, min_size=0, max_size=12)))
            spans.append(Span(tokens, draw(st.integers(1, len(tokens) - 1))))
        found.append(spans)
    return found


def assert_same(found, expected):
    assert [(loss.tokens, loss.greedy) for loss in found] == [(loss.tokens, loss.greedy) for loss in expected]
    assert [loss.mean for loss in found] == pytest.approx([loss.mean for loss in expected], abs=1e-4)


@settings(deadline=None, max_examples=60)
@given(items=items(), which=st.sampled_from(sorted(MODELS)), row_length=st.sampled_from([1, 30, 100, 400]))
def test_trees_give_what_each_span_gives_alone(items, which, row_length):
    model = MODELS[which]
    grown = [grow(spans, CONTEXT) for spans in items]
    packed = pack([tree for trees in grown for tree in trees], row_length)
    assert len(packed.targets) == sum(len(crop_of(span).tokens) - crop_of(span).start for s in items for span in s)
    for spans, losses in zip(items, tree_losses(model, grown), strict=True):
        assert_same(losses, one_by_one(model, spans))


def crop_of(span: Span) -> Span:
    over = max(0, len(span.tokens) - CONTEXT)
    return Span(span.tokens[over:], max(1, span.start - over))


@settings(deadline=None, max_examples=30)
@given(items=items(), size=st.sampled_from([1, 2, 16]), which=st.sampled_from(sorted(MODELS)))
def test_losses_do_not_depend_on_batch_or_order(items, size, which):
    model = MODELS[which]
    spans = [span for item in items for span in item]
    whole = span_losses(model, spans, 16)
    assert_same(span_losses(model, spans, size), whole)
    assert_same(span_losses(model, spans[::-1], size)[::-1], whole)
    assert_same([span_losses(model, [span], 1)[0] for span in spans], whole)


@pytest.mark.parametrize("windows", ["S", "SL", "L"])
@pytest.mark.parametrize("batch", [1, 7])
def test_long_trees_with_short_windows(windows, batch):
    """Beyond a tile of 128, where the window of a branch's beginning reaches back behind its row's last keys."""
    model = make_model(VOCAB, context=400, windows=windows)
    generator = np.random.default_rng(3)
    items = []
    for number in range(batch):
        trunk = generator.integers(1, VOCAB, 40 + 45 * number)
        ends = [generator.integers(1, VOCAB, n) for n in (1, 110, 0, 37, 120)]
        items.append([Span((0, *trunk.tolist(), *end.tolist()), len(trunk) - 5) for end in ends])
    assert any(len(tree.tokens) > 400 for spans in items for tree in grow(spans, 400)) == (batch > 1)
    for spans, losses in zip(items, tree_losses(model, [grow(spans, 400) for spans in items]), strict=True):
        assert_same(losses, one_by_one(model, spans))


def test_a_shared_beginning_is_there_once():
    spans = [Span((0, *range(1, 20), *end), 18) for end in ((30, 31, 32), (40, 41), (42,), (30, 33))]
    [tree] = grow(spans, CONTEXT)
    assert tree.size == 20 + 2 + 1 + 0 + 1
    assert sorted(tree.targets[tree.owners == 0].tolist()) == [18, 19, 30, 31, 32]
    alone = grow([Span((0, 1, 2, 3, 4), 1), Span((0, 4, 5, 6, 7), 1)], CONTEXT)
    assert [tree.size for tree in alone] == [4, 4]  # nothing worth sharing


def test_spans_cropped_at_the_same_place_share_what_is_left():
    long = tuple(np.random.default_rng(0).integers(1, VOCAB, 60).tolist())
    spans = [Span((*long, 7, 8), 60), Span((*long, 9, 7), 60), Span((*long, 9, 8, 7), 60)]
    trees = grow(spans, CONTEXT)
    assert [sorted(set(tree.owners.tolist())) for tree in trees] == [[0, 1], [2]]
    assert [tree.size for tree in trees] == [CONTEXT - 2 + 2, CONTEXT - 1]


@settings(deadline=None, max_examples=60)
@given(items=items(), row_length=st.integers(1, 200))
def test_rows_hold_every_tree_once(items, row_length):
    trees = [tree for spans in items for tree in grow(spans, CONTEXT)]
    rows = pack(trees, row_length)
    layout = rows.layout
    used = sum(tree.size for tree in trees)
    assert used <= rows.tokens.numel() < used + rows.tokens.shape[1] * (1 + used // max(t.size for t in trees))
    assert rows.tokens.shape[1] <= max(row_length, *(tree.size for tree in trees))
    flat = rows.tokens.flatten()
    assert layout.wanted is not None
    for number, tree in enumerate(trees):
        mine = torch.from_numpy(rows.trees == number)
        assert flat[layout.wanted[mine]].tolist() == tree.tokens[tree.places].tolist()
        assert rows.targets[mine].tolist() == tree.targets.tolist()
    before = layout.previous >= 0
    row = torch.arange(len(layout.previous))[:, None].expand_as(before)[before]
    previous = layout.previous[before]
    assert (layout.positions[row, previous] == layout.positions[before] - 1).all()
    assert (layout.segments[row, previous] == layout.segments[before]).all()
    theirs = layout.branches[row, previous]
    assert ((theirs == layout.branches[before]) | (theirs == 0)).all()


def test_batches_hold_everything_and_no_more_than_they_may():
    sizes = [5, 90, 1, 30, 30, 30, 30, 8]
    batches = batches_by_length(sizes, 60)
    assert sorted(index for batch in batches for index in batch) == list(range(8))
    assert batches[0] == [1]
    assert all(sum(sizes[index] for index in batch) <= 60 for batch in batches[1:])
    flat = [sizes[index] for batch in batches for index in batch]
    assert flat == sorted(sizes, reverse=True)


def test_common_prefix():
    arrays = [np.array(values) for values in ([1, 2, 3, 4], [1, 2, 3], [1, 2, 5, 4])]
    assert common_prefix(arrays) == 2 and common_prefix(arrays[:2]) == 3 and common_prefix(arrays[:1]) == 4
    assert common_prefix([np.array([1]), np.array([2])]) == 0


def test_next_logits_equal_the_forward_pass(model):
    prompts = [[1, 2, 3], [4] * 30, [9], [4, 5], list(range(96))]
    found = next_logits(model, prompts, 1, [7, 300, 11])
    for prompt, row in zip(prompts, found, strict=True):
        with torch.inference_mode():
            expected = model(torch.tensor([prompt]))[0, -1, [7, 300, 11]]
        assert torch.allclose(row, expected, atol=1e-4)


def test_span_losses_of_nothing(model):
    assert span_losses(model, [], 4) == []
    assert span_losses(model, [Span((1, 2), 1)], 4)[0].tokens == 1


@settings(deadline=None, max_examples=20)
@given(
    texts=st.lists(st.lists(TOKEN, min_size=1, max_size=CONTEXT + 1), max_size=6),
    which=st.sampled_from(sorted(MODELS)),
    top=st.sampled_from([0, 1, 5, VOCAB + 3]),
)
def test_each_token_is_judged_as_in_a_forward_pass_of_its_own(texts, which, top):
    model = MODELS[which]
    judged = judge_tokens(model, texts, top, 2)
    assert len(judged) == len(texts)
    for text, tokens in zip(texts, judged):
        assert [token.id for token in tokens] == text[1:]
        if len(text) == 1:
            continue
        with torch.inference_mode():
            expected = torch.log_softmax(model(torch.tensor([text[:-1]]))[0].double(), -1)
        for place, token in enumerate(tokens):
            assert token.logprob == pytest.approx(float(expected[place, token.id]), abs=1e-4)
            values, _ = expected[place].topk(min(top, VOCAB))
            assert [logprob for _, logprob in token.top] == pytest.approx(values.tolist(), abs=1e-4)
            assert all(
                float(expected[place, number]) == pytest.approx(logprob, abs=1e-4) for number, logprob in token.top
            )
