"""What reruns and what does not: params say what, resources say how."""

import os
import shutil
import subprocess

import pytest

from tests.conftest import REPOSITORY, Workflow

AFTER_SFT = {"sft", "rl", "chat_eval", "report", "publish", "all"}


def test_a_finished_run_has_nothing_to_do(workflow):
    assert workflow.planned() == {}


def test_a_learning_rate_of_sft_reruns_sft_and_what_follows_and_says_why(workflow):
    arguments = ("--config", "sft={matrix_lr: 0.0123}")
    planned = workflow.planned(*arguments)
    assert set(planned) == AFTER_SFT
    assert planned["chat_eval"] == 2  # sft and rl, not mid
    output = workflow.run("-n", *arguments).stdout
    assert "sft.matrix_lr=0.0123" in output
    assert "sft.matrix_lr=null" in output


@pytest.mark.parametrize(
    "arguments",
    [
        ("--config", "wandb={mode: offline}"),
        ("--config", "execution={device_batch_size: 3, checkpoint_steps: 2}"),
        ("--config", "chat={port: 7999}"),
        ("--set-resources", "base:launch='torchrun --standalone --nproc_per_node=2'", "sft:device_batch_size=4"),
        ("--cores", "1"),
        ("--set-threads", "base=1"),
    ],
    ids=["wandb", "device-batch", "port", "launch", "cores", "threads"],
)
def test_how_it_is_made_reruns_nothing(workflow, arguments):
    assert workflow.planned(*arguments) == {}


def test_touched_or_freshly_cloned_sources_rerun_nothing(workflow, tmp_path):
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True).stdout.split(
        "\0"
    )
    clone = tmp_path / "clone"
    for name in filter(None, tracked):
        source = REPOSITORY / name
        if source.is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, clone / name)
            os.utime(clone / name)
    assert Workflow(workflow.folder, clone).planned(configfile=clone / "config" / "smoke.yaml") == {}


def test_a_deleted_stage_is_linked_again_not_trained_again(workflow, tiny_run):
    before = (tiny_run / "mid" / "model.safetensors").stat().st_ino
    shutil.rmtree(tiny_run / "mid")
    assert "mid" in workflow.planned()
    workflow.run("--cores", "2")
    assert (tiny_run / "mid" / "model.safetensors").stat().st_ino == before
    assert workflow.planned() == {}


def test_another_run_shares_data_tokenizer_and_tokens(workflow):
    planned = workflow.planned("--config", "run=other", "depth=3")
    assert {"base", "mid", "sft", "rl", "report"} <= planned.keys()
    assert not {"world", "shards", "dataset", "tokenizer", "tokens"} & planned.keys()
