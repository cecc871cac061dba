"""Softcap and cross-entropy: kernel and twin against float64 autograd."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nanochat.model.kernels.cross_entropy import capped_cross_entropy_, capped_cross_entropy_plain_

SOFTCAP = 15.0
FORMS = pytest.mark.parametrize("function", [capped_cross_entropy_, capped_cross_entropy_plain_])
FEW = settings(
    max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def problem(rows, vocabulary, dtype, device, scale=8.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = (scale * torch.randn(rows, vocabulary, generator=generator)).to(dtype)
    targets = torch.randint(-1, vocabulary, (rows,), generator=generator)
    weights = torch.rand(rows, generator=generator)
    return logits.to(device), targets.to(device), weights.to(device)


def exact(logits, targets, weights, softcap=SOFTCAP):
    """Losses and gradient in float64, from torch's own cross-entropy."""
    leaf = logits.double().detach().requires_grad_()
    capped = softcap * torch.tanh(leaf / softcap)
    losses = F.cross_entropy(capped, targets, ignore_index=-1, reduction="none")
    (gradient,) = torch.autograd.grad((losses * weights.double()).sum(), leaf)
    return losses.detach(), gradient


def assert_close(actual, expected):
    # One unit in the last place of bfloat16; in float32 a few roundings.
    relative = 2**-7 if actual.dtype == torch.bfloat16 else 1e-4
    torch.testing.assert_close(actual.double(), expected.double(), rtol=relative, atol=2e-6)


@FORMS
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@FEW
@given(rows=st.integers(0, 5), vocabulary=st.integers(1, 150), seed=st.integers(0, 1000))
def test_losses_and_gradients(function, dtype, device, rows, vocabulary, seed):
    logits, targets, weights = problem(rows, vocabulary, dtype, device, seed=seed)
    losses, gradient = exact(logits, targets, weights)
    options = {"block": 32} if function is capped_cross_entropy_ else {}
    actual = function(logits, targets, weights, SOFTCAP, **options)
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual.double(), losses, rtol=2e-5, atol=1e-5)
    assert_close(logits, gradient)
    ignored = targets == -1
    assert not actual[ignored].any() and not logits[ignored].any()


@FORMS
def test_default_block_on_a_large_vocabulary(function, device):
    logits, targets, weights = problem(3, 9000, torch.bfloat16, device)
    targets[:2] = torch.tensor([8999, 0], device=device)
    losses, gradient = exact(logits, targets, weights)
    torch.testing.assert_close(function(logits, targets, weights, SOFTCAP).double(), losses, rtol=2e-5, atol=1e-5)
    assert_close(logits, gradient)


@FORMS
@pytest.mark.parametrize("scale", [1e-4, 100.0])
@pytest.mark.parametrize("softcap", [15.0, 30.0])
def test_tiny_and_saturated_logits(function, scale, softcap, device):
    logits, targets, weights = problem(6, 70, torch.float32, device, scale=scale)
    losses, gradient = exact(logits, targets, weights, softcap)
    actual = function(logits, targets, weights, softcap)
    torch.testing.assert_close(actual.double(), losses, rtol=2e-5, atol=2e-5)
    assert_close(logits, gradient)


@FORMS
def test_without_gradient_the_logits_stay(function, device):
    logits, targets, weights = problem(4, 50, torch.bfloat16, device)
    before = logits.clone()
    losses = function(logits, targets, weights, SOFTCAP, want_gradient=False)
    assert torch.equal(logits, before)
    assert torch.equal(losses, function(logits, targets, weights, SOFTCAP))


@FORMS
def test_rows_at_a_distance(function, device):
    buffer = torch.full((5, 100), 7.0, device=device)
    logits, targets, weights = problem(5, 67, torch.float32, device)
    losses, gradient = exact(logits, targets, weights)
    buffer[:, :67] = logits
    actual = function(buffer[:, :67], targets, weights, SOFTCAP)
    torch.testing.assert_close(actual.double(), losses, rtol=2e-5, atol=1e-5)
    assert_close(buffer[:, :67], gradient)
    assert (buffer[:, 67:] == 7).all()


