import json
import math
import random

import pyarrow.parquet as pq
import pytest

from nanochat.evaluate.scores import (
    FinishedTasks,
    binomial_error,
    mean_centred,
    score_records,
    write_records,
    write_scores,
)


def scored(right, wrong, chance=0.25, baseline=None):
    records = [{"item": n, "correct": n < right} for n in range(right + wrong)]
    return score_records(
        "t", "choice", records, available=1000, chance=chance, seconds=1.0, baseline=baseline, more={"shots": 3}
    )


def test_a_score_and_its_error():
    score = scored(60, 40)
    assert (score.value, score.items, score.available) == (0.6, 100, 1000)
    assert score.stderr == pytest.approx(math.sqrt(0.6 * 0.4 / 100))
    assert score.centered == pytest.approx(0.35 / 0.75)
    assert scored(60, 40, baseline=0.1).centered == pytest.approx(0.5 / 0.9)
    row = scored(60, 40).row()
    assert row["above_chance"] == pytest.approx(0.35) and row["shots"] == 3 and "more" not in row


def test_the_error_is_the_bootstraps():
    generator = random.Random(0)
    outcomes = [1] * 70 + [0] * 130
    means = [sum(generator.choices(outcomes, k=200)) / 200 for _ in range(3000)]
    mean = sum(means) / len(means)
    spread = math.sqrt(sum((m - mean) ** 2 for m in means) / len(means))
    assert binomial_error(0.35, 200) == pytest.approx(spread, rel=0.05)


def test_mean_of_centred_scores():
    a, b = scored(60, 40), scored(100, 0)
    mean, error = mean_centred([a, b])
    assert mean == pytest.approx((a.centered + 1) / 2)
    assert error == pytest.approx(math.hypot(a.stderr / 0.75, b.stderr / (1 - b.chance)) / 2)


def test_files(tmp_path):
    write_scores(tmp_path, [scored(1, 1)], {"chat_score": {"value": 0.5}})
    content = json.loads((tmp_path / "scores.json").read_text())
    assert content["scores"][0]["task"] == "t" and content["summary"]["chat_score"]["value"] == 0.5
    write_records(tmp_path, {"a": [{"item": 0, "correct": True}], "b": [{"item": 0, "correct": False, "x": "y"}]})
    rows = pq.read_table(tmp_path / "records.parquet").to_pylist()
    assert [row["task"] for row in rows] == ["a", "b"] and rows[0]["x"] is None and rows[1]["x"] == "y"


def test_finished_tasks(tmp_path):
    finished = FinishedTasks(tmp_path)
    assert finished.load("a") is None
    finished.save("a", {"records": [1]})
    assert finished.load("a") == {"records": [1]} and finished.load("b") is None
    (tmp_path / "task-b.json").write_text('{"recor')
    assert finished.load("b") is None


def test_none_or_all_right_is_not_known_exactly():
    assert binomial_error(0.0, 24) == pytest.approx(binomial_error(1.0, 24)) == pytest.approx(0.0487, abs=1e-4)
    assert binomial_error(0.0, 2400) < 0.001
