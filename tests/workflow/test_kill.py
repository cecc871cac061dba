"""Killed anywhere, the same command goes on, and the weights are bit-identical to an uninterrupted run's.

Six kills by default; NANOCHAT_KILLS=all kills twenty times, twice in every stage.
"""

import os
import random
import signal
import subprocess
import time

import psutil

from nanochat.artifact import digest_file, verify
from tests.conftest import Workflow

# In the order they run: a stage that is finished cannot be killed any more.
ALL = ("world", "tokenizer", "tokens/shard_00001", "base", "base_eval", "mid", "sft", "rl", "chat_eval_rl", "report")
SOME = ("tokens/shard_00001", "base", "mid", "sft", "rl", "chat_eval_rl")


def kill_during(workflow: Workflow, stage: str, delay: float, *, only_snakemake: bool) -> bool:
    """Start the DAG, kill it `delay` seconds after `stage` began; False if it was finished before."""
    log = workflow.folder / "results" / "smoke" / "logs" / f"{stage}.log"
    process = subprocess.Popen(
        workflow.command("--cores", "2"),
        cwd=workflow.repository,
        env=workflow.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    seen = log.stat().st_mtime_ns if log.exists() else None
    while process.poll() is None and (not log.exists() or log.stat().st_mtime_ns == seen):
        time.sleep(0.02)
    try:
        process.wait(delay)
    except subprocess.TimeoutExpired:
        if only_snakemake:
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True
    return False


def test_kills_at_random_moments_cost_nothing(tiny_run, tmp_path):
    workflow = Workflow(tmp_path)
    rng = random.Random(20)
    schedule = [stage for stage in ALL for _ in range(2)] if os.environ.get("NANOCHAT_KILLS") == "all" else SOME
    kills = 0
    for attempt, stage in enumerate(schedule):
        kills += kill_during(workflow, stage, rng.uniform(0.2, 6.0), only_snakemake=attempt % 3 == 2)
    workflow.run("--cores", "2")
    assert kills >= len(schedule) // 2, "the run was over before most kills; lengthen it"
    assert workflow.planned() == {}
    for stage in ("base", "mid", "sft", "rl"):
        verify(tmp_path / "results" / "smoke" / stage)
        ours = digest_file(tmp_path / "results" / "smoke" / stage / "model.safetensors")
        assert ours == digest_file(tiny_run / stage / "model.safetensors"), f"{stage} differs after {kills} kills"
    leftovers = [
        p.info["pid"]
        for p in psutil.process_iter(["pid", "cmdline"])
        if str(tmp_path) in " ".join(p.info["cmdline"] or [])
    ]
    assert not leftovers
