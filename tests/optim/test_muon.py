import torch

from nanochat.optim.muon import Products, muon_update, orthogonalize


def test_singular_values_become_about_one():
    generator = torch.Generator().manual_seed(0)
    for shape in [(3, 32, 32), (2, 96, 32), (2, 32, 96)]:
        values = torch.linalg.svdvals(orthogonalize(torch.randn(shape, generator=generator)))
        # The smallest values of a square matrix may be beyond the reach of five steps.
        assert values.median() > 0.8
        assert values.max() < 1.25
    wide = torch.linalg.svdvals(orthogonalize(torch.randn((2, 32, 96), generator=generator)))
    assert wide.min() > 0.8


def test_directions_are_kept():
    u, _, v = torch.linalg.svd(torch.randn((1, 24, 24), generator=torch.Generator().manual_seed(1)))
    matrix = u @ torch.diag_embed(torch.linspace(0.5, 2, 24))[None] @ v
    assert torch.allclose(orthogonalize(matrix), u @ v, atol=0.25)


def test_a_tall_matrix_is_a_wide_one_transposed():
    wide = torch.randn((2, 32, 96), generator=torch.Generator().manual_seed(3))
    assert torch.allclose(orthogonalize(wide.mT.contiguous()), orthogonalize(wide).mT, atol=1e-5)


def test_a_matrix_without_gradient_stays():
    weights = torch.ones(1, 4, 4)
    state = torch.zeros(1, 4, 4), torch.zeros(1, 4, 1)
    muon_update(weights, torch.zeros(1, 4, 4), *state, lr=0.1, momentum=0.9, weight_decay=0.5)
    assert torch.equal(weights, torch.ones(1, 4, 4))


def test_bfloat16_products_are_close():
    matrices = torch.randn((2, 48, 32), generator=torch.Generator().manual_seed(4))
    exact, rounded = orthogonalize(matrices), orthogonalize(matrices, torch.bfloat16)
    assert rounded.dtype == torch.float32
    assert float((exact - rounded).norm() / exact.norm()) < 0.05


def test_kernels_take_the_place_of_the_symmetric_products():
    called = []

    def gram(x: torch.Tensor) -> torch.Tensor:
        called.append("gram")
        return x @ x.mT

    def polynomial(g: torch.Tensor, b: float, c: float) -> torch.Tensor:
        called.append("polynomial")
        return b * g + c * g @ g

    matrices = torch.randn((2, 16, 32), generator=torch.Generator().manual_seed(5))
    found = orthogonalize(matrices, products=Products(gram, polynomial))
    assert called == ["gram", "polynomial"] * 5
    assert torch.allclose(found, orthogonalize(matrices), atol=1e-4)


def step_with(decay: float, gradients: torch.Tensor) -> torch.Tensor:
    weights = torch.ones_like(gradients)
    state = torch.zeros_like(gradients), torch.zeros(*gradients.shape[:2], 1)
    muon_update(weights, gradients.clone(), *state, lr=0.1, momentum=0.9, weight_decay=decay)
    return 1 - weights


def test_weight_decay_only_where_it_agrees_with_the_update():
    gradients = torch.eye(4)[None] * torch.tensor([1.0, 1.0, -1.0, -1.0])[None, :, None]
    step, decayed = step_with(0.0, gradients), step_with(0.5, gradients)
    agrees = step > 0.2 * step.square().mean().sqrt()
    assert agrees.sum() == 2
    assert torch.allclose((decayed - step)[agrees], torch.tensor(0.05), atol=1e-5)
    assert torch.equal(step[step < -1e-4], decayed[step < -1e-4])


def test_rounding_does_not_switch_weight_decay():
    gradients = torch.randn((1, 64, 64), generator=torch.Generator().manual_seed(6))
    noisy = gradients * (1 + 1e-4 * torch.randn((1, 64, 64), generator=torch.Generator().manual_seed(7)))
    # All of the decay of an element is 0.05; a switch would throw it at elements whose update is near zero.
    plain, decayed = (step_with(decay, noisy) - step_with(decay, gradients) for decay in (0.0, 0.5))
    assert (decayed - plain).abs().max() < 0.05 * 0.03


def test_the_size_of_a_step_is_the_learning_rate():
    generator = torch.Generator().manual_seed(2)
    for shape in [(2, 32, 32), (2, 128, 32)]:
        weights = torch.zeros(shape)
        state = torch.zeros(shape), torch.zeros(2, shape[1], 1)
        gradients = torch.randn(shape, generator=generator)
        muon_update(weights, gradients, *state, lr=0.02, momentum=0.95, weight_decay=0.0)
        expected = 0.02 * (shape[1] / shape[2]) ** 0.5
        singular = torch.linalg.svdvals(weights)
        assert 0.5 * expected < singular.median() < 1.5 * expected
