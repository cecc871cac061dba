"""Where the parity tests run: on the CPU in Triton's interpreter, else on the GPU."""

import os

import pytest
import torch


@pytest.fixture
def device() -> torch.device:
    return torch.device("cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda")
