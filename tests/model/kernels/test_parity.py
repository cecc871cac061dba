"""Runs the parity tests in a process of their own: whether Triton interprets is settled when it is imported.

The same tests by hand: TRITON_INTERPRET=1 python -m pytest tests/model/kernels/parity_*.py (without it: on the GPU).
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.parametrize("interpreted", [True, pytest.param(False, marks=pytest.mark.gpu)], ids=["interpreter", "gpu"])
def test_kernels_compute_what_their_twins_do(interpreted):
    pytest.importorskip("triton", reason="Triton is not installed")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "TRITON_INTERPRET"))}
    own = {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""} if interpreted else {}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *map(str, sorted(HERE.glob("parity_*.py")))],
        cwd=HERE.parents[2],
        env=kept | own,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-8000:]
    # A run that skipped everything must not pass for one that tested something.
    assert " passed" in done.stdout and "skipped" not in done.stdout, done.stdout[-2000:]
