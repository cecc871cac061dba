import pytest
import torch
import torch.nn.functional as F

from nanochat.model.fp8 import fits, fp8_linear
from nanochat.model.pointwise import EPSILON, mix, norm, rotate, squared_relu


def both(ours, plain, *inputs):
    """Values and gradients of two functions of the same inputs."""
    found = []
    for function in (ours, plain):
        leaves = [value.clone().requires_grad_() for value in inputs]
        out = function(*leaves)
        (out.float() * torch.linspace(-1, 2, out.numel()).view_as(out)).sum().backward()
        found.append([out.detach(), *(leaf.grad for leaf in leaves)])
    return zip(*found, strict=True)


def plain_norm(x):
    return F.rms_norm(x, (x.shape[-1],), eps=EPSILON)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-6), (torch.bfloat16, 2e-2)])
def test_norm_is_rms_norm(dtype, bound):
    x = (3 * torch.randn(4, 7, 32)).to(dtype)
    for one, other in both(norm, plain_norm, x):
        assert float((one - other).norm() / other.norm()) < bound
        assert one.dtype == dtype


def test_norm_of_zeros_is_zero_and_has_a_finite_gradient():
    for one, other in both(norm, plain_norm, torch.zeros(2, 8)):
        assert torch.allclose(one, other)


def test_rotation_keeps_lengths_and_its_gradient_turns_back():
    x = torch.randn(2, 5, 3, 8)
    angles = torch.rand(1, 5, 1, 4)
    cos, sin = (torch.cat(pair, -1) for pair in ((angles.cos(),) * 2, (angles.sin(), -angles.sin())))
    assert torch.allclose(rotate(x, cos, sin).norm(dim=-1), x.norm(dim=-1), atol=1e-5)

    def plain(x):
        first, second = x.chunk(2, dim=-1)
        c, s = cos[..., :4], sin[..., :4]
        return torch.cat((first * c + second * s, second * c - first * s), dim=-1)

    for one, other in both(lambda x: rotate(x, cos, sin), plain, x):
        assert torch.allclose(one, other, atol=1e-6)


def test_squared_relu_and_mix_have_the_gradients_autograd_finds():
    x, y = torch.randn(2, 6, 16), torch.randn(2, 6, 16)
    for one, other in both(squared_relu, lambda x: F.relu(x).square(), x):
        assert torch.allclose(one, other, atol=1e-6)
    a, b = torch.tensor(1.1), torch.tensor(-0.3)
    for one, other in both(mix, lambda x, a, y, b: a * x + b * y, x, a, y, b):
        assert torch.allclose(one, other, atol=1e-4)


def test_8_bit_products_are_close_and_learn():
    x = torch.randn(3, 5, 64).bfloat16()
    weight = 0.1 * torch.randn(48, 64)
    for one, other in both(fp8_linear, lambda x, w: F.linear(x, w.to(x.dtype)), x, weight):
        assert one.dtype == other.dtype
        assert float((one.float() - other.float()).norm() / other.float().norm()) < 0.08
    assert fits(weight) and not fits(torch.empty(50, 64))
