"""Killed anywhere, the same command goes on, and the weights are bit-identical to an uninterrupted run's.

About six kills by default; NANOCHAT_KILLS=all kills every stage up to three times, some twenty in all.
"""

import os
import random
import signal
import subprocess
import time

import psutil

from nanochat.artifact import digest_file, verify
from tests.conftest import Workflow

# Stage → its output, and the longest delay in seconds before the kill; in the order they run.
ALL = {
    "world": ("data/*/made", 0.8),
    "tokenizer": ("data/tokens/*/tokenizer", 0.6),
    "tokens/world/00001": ("data/tokens/*/world/shard_00001", 0.5),
    "base": ("results/smoke/base", 5.0),
    "mid": ("results/smoke/mid", 4.0),
    "sft": ("results/smoke/sft", 4.0),
    "rl": ("results/smoke/rl", 4.0),
    "base_eval": ("results/smoke/eval/base", 3.0),
    "chat_eval_rl": ("results/smoke/eval/rl", 3.0),
    "report": ("report.md", 1.5),
}
SOME = ("tokens/world/00001", "base", "mid", "sft", "rl", "chat_eval_rl")


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
    thorough = os.environ.get("NANOCHAT_KILLS") == "all"
    kills = 0
    for stage in ALL if thorough else SOME:
        output, longest = ALL[stage]
        for _ in range(3 if thorough else 1):
            if not any(tmp_path.glob(output)):
                kills += kill_during(workflow, stage, rng.uniform(0.05, longest), only_snakemake=kills % 3 == 2)
    workflow.run("--cores", "2")
    assert kills >= (15 if thorough else 3), f"{kills} kills only: the run was over before most of them"
    print(f"{kills} kills")
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
