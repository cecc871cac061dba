"""Three ways to compute attention give one result: dense is the plain one that the others are held against."""

import warnings
from dataclasses import replace

import pytest
import torch
import torch._dynamo.testing
import torch.nn.attention.flex_attention as flex
from hypothesis import given, settings
from hypothesis import strategies as st

from nanochat.model.attention import attend, training_masks, tree_masks
from nanochat.model.flex_attention import block_masks
from nanochat.model.gpt import GPT
from nanochat.model.layout import TreeLayout
from nanochat.model.tiled_attention import Tiles, plan_tiles, plan_tree_tiles
from tests.model.fixtures import make_model

CPU = torch.device("cpu")


def segments_of(cuts: list[list[int]], length: int) -> torch.Tensor:
    """Documents of rows, a new one at each cut."""
    segments = torch.zeros(len(cuts), length, dtype=torch.int32)
    for row, places in enumerate(cuts):
        for place in places:
            segments[row, place % length :] += 1
    return segments


def tensors(batch: int, length: int, heads: int, kv_heads: int, dtype=torch.float32) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(batch * length)
    shapes = ((batch, length, heads, 16), (batch, length, kv_heads, 16), (batch, length, kv_heads, 16))
    return [torch.randn(shape, generator=generator).to(dtype).requires_grad_() for shape in shapes]


