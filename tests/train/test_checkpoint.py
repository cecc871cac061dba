import torch

from nanochat.runtime import World
from nanochat.train.checkpoint import StepCheckpoints, StepState

ALONE = World(0, 0, 1, torch.device("cpu"))


def state(step: int) -> StepState:
    return StepState(step, {"model.w": torch.full((100,), float(step))}, {"step": step, "tokens": 10 * step})


def test_the_newest_comes_back_and_two_are_kept(tmp_path):
    checkpoints = StepCheckpoints(tmp_path, ALONE, keep=2)
    assert checkpoints.load_latest() is None
    for step in (1, 2, 3):
        checkpoints.save(state(step))
    assert sorted(path.name for path in checkpoints.folder.iterdir()) == ["00000002", "00000003"]
    found = checkpoints.load_latest()
    assert found.step == 3
    assert found.meta == {"step": 3, "tokens": 30}
    assert torch.equal(found.tensors["model.w"], torch.full((100,), 3.0))


def test_a_torn_one_gives_way_to_the_one_before(tmp_path):
    checkpoints = StepCheckpoints(tmp_path, ALONE)
    for step in (5, 6, 7):
        checkpoints.save(state(step))
    newest = checkpoints.folder / "00000007" / "state.safetensors"
    damaged = bytearray(newest.read_bytes())
    damaged[-3] ^= 1
    newest.write_bytes(damaged)
    assert checkpoints.load_latest().step == 6
    assert not newest.exists()
    (checkpoints.folder / "00000006" / "state.json").write_text('{"step": 6, "me')
    assert checkpoints.load_latest() is None
