import pytest
import torch
import torch.nn.functional as F

from nanochat.model import loss as loss_module
from nanochat.model.attention import training_masks
from nanochat.model.gpt import GPT
from nanochat.model.pointwise import rotate
from nanochat.model.scaling import count_parameters
from tests.model.fixtures import make_model

ARCHS = ("classic", "modern")


def tokens(rows: int, length: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 61, (rows, length), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("arch", ARCHS)
def test_parameters_are_counted_and_grouped_once(arch):
    model = make_model(arch)
    grouped = [name for group in model.parameter_groups() for name, _ in group.parameters]
    assert sorted(grouped) == sorted(name for name, _ in model.named_parameters())
    assert sum(p.numel() for p in model.parameters()) == count_parameters(model.config)["total"]
    matrices = next(group for group in model.parameter_groups() if group.kind == "matrix")
    assert sum(p.numel() for _, p in matrices.parameters) == count_parameters(model.config)["matrices"]


@pytest.mark.parametrize("arch", ARCHS)
def test_no_position_sees_the_future(arch):
    model, x = make_model(arch), tokens(1, 32)
    y = x.clone()
    y[0, 20:] = (y[0, 20:] + 1) % 61
    before, after = model(x), model(y)
    assert torch.allclose(before[:, :20], after[:, :20], atol=1e-5)
    assert not torch.allclose(before[:, 20:], after[:, 20:], atol=1e-2)


@pytest.mark.parametrize("arch", ARCHS)
def test_documents_in_a_row_do_not_see_each_other(arch):
    model = make_model(arch)
    parts = [tokens(1, length, seed) for seed, length in enumerate((11, 1, 20))]
    row = torch.cat(parts, dim=1)
    segments = torch.cat([torch.full_like(part, number) for number, part in enumerate(parts)], dim=1)
    packed = model(row, segments)
    start = 0
    for part in parts:
        alone = model(part)
        assert torch.allclose(packed[:, start : start + part.shape[1]], alone, atol=1e-4)
        start += part.shape[1]


def test_a_row_longer_than_the_context_is_an_error():
    with pytest.raises(ValueError, match="context"):
        make_model("classic")(tokens(1, 33))


def test_windows_hide_what_lies_further_back():
    segments = torch.tensor([[0] * 5 + [1] * 5])
    masks = training_masks((3, 10), 10, segments, torch.device("cpu"), torch.float32, "dense")
    for window, mask in masks.items():
        for i in range(10):
            for j in range(10):
                seen = 0 <= i - j < window and (i < 5) == (j < 5)
                assert (mask[0, 0, i, j] == 0) == seen
    assert training_masks((10,), 10, None, torch.device("cpu"), torch.float32, "dense") == {10: None}
    assert make_model("modern").config.windows == (8, 8, 8, 32)
    assert make_model("modern", depth=3).config.windows == (8, 8, 32)


def test_rotation_is_the_one_of_transformers_nanochat():
    """There, rotate_half is (x2, -x1): q·cos + rotate_half(q)·sin."""
    x = torch.randn(2, 3, 4, 8)
    angles = torch.rand(1, 3, 1, 4)
    cos, sin = angles.cos(), angles.sin()
    half = torch.cat((x[..., 4:], -x[..., :4]), dim=-1)
    expected = x * torch.cat((cos, cos), -1) + half * torch.cat((sin, sin), -1)
    table = torch.cat((cos, cos), -1), torch.cat((sin, -sin), -1)
    assert torch.allclose(rotate(x, *table), expected, atol=1e-6)


@pytest.mark.parametrize("arch", ARCHS)
def test_a_new_model_knows_nothing(arch):
    model = GPT(make_model(arch).config)
    model.init_weights(3)
    x = tokens(2, 32)
    losses = model.token_losses(x[:, :-1], x[:, 1:])
    assert losses.mean().item() == pytest.approx(torch.tensor(61.0).log().item(), abs=0.02)
    again = GPT(model.config)
    again.init_weights(3)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def naive_losses(model: GPT, x: torch.Tensor, y: torch.Tensor, segments: torch.Tensor) -> torch.Tensor:
    logits = model(x, segments)
    return F.cross_entropy(logits.flatten(0, 1), y.flatten(), ignore_index=-1, reduction="none").view(y.shape)


@pytest.mark.parametrize("rows_per_chunk", [1, 7, 1000])
def test_chunked_losses_and_gradients_equal_the_plain_ones(monkeypatch, rows_per_chunk):
    monkeypatch.setattr(loss_module, "_chunk", lambda vocab_size, device: rows_per_chunk)
    model = make_model("modern")
    x, y = tokens(2, 16), tokens(2, 16, seed=5)
    y[0, 3:6] = -1
    segments = (torch.arange(16) // 6).expand(2, -1)
    weights = torch.randn(2, 16, generator=torch.Generator().manual_seed(9))
    plain = naive_losses(model, x, y, segments)
    (plain * weights).sum().backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters()}

    model.zero_grad()
    total, losses = model.weighted_loss(x, y, weights, segments)
    total.backward()
    assert torch.allclose(losses, plain, atol=1e-5)
    assert total.item() == pytest.approx((plain * weights).sum().item(), abs=1e-4)
    for name, p in model.named_parameters():
        assert torch.allclose(p.grad, expected[name], atol=1e-4), name

    model.zero_grad()
    losses, correct = model.token_losses(x, y, segments, with_correct=True)
    (losses * weights).sum().backward()
    assert torch.allclose(losses, plain, atol=1e-5)
    assert torch.equal(correct, model(x, segments).argmax(-1) == y)
    for name, p in model.named_parameters():
        assert torch.allclose(p.grad, expected[name], atol=1e-4), name


def test_bfloat16_compute_keeps_float32_weights():
    model = make_model("modern")
    x = tokens(2, 16)
    exact = model(x)
    model.dtype = torch.bfloat16
    rough = model(x)
    assert rough.dtype == torch.float32
    assert (rough - exact).abs().max() < 0.5
    total, _ = model.weighted_loss(x[:, :-1], x[:, 1:], torch.full((2, 15), 1 / 30))
    total.backward()
    assert all(p.dtype == p.grad.dtype == torch.float32 for p in model.parameters())
