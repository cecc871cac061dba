import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nanochat.artifact import verify
from nanochat.errors import ArtifactError
from nanochat.metrics import read_metrics
from nanochat.model.checkpoint import load_tensors

from . import worker
from .test_trainer import distance

WORKER = Path(worker.__file__)


def launch(*arguments: object, ranks: int = 1) -> subprocess.CompletedProcess[str]:
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"] if ranks > 1 else []
    command = [sys.executable, *torchrun, str(WORKER), *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def whole(tiny_data, tmp_path_factory):
    """An uninterrupted run."""
    out = tmp_path_factory.mktemp("whole") / "base"
    worker.run(tiny_data, out)
    return out


def test_it_learns_and_writes_a_whole_checkpoint(whole):
    manifest = verify(whole)
    expected = {"model.safetensors", "model.json", "tokenizer.json", "token_bytes.npy", "metrics.jsonl", "samples.md"}
    assert expected | {"optimizer.safetensors"} <= set(manifest.files)
    metrics = manifest.metrics
    assert metrics["val_bpb"] < 0.75 * metrics["initial_val_bpb"]
    assert (manifest.steps, metrics["plan"]["steps"]) == (8, 8)
    assert 0.99 * 8 * 512 < manifest.tokens <= 8 * 512
    assert "Anna lives in" in (whole / "samples.md").read_text()
    steps = [row["step"] for row in read_metrics(whole / "metrics.jsonl") if "loss" in row]
    assert steps == list(range(1, 9))
    evaluated = [row["step"] for row in read_metrics(whole / "metrics.jsonl") if "val_bpb" in row]
    assert evaluated == [0, 4, 8]


def test_killed_anywhere_it_ends_with_the_same_weights(tiny_data, whole, tmp_path):
    out = tmp_path / "base"
    for what, step in (("kill", 3), ("kill-in-save", 4)):
        done = launch(tiny_data, out, what, step)
        assert done.returncode == -9, done.stderr
        assert not out.exists()
    manifest = worker.run(tiny_data, out)
    assert manifest.digest == verify(whole).digest
    steps = [row["step"] for row in read_metrics(out / "metrics.jsonl") if "loss" in row]
    assert steps == list(range(1, 9))
    # A finished stage is only linked again.
    before = (out / "model.safetensors").stat().st_ino
    for path in out.iterdir():
        path.unlink()
    out.rmdir()
    worker.run(tiny_data, out)
    assert (out / "model.safetensors").stat().st_ino == before


def test_sigterm_saves_and_exits_with_143(tiny_data, whole, tmp_path):
    done = launch(tiny_data, tmp_path / "base", "terminate", 5)
    assert done.returncode == 143, done.stderr
    (progress,) = (tmp_path / ".progress" / "base").glob("*/steps")
    assert max(path.name for path in progress.iterdir()) == "00000005"
    assert worker.run(tiny_data, tmp_path / "base").digest == verify(whole).digest


@pytest.fixture(scope="module")
def together(tiny_data, tmp_path_factory):
    """The same run on two ranks."""
    out = tmp_path_factory.mktemp("together") / "base"
    done = launch(tiny_data, out, ranks=2)
    assert done.returncode == 0, done.stderr
    return out


def assert_equal_to_rounding(ours, reference):
    for name in ("model.safetensors", "optimizer.safetensors"):
        found, expected = load_tensors(ours / name), load_tensors(reference / name)
        assert found.keys() == expected.keys()
        for key in found:
            assert distance(found[key], expected[key]) < 0.01, key
    losses = [[row["loss"] for row in read_metrics(p / "metrics.jsonl") if "loss" in row] for p in (ours, reference)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


def test_two_ranks_train_the_same_model(whole, together):
    assert_equal_to_rounding(together, whole)


def test_killed_on_two_ranks_it_goes_on_on_two_and_on_one(tiny_data, whole, together, tmp_path):
    out = tmp_path / "killed" / "base"
    done = launch(tiny_data, out, "kill", 5, ranks=2)
    assert done.returncode != 0
    assert not out.exists()
    (steps,) = (tmp_path / "killed" / ".progress" / "base").glob("*/steps")
    assert "00000002" in {path.name for path in steps.iterdir()}
    shutil.copytree(tmp_path / "killed", tmp_path / "alone")
    done = launch(tiny_data, out, ranks=2)
    assert done.returncode == 0, done.stderr
    # The first steps were not made again: their times are those of the first run.
    first = (tmp_path / "alone" / ".progress" / "base").glob("*/metrics.jsonl")
    before, after = read_metrics(*first), read_metrics(out / "metrics.jsonl")
    assert [row for row in before if row["step"] <= 2] == [row for row in after if row["step"] <= 2]
    assert verify(out).digest == verify(together).digest
    worker.run(tiny_data, tmp_path / "alone" / "base")
    assert_equal_to_rounding(tmp_path / "alone" / "base", whole)


def test_sigterm_on_two_ranks_ends_the_step_and_saves(tiny_data, together, tmp_path):
    done = launch(tiny_data, tmp_path / "base", "terminate", 5, ranks=2)
    assert done.returncode != 0
    (progress,) = (tmp_path / ".progress" / "base").glob("*/steps")
    assert max(path.name for path in progress.iterdir()) == "00000006"


def test_tokens_of_another_tokenizer_are_refused(tiny_data, tmp_path):
    from nanochat.config import TokenizerSettings
    from nanochat.config.stages import TokenizerStage
    from nanochat.data import tokenizer_training

    other = tmp_path / "data"
    other.mkdir()
    settings = TokenizerStage(tokenizer=TokenizerSettings(vocab_size=320))
    tokenizer_training.run(settings, out=other / "tokenizer", shards=[tiny_data / "train.parquet"])
    for name in ("train", "val"):
        (other / name).symlink_to(tiny_data / name)
    with pytest.raises(ArtifactError, match="tokenizer"):
        worker.run(other, tmp_path / "base")
