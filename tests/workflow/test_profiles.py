"""The GPU profiles: what they would run is shown, parsed, and run tiny, two gloo processes in place of eight GPUs."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from nanochat.artifact import read_manifest, verify
from tests.conftest import REPOSITORY, Workflow

STAGES = ("base", "base_eval", "mid", "sft", "rl", "chat_eval")
SPARK = ("--profile", str(REPOSITORY / "profiles" / "dgx-spark"))
H100 = ("--profile", str(REPOSITORY / "profiles" / "h100x8"))


def commands(output: str) -> dict[str, list[str]]:
    """Stage → its command's words, from a dry run (of several jobs of one rule, the last)."""
    found = {}
    for line in re.findall(r"^Shell command: (.*)$", output, re.MULTILINE):
        words = shlex.split(line.split(" 2>&1 |")[0])
        if "-m" in words:
            found[words[words.index("-m") + 1].removeprefix("workflow_scripts.")] = words
    return found


@pytest.mark.parametrize(
    ("profile", "launch", "gpus", "model", "shards"),
    [
        (SPARK, ["python"], 1, "d12 (modern)", 25),
        (H100, ["torchrun", "--standalone", "--nproc_per_node=8"], 8, "d20 (classic)", 238),
    ],
    ids=["dgx-spark", "h100x8"],
)
def test_every_stage_is_shown_with_launch_gpus_and_batch_sizes(tmp_path, profile, launch, gpus, model, shards):
    output = Workflow(tmp_path).run("-n", "report.md", *profile, configfile=None).stdout
    found = commands(output)
    for stage in STAGES:
        assert found[stage][: len(launch)] == launch
        assert found[stage][found[stage].index("--device") + 1] == "cuda"
        assert found[stage][found[stage].index("--device-batch-size") + 1] == "auto"
    assert f"Pretraining {model}" in output
    assert re.search(rf"steps of [\d,]+ tokens; launch `{launch[0]}.*`, GPUs {gpus}, device batch auto", output)
    assert abs(int(re.search(r"^shards +(\d+)$", output, re.MULTILINE)[1]) - 1 - shards) <= 3
    assert "karpathy/fineweb-edu-100b-shuffle" in output


def test_depth_is_a_word_on_the_command_line(tmp_path):
    output = Workflow(tmp_path).run("-n", "report.md", *SPARK, "--config", "depth=16", configfile=None).stdout
    assert "Pretraining d16 (modern)" in output
    assert "results/spark-d16/base" in output


class Launched:
    """The tiny DAG's stages, run by the h100x8 profile's own commands with gloo processes in place of GPUs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run = folder / "results" / "smoke"
        self._runner = Workflow(folder)
        for name in ("base", "mid", "sft", "rl", "eval", ".progress"):
            shutil.rmtree(self.run / name)
        self._commands = commands(self._runner.run("-n", *H100).stdout)

    def stage(self, stage: str, ranks: int, **changes: str) -> None:
        """Run a stage's command; `changes` puts other words in the place of the ones given."""
        changed = {"--nproc_per_node=8": f"--nproc_per_node={ranks}", "cuda": "cpu"} | changes
        words = [changed.get(word, word) for word in self._commands[stage]]
        environment = self._runner.environment() | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(words, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, f"{stage}: {done.stderr[-3000:]}"


@pytest.fixture(scope="module")
def launched(workflow, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    subprocess.run(["cp", "-a", f"{workflow.folder}/.", str(folder)], check=True)
    found = Launched(folder)
    for stage in STAGES:
        found.stage(stage, 2)
    return found


def test_two_ranks_make_every_artifact(launched):
    for stage in ("base", "mid", "sft", "rl", "eval/base"):
        verify(launched.run / stage)
    assert any((launched.run / "eval" / stage / "manifest.json").exists() for stage in ("mid", "sft", "rl"))


def difference(one: Path, other: Path) -> dict[str, float]:
    """Of two checkpoints, tensor by tensor: norm of the difference against the norm."""
    import numpy as np
    from safetensors.numpy import load_file

    a, b = (load_file(folder / "model.safetensors") for folder in (one, other))
    assert a.keys() == b.keys()
    return {name: float(np.linalg.norm(a[name] - b[name]) / (np.linalg.norm(a[name]) + 1e-3)) for name in a}


def test_two_ranks_train_the_same_model_to_rounding(launched, tiny_run):
    """In float32, by the profile's own command; in bfloat16, which Muon amplifies, the model is as good."""
    for ranks in (1, 2):
        folder = f"results/float32/{ranks}/base"
        out = {"results/smoke/base": folder, 'model.precision="auto"': 'model.precision="float32"'}
        launched.stage("base", ranks, **out)
    found = launched.folder / "results" / "float32"
    assert max(difference(found / "1" / "base", found / "2" / "base").values()) < 1e-3
    losses = [read_manifest(run / "base").metrics["val_bpb"] for run in (tiny_run, launched.run)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