def computed(kind, inputs, window, segments):
    q, k, v = inputs
    for tensor in inputs:
        tensor.grad = None
    mask = training_masks([window], q.shape[1], segments, CPU, q.dtype, kind)[window]
    out = attend(q, k, v, mask, 0.3)
    (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
    return [out.detach(), *(tensor.grad.clone() for tensor in inputs)]


@settings(deadline=None, max_examples=40)
@given(
    length=st.integers(2, 300),
    window=st.integers(1, 320),
    cuts=st.lists(st.lists(st.integers(1, 299), max_size=5), min_size=1, max_size=4),
    packed=st.booleans(),
    kv_heads=st.sampled_from([1, 2, 4]),
)
def test_tiles_give_what_dense_masks_give(length, window, cuts, packed, kv_heads):
    inputs = tensors(len(cuts), length, 4, kv_heads)
    segments = segments_of(cuts, length) if packed else None
    for one, other in zip(*(computed(kind, inputs, window, segments) for kind in ("tiled", "dense")), strict=True):
        assert torch.allclose(one, other, atol=2e-5, rtol=1e-4)


def test_tiles_agree_in_bfloat16():
    inputs = tensors(3, 256, 2, 2, torch.bfloat16)
    segments = segments_of([[10, 200], [], [130]], 256)
    for one, other in zip(*(computed(kind, inputs, 64, segments) for kind in ("tiled", "dense")), strict=True):
        assert float((one - other).norm() / other.norm()) < 0.02


def test_tiles_leave_out_what_is_masked():
    """Half of the square in a causal row, little in one of many documents or with a short window."""

    def products(window, segments):
        tiles = plan_tiles([window], 1024, segments, torch.float32)[window].tiles
        return sum(
            (2 if tile.rows is None else len(tile.rows)) * (tile.stop - tile.start) * (tile.stop - tile.first)
            for tile in tiles
        ) / (2 * 1024**2)

    assert products(1024, torch.zeros(2, 1024, dtype=torch.int32)) < 0.6
    assert products(1024, segments_of([list(range(100, 1024, 100))] * 2, 1024)) < 0.3
    assert products(128, torch.zeros(2, 1024, dtype=torch.int32)) < 0.3


def test_cpus_take_tiles_in_bfloat16_and_for_windows():
    masks = training_masks([8, 64], 64, None, CPU, torch.float32)
    assert isinstance(masks[8], Tiles) and masks[64] is None
    assert isinstance(training_masks([64], 64, None, CPU, torch.bfloat16)[64], Tiles)


def layout_of(rows: list[list[list[int]]]) -> TreeLayout:
    """Rows of trees, each tree given by the lengths of trunk and branches; filled up with padding."""
    length = max(sum(map(sum, row)) for row in rows)
    segments, branches, positions, previous = (torch.zeros(len(rows), length, dtype=torch.int64) for _ in range(4))
    for number, row in enumerate(rows):
        place = 0
        for segment, (trunk, *ends) in enumerate(row):
            start = place
            for branch, size in enumerate((trunk, *ends)):
                for offset in range(size):
                    segments[number, place], branches[number, place] = segment, branch
                    positions[number, place] = offset + (trunk if branch else 0)
                    before = place - 1 if offset or not branch else start + trunk - 1
                    previous[number, place] = before if positions[number, place] else -1
                    place += 1
        segments[number, place:] = len(row)
        previous[number, place:] = -1
    return TreeLayout(segments, branches, positions, previous)


TREES = st.lists(
    st.lists(
        st.lists(st.integers(0, 90), min_size=1, max_size=5).filter(lambda sizes: sizes[0] > 0), min_size=1, max_size=3
    ),
    min_size=1,
    max_size=3,
)


@settings(deadline=None, max_examples=40)
@given(rows=TREES, window=st.integers(1, 150))
def test_masks_of_trees_hold_exactly_what_may_be_seen(rows, window):
    layout = layout_of(rows)
    mask = tree_masks([window], layout, torch.float32, "dense")[window]
    assert isinstance(mask, torch.Tensor)
    for row, trees in enumerate(rows):
        place = 0
        expected = torch.zeros(mask.shape[-1], mask.shape[-1], dtype=torch.bool)
        for trunk, *ends in trees:
            start, end = place, place + trunk
            for branch in [0, *ends]:
                path = [*range(start, start + trunk), *range(end, end + branch)]
                for i, query in enumerate(path):
                    expected[query, path[max(0, i - window + 1) : i + 1]] = True
                end += branch
            place = end
        assert torch.equal(mask[row, 0, :place] == 0, expected[:place])


@settings(deadline=None, max_examples=40)
@given(rows=TREES, window=st.integers(1, 320), kv_heads=st.sampled_from([1, 4]))
def test_tiles_of_trees_give_what_dense_masks_give(rows, window, kv_heads):
    layout = layout_of(rows)
    q, k, v = tensors(*layout.segments.shape, 4, kv_heads)
    tiled, dense = (
        attend(q, k, v, tree_masks([window], layout, torch.float32, kind)[window], 0.3) for kind in ("tiled", "dense")
    )
    used = layout.segments < torch.tensor([len(row) for row in rows])[:, None]
    assert torch.allclose(tiled[used], dense[used], atol=2e-5, rtol=1e-4)


def test_tiles_of_trees_leave_out_what_is_masked():
    """What lies behind a window, before a tree or beyond the row's other trees costs nothing."""

    def products(rows, window):
        layout = layout_of(rows)
        tiles = plan_tree_tiles([window], layout, torch.float32)[window].tiles
        count, length = layout.segments.shape
        done = sum((count if t.rows is None else len(t.rows)) * (t.stop - t.start) * (t.stop - t.first) for t in tiles)
        return done / (count * length**2)

    assert products([[[900, 20, 20, 20, 20]]], 10_000) < 0.6
    assert products([[[100, 20, 20]] * 8], 10_000) < 0.25
    assert products([[[900, 20, 20, 20, 20]]], 100) < 0.3


def test_trees_are_not_computed_in_blocks():
    with pytest.raises(ValueError, match="attention of kind flex does not compute rows of trees"):
        tree_masks([8], layout_of([[[3, 2]]]), torch.float32, "flex")


@pytest.mark.parametrize("arch", ["modern", "classic"])
def test_states_of_a_tree_are_those_of_its_sequences(arch):
    model = small(arch)
    layout = layout_of([[[40, 30, 0, 80], [7]], [[100, 1, 50]]])
    tokens = torch.randint(0, 61, layout.segments.shape, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        states = model.hidden(tokens, layout)
        alone = model.hidden(torch.cat((tokens[:1, :40], tokens[:1, 70:150]), dim=1))
        wanted = torch.tensor([149, 0, layout.segments.shape[1] + 3, 149])
        some = model.hidden(tokens, replace(layout, wanted=wanted))
    assert torch.allclose(states[0, :40], alone[0, :40], atol=1e-4)
    assert torch.allclose(states[0, 70:150], alone[0, 40:], atol=1e-4)
    assert torch.allclose(some, states.flatten(0, 1)[wanted], atol=1e-4)


def test_sequences_longer_than_the_context_are_refused():
    with pytest.raises(ValueError, match="sequences of 260 tokens do not fit the model's context of 256"):
        small().hidden(torch.zeros(1, 270, dtype=torch.int64), layout_of([[[250, 10, 10]]]))


@settings(deadline=None, max_examples=25)
@given(
    blocks=st.integers(1, 4),
    window=st.integers(1, 600),
    cuts=st.lists(st.lists(st.integers(1, 511), max_size=6), min_size=1, max_size=3),
    packed=st.booleans(),
)
def test_block_masks_hold_exactly_what_may_be_seen(blocks, window, cuts, packed):
    length = 128 * blocks
    segments = segments_of(cuts, length) if packed else None
    mask = block_masks([window], length, segments, CPU)[window]
    rows = len(cuts) if packed else 1
    index = torch.arange(length)
    allowed = torch.stack([mask.mask_mod(torch.tensor(b), torch.tensor(0), index[:, None], index) for b in range(rows)])
    same = (
        torch.ones(1, length, length, dtype=torch.bool)
        if segments is None
        else segments[:, :, None] == segments[:, None]
    )
    distance = index[:, None] - index
    assert torch.equal(allowed, same & (distance >= 0) & (distance < window))
    # A block is skipped only where nothing in it may be seen, and taken whole only where everything may.
    grid = allowed.view(rows, blocks, 128, blocks, 128).transpose(2, 3)
    full = torch.zeros(rows, blocks, blocks, dtype=torch.bool)
    partial = full.clone()
    for b in range(rows):
        for row in range(blocks):
            full[b, row, mask.full_kv_indices[b, 0, row, : mask.full_kv_num_blocks[b, 0, row]].long()] = True
            partial[b, row, mask.kv_indices[b, 0, row, : mask.kv_num_blocks[b, 0, row]].long()] = True
    assert torch.equal(full | partial, grid.any(dim=(-1, -2)))
    assert not (full & partial).any()
    assert grid.all(dim=(-1, -2))[full].all()


def small(arch: str = "modern") -> GPT:
    """With room for the documents of these tests."""
    windows = "SL" if arch == "modern" else "L"
    return make_model(
        arch, depth=3, width=64, heads=2, kv_heads=1, head_dim=32, sequence_length=256, window_pattern=windows
    )


def gradients(model: GPT, segments: torch.Tensor | None) -> dict[str, torch.Tensor]:
    x = torch.randint(0, 61, (2, 257), generator=torch.Generator().manual_seed(1))
    model.zero_grad()
    model.weighted_loss(x[:, :-1], x[:, 1:], torch.full((2, 256), 1 / 512), segments)[0].backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


@pytest.fixture
def flex_on_cpu(monkeypatch):
    """FlexAttention refuses backward passes on CPUs, though its reference form can compute them."""
    monkeypatch.setattr(flex, "_validate_device", lambda *tensors: None)
    torch._dynamo.reset()  # what other tests compiled would count as other shapes of the same code
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize("packed", [False, True])
def test_a_model_learns_the_same_whichever_way(flex_on_cpu, packed):
    segments = segments_of([[100], [30, 200]], 256) if packed else None
    model = small()
    found = {}
    for kind in ("dense", "tiled", "flex"):
        model.attention_kind = kind
        found[kind] = gradients(model, segments)
    for name, expected in found["dense"].items():
        for kind in ("tiled", "flex"):
            assert float((found[kind][name] - expected).norm()) <= 2e-4 * float(expected.norm()) + 1e-7, (name, kind)


def test_a_model_is_one_graph_and_is_compiled_once(flex_on_cpu):
    """What GPUs compile: no breaks, and other documents in the rows need no other program."""
    model = small()
    model.attention_kind = "flex"
    expected = [gradients(model, segments_of(cuts, 256)) for cuts in ([[100], [30]], [[5, 9], [250]])]
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    model._training_trunk = torch.compile(model._trunk, fullgraph=True, backend=counter)
    found = [gradients(model, segments_of(cuts, 256)) for cuts in ([[100], [30]], [[5, 9], [250]])]
    assert counter.frame_count == 1
    for one, other in zip(expected, found, strict=True):
        assert all(torch.allclose(one[name], other[name], atol=1e-6) for name in one)


def test_recomputing_changes_nothing():
    model = small()
    segments = segments_of([[100], [30, 200]], 256)
    kept = gradients(model, segments)
    model.recompute = True
    again = gradients(model, segments)
    assert all(torch.equal(kept[name], again[name]) for name in kept)
