import torch

from nanochat.optim.muon import muon_update, orthogonalize


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


def test_weight_decay_only_where_it_agrees_with_the_update():
    weights = torch.ones(1, 4, 4)
    gradients = torch.eye(4)[None] * torch.tensor([1.0, 1.0, -1.0, -1.0])[None, :, None]
    plain, decayed = weights.clone(), weights.clone()
    for target, decay in ((plain, 0.0), (decayed, 0.5)):
        state = torch.zeros(1, 4, 4), torch.zeros(1, 4, 1)
        muon_update(target, gradients.clone(), *state, lr=0.1, momentum=0.9, weight_decay=decay)
    step = weights - plain
    agrees = step > 1e-4
    assert torch.allclose((plain - decayed)[agrees], torch.tensor(0.05), atol=1e-5)
    assert torch.equal(plain[step < -1e-4], decayed[step < -1e-4])


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
