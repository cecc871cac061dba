"""The machine: what a device can do is looked up or measured, never guessed, and a missing one is said plainly."""

import pytest
import torch

from nanochat.errors import DeviceError
from nanochat.runtime import (
    World,
    compute_dtype,
    hardware_info,
    has_bfloat16,
    inference_dtype,
    measured_matmul_flops,
    peak_flops,
    peak_memory_bytes,
    wandb_mode,
)


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA GB10", 125e12),
        ("NVIDIA GeForce RTX 3060", None),
        ("cpu", None),
    ],
)
def test_datasheet_peaks(name, peak):
    assert peak_flops(name) == peak


def test_a_missing_gpu_is_said_with_the_way_out():
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(DeviceError, match=r"no CUDA device.*default profile on a CPU"):
        World.open("cuda")
    with pytest.raises(DeviceError, match="expected auto, cpu or cuda"):
        World.open("tpu")


def test_one_process_is_a_world_of_its_own():
    with World.open("cpu") as world:
        assert world.is_main
        assert world.broadcast_object({"a": 1}) == {"a": 1}
        assert world.sum_(torch.ones(2)).tolist() == [1, 1]
        assert world.gather_objects(3) == [3]
        native = torch.bfloat16 if has_bfloat16(world.device) else torch.float32
        assert compute_dtype("auto", world.device) == native
        assert inference_dtype("auto", world.device) == torch.float32
        assert compute_dtype("bfloat16", world.device) == torch.bfloat16
        info = hardware_info(world.device)
    assert info["device"] == "cpu"
    assert info["memory_bytes"] > peak_memory_bytes(torch.device("cpu")) > 1 << 20


def test_the_matrix_rate_is_measured():
    rate = measured_matmul_flops(torch.device("cpu"), torch.float32, seconds=0.05)
    assert 1e8 < rate < 1e15


@pytest.mark.parametrize(
    ("variables", "mode", "expected"),
    [
        ({}, "auto", "offline"),
        ({"WANDB_API_KEY": "k"}, "auto", "online"),
        ({"WANDB_API_KEY": "k"}, "disabled", "disabled"),
        ({"WANDB_MODE": "disabled"}, "online", "disabled"),
    ],
)
def test_wandb_is_online_only_with_a_key(monkeypatch, variables, mode, expected):
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert wandb_mode(mode) == expected
