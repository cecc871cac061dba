"""The relu² MLP: kernels and twins against float64 autograd."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils.checkpoint import checkpoint

from nanochat.model.kernels.squared_relu import (
    squared_relu_gradient,
    squared_relu_gradient_plain,
    squared_relu_linear,
    squared_relu_linear_plain,
    squared_relu_mlp,
    squared_relu_mlp_plain,
)
from nanochat.model.kernels.tiles import Tiles

TILES = Tiles(16, 32, 16, 4, 2)
TYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
FEW = settings(
    max_examples=10, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def random(shape, dtype, device, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device, dtype)


def assert_close(actual, expected, roundings=1):
    """`roundings`: how many times values on the way were rounded to the type of the result."""
    expected = expected.double()
    relative = roundings * (2**-7 if actual.dtype == torch.bfloat16 else 1e-5)
    scale = float(expected.abs().max()) if expected.numel() else 0.0
    torch.testing.assert_close(
        actual.double(), expected, rtol=relative, atol=(roundings - 1) * relative * scale / 4 + 2e-6 * scale
    )


@TYPES
@FEW
@given(rows=st.integers(0, 70), width=st.integers(1, 50), hidden=st.integers(1, 90), spread=st.booleans())
def test_up_projection(dtype, device, rows, width, hidden, spread):
    x = random((rows, 2 * width), dtype, device)[:, ::2] if spread else random((rows, width), dtype, device)
    weight = random((hidden, width), dtype, device, seed=1)
    expected = F.relu(x.double() @ weight.double().mT)
    for positive, squared in (squared_relu_linear(x, weight, tiles=TILES), squared_relu_linear_plain(x, weight)):
        assert positive.dtype == squared.dtype == dtype
        assert_close(positive, expected)
        # The square of the rounded relu, so that a later pass can make it again.
        assert_close(squared, positive.double().square())


@TYPES
@FEW
@given(rows=st.integers(0, 70), width=st.integers(1, 50), hidden=st.integers(1, 90))
def test_gradient_before_the_relu(dtype, device, rows, width, hidden):
    gradient = random((rows, width), dtype, device)
    weight = random((width, hidden), dtype, device, seed=1)
    positive = random((rows, hidden), dtype, device, seed=2).relu()
    expected = 2 * positive.double() * (gradient.double() @ weight.double())
    assert_close(squared_relu_gradient(gradient, weight, positive, tiles=TILES), expected)
    assert_close(squared_relu_gradient_plain(gradient, weight, positive), expected, roundings=2)


@TYPES
@pytest.mark.parametrize("shape", [(5, 12), (2, 3, 40), (1, 64, 64)])
def test_mlp_and_its_gradients(dtype, shape, device):
    width = shape[-1]
    inputs = [random(shape, dtype, device), random((4 * width, width), dtype, device, 1)]
    inputs.append(random((width + 1, 4 * width), dtype, device, 2))
    cotangent = random((*shape[:-1], width + 1), dtype, device, 3)

    def run(function, tensors):
        leaves = [tensor.detach().requires_grad_() for tensor in tensors]
        output = function(*leaves)
        return [output.detach(), *torch.autograd.grad(output, leaves, cotangent.to(output.dtype))]

    exact = run(squared_relu_mlp_plain, [tensor.double() for tensor in inputs])
    for function in (squared_relu_mlp, squared_relu_mlp_plain):
        for actual, expected in zip(run(function, inputs), exact):
            assert actual.dtype == dtype
            assert_close(actual, expected, roundings=4)


@pytest.mark.parametrize("shape", [(64, 64), (100, 36)])
def test_the_device_s_own_tiles(shape, device):
    x, weight = random(shape, torch.bfloat16, device), random((4 * shape[1], shape[1]), torch.bfloat16, device, 1)
    positive, _ = squared_relu_linear(x, weight)
    assert_close(positive, F.relu(x.double() @ weight.double().mT))


def test_more_rows_of_tiles_than_a_group_has(device):
    x, weight = random((300, 12), torch.float32, device), random((70, 12), torch.float32, device, 1)
    positive, squared = squared_relu_linear(x, weight, tiles=TILES)
    assert_close(positive, F.relu(x.double() @ weight.double().mT))
    assert_close(squared, positive.double().square())


def test_only_wanted_gradients_are_made(device):
    for wanted in range(3):
        leaves = [random(s, torch.float32, device, i) for i, s in enumerate([(3, 8), (16, 8), (8, 16)])]
        leaves[wanted].requires_grad_()
        squared_relu_mlp(*leaves).sum().backward()
        assert [leaf.grad is not None for leaf in leaves] == [index == wanted for index in range(3)]


def test_master_weights_get_gradients_of_their_own_type(device):
    x = random((6, 8), torch.bfloat16, device)
    up, down = (random(s, torch.float32, device, 1).requires_grad_() for s in ((32, 8), (8, 32)))
    results = []
    for function in (squared_relu_mlp, squared_relu_mlp_plain):
        loss = function(x, up.to(x.dtype), down.to(x.dtype)).float().square().sum()
        results.append(torch.autograd.grad(loss, (up, down)))
    for actual, expected in zip(*results):
        assert actual.dtype == torch.float32
        assert (actual - expected).abs().max() <= 0.03 * expected.abs().max()


def test_recomputing_in_the_backward_pass_changes_nothing(device):
    inputs = [random(s, torch.float32, device, i).requires_grad_() for i, s in enumerate([(5, 8), (32, 8), (8, 32)])]
    plain = torch.autograd.grad(squared_relu_mlp(*inputs).square().sum(), inputs)
    again = torch.autograd.grad(checkpoint(squared_relu_mlp, *inputs, use_reentrant=False).square().sum(), inputs)
    assert all(map(torch.equal, plain, again))


def test_not_a_number_is_not_hidden(device):
    x, weight = random((4, 8), torch.float32, device), random((16, 8), torch.float32, device, 1)
    x[2, 3] = float("nan")
    for tensor in squared_relu_linear(x, weight, tiles=TILES):
        assert tensor[2].isnan().all() and not tensor[[0, 1, 3]].isnan().any()


def test_wrong_input_is_named(device):
    x, weight = random((4, 8), torch.float32, device), random((16, 8), torch.float32, device)
    with pytest.raises(ValueError, match="one type"):
        squared_relu_linear(x, weight.bfloat16())
    with pytest.raises(ValueError, match="8 ≠ 16"):
        squared_relu_linear(x, weight.mT)
    with pytest.raises(ValueError, match="hidden states"):
        squared_relu_gradient(x, weight.mT, x)


def test_compiles_without_graph_breaks(device):
    inputs = [random(s, torch.float32, device, i).requires_grad_() for i, s in enumerate([(5, 8), (32, 8), (8, 32)])]

    def step(x, up, down):
        return squared_relu_mlp(x * 2, up, down).square().sum()

    compiled = torch.autograd.grad(torch.compile(step, backend="aot_eager", fullgraph=True)(*inputs), inputs)
    assert all(map(torch.equal, compiled, torch.autograd.grad(step(*inputs), inputs)))


def test_what_the_compiler_is_told_is_true(device):
    x, weight, hidden = (random(shape, torch.bfloat16, device) for shape in ((5, 8), (24, 8), (5, 24)))
    for operation, arguments in (
        (torch.ops.nanochat.squared_relu_linear, (x, weight)),
        (torch.ops.nanochat.squared_relu_gradient, (x, weight.mT, hidden)),
    ):
        torch.library.opcheck(operation, (*arguments, list(TILES)), test_utils=("test_schema", "test_faketensor"))
