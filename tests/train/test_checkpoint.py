import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from nanochat.errors import ArtifactError
from nanochat.runtime import World
from nanochat.train import checkpoint
from nanochat.train.checkpoint import StepCheckpoints

ALONE = World(0, 0, 1, torch.device("cpu"))


def state(step: int) -> tuple[int, list[tuple[str, torch.Tensor]], dict[str, int]]:
    return step, [("model.w", torch.full((100,), float(step)))], {"step": step, "tokens": 10 * step}


def test_the_newest_comes_back_and_two_are_kept(tmp_path):
    checkpoints = StepCheckpoints(tmp_path, ALONE, keep=2)
    assert checkpoints.load_latest() is None
    for step in (1, 2, 3):
        checkpoints.save(*state(step))
    checkpoints.wait()
    assert sorted(path.name for path in checkpoints.folder.iterdir()) == ["00000002", "00000003"]
    found = checkpoints.load_latest()
    assert found.step == 3
    assert found.meta == {"step": 3, "tokens": 30}
    assert torch.equal(found.tensors["model.w"], torch.full((100,), 3.0))


def test_a_torn_one_gives_way_to_the_one_before(tmp_path):
    checkpoints = StepCheckpoints(tmp_path, ALONE)
    for step in (5, 6, 7):
        checkpoints.save(*state(step))
    checkpoints.wait()
    newest = checkpoints.folder / "00000007" / "state.safetensors"
    damaged = bytearray(newest.read_bytes())
    damaged[-3] ^= 1
    newest.write_bytes(damaged)
    assert checkpoints.load_latest().step == 6
    assert not newest.exists()
    (checkpoints.folder / "00000006" / "state.json").write_text('{"step": 6, "me')
    assert checkpoints.load_latest() is None


class Gate:
    """Holds the writes until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open, self.reached = threading.Event(), threading.Event()
        self.write = checkpoint.save_tensors
        monkeypatch.setattr(checkpoint, "save_tensors", self)

    def __call__(self, path: Path, tensors: dict[str, torch.Tensor]) -> str:
        self.reached.set()
        assert self.open.wait(30)
        return self.write(path, tensors)


def test_what_is_saved_is_the_state_at_that_time(tmp_path, monkeypatch):
    gate = Gate(monkeypatch)
    tensors = {"model.w": torch.zeros(1000), "optimizer.steps": torch.tensor(3)}
    with StepCheckpoints(tmp_path, ALONE) as checkpoints:
        checkpoints.reserve(tensors.items())
        checkpoints.save(1, tensors.items(), {})
        assert gate.reached.wait(30)
        tensors["model.w"].fill_(1.0)
        tensors["optimizer.steps"].fill_(4)
        assert not list(checkpoints.folder.glob("0*"))
        gate.open.set()
    found = checkpoints.load_latest()
    assert torch.equal(found.tensors["model.w"], torch.zeros(1000))
    assert int(found.tensors["optimizer.steps"]) == 3


def test_a_save_waits_for_the_one_before(tmp_path, monkeypatch):
    gate = Gate(monkeypatch)
    checkpoints = StepCheckpoints(tmp_path, ALONE)
    checkpoints.save(*state(1))
    second = threading.Thread(target=checkpoints.save, args=state(2))
    second.start()
    assert gate.reached.wait(30)
    second.join(0.05)
    assert second.is_alive()
    gate.open.set()
    second.join(30)
    assert checkpoints.load_latest().step == 2
    found = checkpoints.folder / "00000001" / "state.safetensors"
    assert torch.equal(checkpoint.load_tensors(found)["model.w"], torch.full((100,), 1.0))


def test_memory_for_copies_is_allocated_once(tmp_path):
    checkpoints = StepCheckpoints(tmp_path, ALONE)
    checkpoints.reserve(state(0)[1])
    places = {name: buffer.data_ptr() for name, buffer in checkpoints._staging.buffers.items()}
    for step in (1, 2):
        checkpoints.save(*state(step))
    checkpoints.wait()
    assert places == {name: buffer.data_ptr() for name, buffer in checkpoints._staging.buffers.items()}


def test_an_error_of_the_thread_is_raised_where_training_looks(tmp_path):
    checkpoints = StepCheckpoints(tmp_path, ALONE)
    checkpoints.save(*state(1))
    checkpoints.wait()
    in_the_way = checkpoints.folder / "00000002"
    in_the_way.write_text("a file where a folder should be")
    for look in (checkpoints.wait, checkpoints.check, lambda: checkpoints.save(*state(3))):
        checkpoints.save(*state(2))
        checkpoints._writing.join()
        with pytest.raises(ArtifactError, match=r"step 2 cannot be written to .*/steps .*run the same command"):
            look()
        assert not (checkpoints.folder / "saving.tmp").exists()
    in_the_way.unlink()
    assert checkpoints.load_latest().step == 1
    in_the_way.write_text("once more")
    with pytest.raises(ArtifactError), checkpoints:
        checkpoints.save(*state(2))
    with pytest.raises(KeyError), checkpoints:  # the first error is told
        checkpoints.save(*state(2))
        raise KeyError


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from nanochat.runtime import World
from nanochat.train.checkpoint import StepCheckpoints

world, fsync = World(0, 0, 1, torch.device("cpu")), os.fsync

def save(checkpoints, step):
    checkpoints.save(step, [("model.w", torch.full((100,), float(step)))], {"step": step})

for place in range(1, 5):
    child = os.fork()
    if not child:
        checkpoints = StepCheckpoints(Path(sys.argv[1]) / str(place), world)
        save(checkpoints, 1)
        checkpoints.wait()
        calls = []
        def counting(descriptor):
            calls.append(descriptor)
            if len(calls) == place:
                os.kill(os.getpid(), signal.SIGKILL)
            fsync(descriptor)
        os.fsync = counting
        save(checkpoints, 2)
        checkpoints.wait()
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_killed_while_the_thread_writes_the_older_one_is_used(tmp_path):
    """At each of the places where the file system is told to keep what was written."""
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)
    assert done.stdout.split() == [str(-signal.SIGKILL)] * 4
    for place in range(1, 5):
        checkpoints = StepCheckpoints(tmp_path / str(place), ALONE)
        # Only the last one is after the rename.
        assert checkpoints.load_latest().step == (2 if place == 4 else 1)
        checkpoints.save(*state(3))
        assert checkpoints.load_latest().step == 3
        assert not (checkpoints.folder / "saving.tmp").exists()


def test_one_that_cannot_be_read_is_an_error_and_is_kept(tmp_path):
    """A file system that is down is no reason to throw hours of work away."""
    with StepCheckpoints(tmp_path, ALONE) as checkpoints:
        checkpoints.save(*state(5))
    file = checkpoints.folder / "00000005" / "state.safetensors"
    file.rename(file.with_suffix(".moved"))
    file.mkdir()  # reading it fails with another error than that of a missing file
    with pytest.raises(ArtifactError, match="00000005 cannot be read"):
        checkpoints.load_latest()
    assert file.with_suffix(".moved").exists()
