"""The package where no kernel can run: it imports, says so, and its twins work."""

import subprocess
import sys

import pytest
import torch

from nanochat.model.kernels import available, probe
from nanochat.model.kernels.tiles import product_tiles, shared_memory, square_tiles


def test_importing_the_package_does_not_import_triton():
    program = (
        "import sys, nanochat.model.kernels, nanochat.model.gpt\n"
        "from nanochat.model.kernels import cross_entropy, squared_relu, symmetric\n"
        "sys.exit('triton' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=120).returncode == 0


def test_no_kernel_is_offered_on_a_cpu_without_the_interpreter():
    assert not available(torch.device("cpu"))
    assert probe(torch.device("cpu")) == frozenset()


def test_tiles_depend_on_the_device_and_the_type_only():
    assert shared_memory(torch.device("cpu")) == 0
    for choose in (square_tiles, product_tiles):
        sizes = [choose(shared << 10, torch.bfloat16).rows for shared in (0, 64, 100, 164, 228)]
        assert sizes == sorted(sizes)
    assert square_tiles(228 << 10, torch.bfloat16).rows == square_tiles(228 << 10, torch.bfloat16).columns


@pytest.mark.parametrize("rows", [0, 3])
def test_the_twin_of_the_loss_works_in_place(rows):
    from nanochat.model.kernels.cross_entropy import capped_cross_entropy_plain_

    logits = torch.randn(rows, 10, generator=torch.Generator().manual_seed(0))
    leaf = logits.clone().requires_grad_()
    targets, weights = torch.tensor([1, -1, 9])[:rows], torch.tensor([0.5, 1.0, 2.0])[:rows]
    losses = capped_cross_entropy_plain_(logits, targets, weights, 15.0)
    expected = torch.nn.functional.cross_entropy(15 * torch.tanh(leaf / 15), targets, ignore_index=-1, reduction="none")
    torch.testing.assert_close(losses, expected.detach())
    (expected * weights).sum().backward()
    torch.testing.assert_close(logits, leaf.grad, rtol=1e-4, atol=1e-6)
