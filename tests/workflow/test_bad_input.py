"""Bad input ends in one clear error and a non-zero exit, leaves nothing half-made, and the repaired rerun succeeds."""

import shutil
import socket
import subprocess

import pytest

from nanochat.artifact import verify
from tests.conftest import REPOSITORY, Workflow


@pytest.fixture
def copy(workflow, tmp_path) -> Workflow:
    """A finished run of one's own, to break."""
    folder = tmp_path / "copy"
    subprocess.run(["cp", "-a", str(workflow.folder), str(folder)], check=True)
    return Workflow(folder)


def errors(output: str) -> list[str]:
    """The distinct error lines of ours (snakemake shows a failed job's log once more)."""
    return list(dict.fromkeys(line for line in output.splitlines() if line.startswith("error:")))


def test_a_broken_config_is_one_line(tmp_path):
    done = Workflow(tmp_path).run("-n", "--config", "sft={matrx_lr: 0.1}", check=False)
    assert done.returncode != 0
    assert errors(done.stdout) == ["error: config: unknown key sft.matrx_lr; did you mean sft.matrix_lr?"]
    assert "Traceback" not in done.stdout


def test_a_truncated_shard_is_named_and_leaves_nothing(workflow, tmp_path):
    made = next(workflow.folder.glob("data/world-*/made"))
    mirror = tmp_path / "mirror"
    shutil.copytree(made, mirror)
    shard = next((mirror / "datasets" / "world" / "text").glob("shard_00000.parquet"))
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    runner = Workflow(tmp_path / "run")
    arguments = ("--cores", "2", "results/smoke/tokenizer", "--config", f"data={{source: {mirror}}}")
    done = runner.run(*arguments, check=False)
    assert done.returncode != 0
    (error,) = errors(done.stdout)
    assert "shard_00000.parquet" in error
    assert not list(runner.folder.glob("data/*/datasets/world/text/shard_00000.parquet"))
    shard.write_bytes(whole)
    runner.run(*arguments)
    verify(runner.folder / "results" / "smoke" / "tokenizer")


def test_a_flipped_byte_in_a_checkpoint_is_named(copy):
    run = copy.folder / "results" / "smoke"
    weights = run / "sft" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    shutil.rmtree(run / "eval" / "sft")
    shutil.rmtree(run / "eval" / ".progress" / "sft")
    done = copy.run("--cores", "2", "results/smoke/eval/sft", check=False)
    assert done.returncode != 0
    (error,) = errors(done.stdout)
    assert "sft/model.safetensors" in error
    assert not (run / "eval" / "sft").exists()
    shutil.rmtree(run / "sft")  # what the message says
    copy.run("--cores", "2", "results/smoke/eval/sft")
    verify(run / "sft")
    verify(run / "eval" / "sft")


def test_a_full_disk_is_one_error_and_no_damage(copy, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1g", "tmpfs", str(small)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small tmpfs here: {mounted.stderr.strip()}")
    try:
        shutil.copytree(copy.folder, small / "run", symlinks=True)
        runner = Workflow(small / "run")
        run = small / "run" / "results" / "smoke"
        for stage in ("base", "mid", "sft", "rl"):
            shutil.rmtree(run / stage)
        shutil.rmtree(run / ".progress")
        filler = small / "filler"
        with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
            while True:
                file.write(bytes(1 << 16))
        with filler.open("r+b") as file:
            file.truncate(max(0, filler.stat().st_size - (1 << 20)))
        done = runner.run("--cores", "2", "results/smoke/base", check=False)
        assert done.returncode != 0
        assert "No space left on device" in done.stdout
        assert len(errors(done.stdout)) == 1, errors(done.stdout)
        assert not (run / "base").exists()
        filler.unlink()
        runner.run("--cores", "2", "results/smoke/base")
        verify(run / "base")
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def test_a_gpu_profile_without_cuda_says_so(copy):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    run = copy.folder / "results" / "smoke"
    shutil.rmtree(run / "base")
    shutil.rmtree(run / ".progress" / "base")
    arguments = ("--profile", str(REPOSITORY / "profiles" / "dgx-spark"), "results/smoke/base")
    done = copy.run(*arguments, check=False)
    assert done.returncode != 0
    (error,) = errors(done.stdout)
    assert "no CUDA device" in error
    assert not (run / "base").exists()


def test_a_port_in_use_is_named(workflow):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = workflow.run("chat_ui", "--config", f"chat={{port: {port}}}", check=False)
    assert done.returncode != 0
    (error,) = errors(done.stdout)
    assert str(port) in error
    assert "chat.port" in error


def test_a_missing_mirror_file_is_named(tmp_path):
    (tmp_path / "mirror").mkdir()
    runner = Workflow(tmp_path / "run")
    done = runner.run(
        "--cores", "1", "results/smoke/tokenizer", "--config", f"data={{source: {tmp_path / 'mirror'}}}", check=False
    )
    assert done.returncode != 0
    assert "shard_0000" in errors(done.stdout)[0]