@FORMS
def test_ignored_rows_ignore_everything(function, device):
    logits = torch.full((2, 40), float("nan"), device=device)
    targets = torch.full((2,), -1, device=device)
    losses = function(logits, targets, torch.full((2,), float("nan"), device=device), SOFTCAP)
    assert not losses.any()
    if function is capped_cross_entropy_:
        assert not logits.any()


@FORMS
def test_weight_zero_keeps_the_loss(function, device):
    logits, targets, weights = problem(3, 40, torch.float32, device)
    targets = targets.clamp(min=0)
    losses, _ = exact(logits, targets, weights)
    actual = function(logits, targets, torch.zeros_like(weights), SOFTCAP)
    torch.testing.assert_close(actual.double(), losses, rtol=2e-5, atol=1e-5)
    assert not logits.any()


@FORMS
def test_a_broken_logit_shows(function, device):
    logits, targets, weights = problem(2, 40, torch.float32, device)
    targets = targets.clamp(min=0)
    logits[1, 3] = float("nan")
    losses = function(logits, targets, weights, SOFTCAP)
    assert losses.isnan().tolist() == [False, True] and logits[1].isnan().all()


def test_a_target_outside_the_vocabulary_is_nan(device):
    logits, _, weights = problem(3, 40, torch.float32, device)
    targets = torch.tensor([40, -2, 39], device=device)
    losses = capped_cross_entropy_(logits, targets, weights, SOFTCAP)
    assert losses.isnan().tolist() == [True, True, False]


def test_equal_input_gives_equal_output(device):
    logits, targets, weights = problem(4, 500, torch.bfloat16, device)
    first, second = logits.clone(), logits.clone()
    assert torch.equal(*(capped_cross_entropy_(x, targets, weights, SOFTCAP) for x in (first, second)))
    assert torch.equal(first, second)


def test_tanh_and_slope_to_the_last_digits(device):
    from tests.model.kernels.tanh_kernel import tanh_kernel

    values = torch.cat([torch.logspace(-30, 1, 500), torch.linspace(0.2, 0.3, 500), torch.tensor([0.0, 40.0])])
    values = torch.cat([values, -values])[:2048].to(device)
    tanh, slope = torch.empty_like(values), torch.empty_like(values)
    tanh_kernel[(1,)](values, tanh, slope, len(values), BLOCK=2048)
    exact_tanh = values.double().tanh()
    torch.testing.assert_close(tanh.double(), exact_tanh, rtol=1e-6, atol=0)
    exact_slope = 1 / values.double().cosh() ** 2
    torch.testing.assert_close(slope.double(), exact_slope, rtol=4e-6, atol=1e-30)


def test_wrong_input_is_named(device):
    logits, targets, weights = problem(3, 8, torch.float32, device)
    with pytest.raises(ValueError, match="contiguous rows"):
        capped_cross_entropy_(logits.t(), targets, weights, SOFTCAP)
    with pytest.raises(ValueError, match="float64"):
        capped_cross_entropy_(logits.double(), targets, weights, SOFTCAP)
    with pytest.raises(ValueError, match="one of each per row"):
        capped_cross_entropy_(logits, targets[:2], weights, SOFTCAP)


def test_compiles_without_graph_breaks(device):
    logits, targets, weights = problem(3, 40, torch.bfloat16, device)
    first, second = logits.clone(), logits.clone()

    def step(logits, targets, weights):
        losses = capped_cross_entropy_(logits, targets, weights, SOFTCAP)
        return losses, logits.float().sum()

    with torch.no_grad():
        compiled = torch.compile(step, backend="aot_eager", fullgraph=True)(first, targets, weights)
        plain = step(second, targets, weights)
    assert all(map(torch.equal, compiled, plain)) and torch.equal(first, second)


def test_what_the_compiler_is_told_is_true(device):
    torch.library.opcheck(
        torch.ops.nanochat.capped_cross_entropy,
        (*problem(3, 40, torch.bfloat16, device), SOFTCAP, True, 32, 4),
        test_utils=("test_schema", "test_faketensor"),
    )
