"""Real processes exchange gradients and weights: whatever the cut and the order of events, one process's result."""

import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from nanochat.runtime import World

from . import exchange_worker as worker


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("exchange")
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={worker.RANKS}"]
    command = [sys.executable, *torchrun, worker.__file__, str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def alone():
    """Weights, optimizer state and norms of one process with all ranks' micro-batches."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    model, optimizer = worker.start(World(0, 0, 1, torch.device("cpu")))
    norms = []
    for step in range(4):
        optimizer.zero_grad()
        for rank in range(worker.RANKS):
            worker.backward(model, step, rank)
        norms.append(float(optimizer.reduce()))
        optimizer.step(1.0, 0.9, 0.5)
    torch.set_num_threads(threads)
    return model.state_dict(), optimizer.state_dict(), norms


@pytest.mark.parametrize("name", ["whole", "cut", "again"])
@pytest.mark.parametrize("rank", range(worker.RANKS))
def test_every_rank_ends_with_the_weights_of_one_process(folder, alone, name, rank):
    found = load_file(folder / f"{name}-{rank}.safetensors")
    assert found.pop("norms").tolist() == pytest.approx(alone[2], rel=1e-12)
    assert found.keys() == alone[0].keys()
    assert all(torch.equal(value, alone[0][key]) for key, value in found.items())


@pytest.mark.parametrize("name", ["whole", "cut", "again"])
def test_the_whole_state_is_that_of_one_process(folder, alone, name):
    found = load_file(folder / f"{name}-state.safetensors")
    assert found.keys() == alone[1].keys()
    assert all(torch.equal(value, alone[1][key]) for key, value in found.items())
