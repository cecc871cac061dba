"""metrics.jsonl holds one continuous history, whatever was killed."""

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
