"""The same run in this process and on 2 and 4 real gloo processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nanochat.metrics import read_metrics
from nanochat.model.checkpoint import load_tensors

from . import ranks_worker
from .test_trainer import distance


def launch(*arguments: object, ranks: int) -> subprocess.CompletedProcess[str]:
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"]
    command = [sys.executable, *torchrun, ranks_worker.__file__, *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def runs(tiny_data, tmp_path_factory) -> dict[int, Path]:
    """Number of ranks → checkpoint directory."""
    folders = {ranks: tmp_path_factory.mktemp(f"ranks{ranks}") / "base" for ranks in (1, 2, 4)}
    ranks_worker.run(tiny_data, folders[1])
    for ranks in (2, 4):
        done = launch(tiny_data, folders[ranks], ranks=ranks)
        assert done.returncode == 0, done.stderr
    return folders


def losses(folder: Path) -> list[float]:
    return [row["loss"] for row in read_metrics(folder / "metrics.jsonl") if "loss" in row]


def assert_same_model(found: Path, expected: Path) -> None:
    """Losses to 1e-5; weights to rounding, as 50 steps have enlarged it, relative to the norm of each tensor.

    Matrices that began at zero grow by orthogonal steps, in which small singular values weigh as much as large ones:
    their rounding is enlarged about tenfold in each step, and forgotten as momentum averages.
    """
    assert len(losses(found)) == 50
    assert losses(found) == pytest.approx(losses(expected), rel=1e-5, abs=0)
    ours, theirs = (load_tensors(folder / "model.safetensors") for folder in (found, expected))
    assert ours.keys() == theirs.keys()
    assert {name: d for name in ours if (d := distance(ours[name], theirs[name])) > 2e-4} == {}


@pytest.mark.parametrize("ranks", [2, 4])
def test_any_number_of_ranks_trains_the_same_model(runs, ranks):
    assert losses(runs[1])[-1] < 0.6 * losses(runs[1])[0]
    assert_same_model(runs[ranks], runs[1])


def test_optimizer_state_is_shared_out(runs):
    (whole,) = json.loads((runs[1].parent / "base.json").read_text())
    for ranks in (2, 4):
        held = json.loads((runs[ranks].parent / "base.json").read_text())
        assert len(held) == ranks
        assert sum(held) == whole
        # Whole rows and matrices; of the scalars there are only a few.
        assert max(held) < 1.01 * whole / ranks


def test_killed_on_two_ranks_it_goes_on_on_one(tiny_data, runs, tmp_path):
    out = tmp_path / "base"
    done = launch(tiny_data, out, 30, ranks=2)
    assert done.returncode != 0
    assert not out.exists()
    assert list((tmp_path / ".progress" / "base").glob("*/steps/00000020"))
    ranks_worker.run(tiny_data, out)
    assert losses(out)[:20] == losses(runs[2])[:20]
    assert_same_model(out, runs[1])
