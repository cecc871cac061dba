"""Three ways to compute attention give one result: dense is the plain one that the others are held against."""

import warnings

import pytest
import torch
import torch._dynamo.testing
import torch.nn.attention.flex_attention as flex
from hypothesis import given, settings
from hypothesis import strategies as st

from nanochat.model.attention import attend, training_masks
from nanochat.model.flex_attention import block_masks
from nanochat.model.gpt import GPT, GPTConfig
from nanochat.model.tiled_attention import Tiles, plan_tiles

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


def small() -> GPT:
    model = GPT(
        GPTConfig(
            depth=3, width=64, heads=2, kv_heads=1, head_dim=32, vocab_size=61, sequence_length=256, window_pattern="SL"
        )
    )
    model.init_weights(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.05)
    return model


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
