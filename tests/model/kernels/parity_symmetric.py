"""Symmetric products: kernels and twins against float64."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nanochat.model.kernels.symmetric import gram, gram_plain, symmetric_polynomial, symmetric_polynomial_plain
from nanochat.model.kernels.tiles import Tiles

TILES = Tiles(16, 16, 16, 4, 2)
TYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
FEW = settings(
    max_examples=10, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def matrices(shape, dtype, device, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device, dtype)


def assert_close(actual, expected):
    # What rounding the result explains, and sums of terms that cancel.
    relative = 2**-7 if actual.dtype == torch.bfloat16 else 1e-5
    scale = float(expected.abs().max()) if expected.numel() else 0.0
    torch.testing.assert_close(actual.double(), expected, rtol=relative, atol=2e-6 * scale)


@TYPES
@FEW
@given(count=st.integers(0, 3), rows=st.integers(1, 75), columns=st.integers(1, 70), tall=st.booleans())
def test_gram(dtype, device, count, rows, columns, tall):
    # Up to 5 × 5 tiles: odd and even numbers of them are paired differently.
    x = matrices((count, columns, rows), dtype, device).mT if tall else matrices((count, rows, columns), dtype, device)
    actual = gram(x, tiles=TILES)
    assert actual.dtype == dtype and actual.is_contiguous()
    assert_close(actual, x.double() @ x.double().mT)
    assert_close(gram_plain(x), x.double() @ x.double().mT)
    assert torch.equal(actual, actual.mT)


@TYPES
@FEW
@given(count=st.integers(0, 3), size=st.integers(1, 75), seed=st.integers(0, 100))
def test_polynomial(dtype, device, count, size, seed):
    x = matrices((count, size, size), torch.float32, device, seed)
    symmetric = ((x + x.mT) / size).to(dtype)
    expected = -2.5 * symmetric.double() + 0.75 * symmetric.double() @ symmetric.double()
    actual = symmetric_polynomial(symmetric, -2.5, 0.75, tiles=TILES)
    assert_close(actual, expected)
    assert_close(symmetric_polynomial_plain(symmetric, -2.5, 0.75), expected)
    assert torch.equal(actual, actual.mT)


@TYPES
@pytest.mark.parametrize("shape", [(2, 128, 64), (1, 130, 257)])
def test_the_device_s_own_tiles(dtype, shape, device):
    x = matrices(shape, dtype, device)
    square = gram(x)
    assert_close(square, x.double() @ x.double().mT)
    square = square / shape[-1]
    expected = 2 * square.double() - 0.5 * square.double() @ square.double()
    assert_close(symmetric_polynomial(square, 2.0, -0.5), expected)


def test_parts_of_a_larger_stack(device):
    buffer = matrices((4, 40, 60), torch.float32, device)
    x = buffer[::2, 3:36, 1:50:2]
    assert_close(gram(x, tiles=TILES), x.double() @ x.double().mT)


def test_steps_of_an_orthogonalisation_agree_with_plain_torch(device):
    """Newton-Schulz on a tall stack through the kernels and through the twins ends at the same matrices."""
    results = []
    for product, polynomial in ((gram, symmetric_polynomial), (gram_plain, symmetric_polynomial_plain)):
        x = matrices((2, 48, 20), torch.float32, device).mT
        x = x / x.norm(dim=(-2, -1), keepdim=True)
        for _ in range(8):
            square = product(x)
            x = torch.baddbmm(x, polynomial(square, -4.7750, 2.0315), x, beta=3.4445)
        results.append(x)
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)
    values = torch.linalg.svdvals(results[0])
    assert values.min() > 0.6 and values.max() < 1.3


def test_not_a_number_spreads_as_in_plain_torch(device):
    x = matrices((1, 40, 24), torch.float32, device)
    x[0, 33, 5] = float("nan")
    assert torch.equal(gram(x, tiles=TILES).isnan(), gram_plain(x).isnan())


def test_wrong_input_is_named(device):
    with pytest.raises(ValueError, match=r"\(K, n, m\)"):
        gram(torch.zeros(3, 3, device=device))
    with pytest.raises(ValueError, match="square"):
        symmetric_polynomial(torch.zeros(1, 3, 4, device=device), 1.0, 1.0)
    with pytest.raises(ValueError, match="mirrored"):
        gram(torch.zeros(1, 3, 3, device=device), tiles=Tiles(16, 32, 16, 4, 2))


def test_compiles_without_graph_breaks(device):
    x = matrices((2, 20, 12), torch.float32, device)

    def step(x):
        return symmetric_polynomial(gram(x), 2.0, 0.5) @ x

    assert torch.equal(torch.compile(step, backend="aot_eager", fullgraph=True)(x), step(x))


def test_what_the_compiler_is_told_is_true(device):
    for polynomial in (False, True):
        torch.library.opcheck(
            torch.ops.nanochat.symmetric_product,
            (matrices((2, 20, 20), torch.bfloat16, device), polynomial, 2.0, 0.5, list(TILES)),
            test_utils=("test_schema", "test_faketensor"),
        )
