"""Which kernels may be used: all that work, none that do not."""

import logging

import torch

from nanochat.model.kernels import availability


def test_every_kernel_may_be_used_where_triton_runs(device):
    assert availability.available() and availability.available(device)
    state = torch.get_rng_state()
    assert availability.probe(device) == {"cross_entropy", "symmetric", "squared_relu"}
    assert torch.equal(torch.get_rng_state(), state), "asking changed the random numbers of training"


def test_kernels_that_fail_or_err_are_left_out_with_their_reason(device, monkeypatch, caplog):
    def fails(*arguments, **options):
        raise RuntimeError("out of resource: shared memory\nand more lines")

    right = availability.gram
    monkeypatch.setattr(availability, "capped_cross_entropy_", fails)
    monkeypatch.setattr(availability, "gram", lambda x: right(x) * 1.05)
    with caplog.at_level(logging.WARNING):
        assert availability.probe.__wrapped__(device) == {"squared_relu"}
    first, second = (record.getMessage() for record in caplog.records)
    assert "cross_entropy" in first and first.endswith("out of resource: shared memory")
    assert "symmetric" in second and "off by" in second
