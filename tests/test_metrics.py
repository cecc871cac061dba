"""metrics.jsonl holds one continuous history, whatever was killed."""

import pytest

from nanochat.config import WandbSettings
from nanochat.metrics import Metrics, read_metrics


def test_a_resumed_stage_continues_its_history(tmp_path):
    path = tmp_path / "metrics.jsonl"
    metrics = Metrics(path, stage="base", run="r", total_steps=10)
    for step in range(1, 7):
        metrics.log(step, loss=1 / step)
    metrics.close()
    with path.open("a") as file:
        file.write('{"step": 7, "lo')  # a torn line
    resumed = Metrics(path, stage="base", run="r", total_steps=10, resume_step=4)
    for step in range(5, 11):
        resumed.log(step, loss=2 / step)
    resumed.close()
    rows = read_metrics(path)
    assert [row["step"] for row in rows] == list(range(1, 11))
    assert rows[3]["loss"] == 1 / 4
    assert rows[4]["loss"] == 2 / 5


def test_wandb_writes_offline_and_its_failures_cost_nothing(tmp_path):
    pytest.importorskip("wandb")
    settings = WandbSettings(mode="offline", project="test")
    metrics = Metrics(
        tmp_path / "metrics.jsonl", stage="base", run="r", total_steps=3, wandb=settings, wandb_folder=tmp_path / "run"
    )
    metrics.log(1, loss=2.0)
    assert metrics._wandb is not None
    metrics.close()
    assert metrics._wandb is not None, "finishing failed"
    (offline,) = (tmp_path / "run" / "wandb").glob("offline-run-*")
    assert list(offline.glob("*.wandb"))

    class Broken:
        def log(self, *_, **__):
            raise RuntimeError("no")

    metrics = Metrics(tmp_path / "metrics.jsonl", stage="base", run="r", total_steps=3, resume_step=1)
    metrics._wandb = Broken()
    metrics.log(2, loss=1.0)
    metrics.log(3, loss=0.5)
    metrics.close()
    assert [row["loss"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [2.0, 1.0, 0.5]
