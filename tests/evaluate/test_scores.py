import itertools
import json
import math
import random
import statistics

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanochat.evaluate.core_tasks import CORE_TASKS, core_extent
from nanochat.evaluate.scores import (
    binomial_error,
    extent,
    item_error,
    mean_centred,
    pass_at_k,
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
    records = {"a": [{"item": 0, "correct": True, "seconds": 1.5}], "b": [{"item": 0, "correct": False, "x": "y"}]}
    write_records(tmp_path, records)
    rows = pq.read_table(tmp_path / "records.parquet").to_pylist()
    assert all(row.keys() == {"task", "item", "correct", "x"} for row in rows)
    assert [row["task"] for row in rows] == ["a", "b"] and rows[0]["x"] is None and rows[1]["x"] == "y"


def test_none_or_all_right_is_not_known_exactly():
    assert binomial_error(0.0, 24) == pytest.approx(binomial_error(1.0, 24)) == pytest.approx(0.0487, abs=1e-4)
    assert binomial_error(0.0, 2400) < 0.001


def sampled(counts, samples, groups=None):
    return [
        {"item": n, "correct": right > 0, "right": right, "samples": samples, "group": groups and groups[n]}
        for n, right in enumerate(counts)
    ]


def bootstrap(records, statistic, times=1500, seed=0):
    """Spread of a statistic of items drawn with replacement."""
    generator = random.Random(seed)
    found = [statistic(generator.choices(records, k=len(records))) for _ in range(times)]
    mean = sum(found) / times
    return math.sqrt(sum((value - mean) ** 2 for value in found) / times)


def test_pass_at_k_is_the_share_of_draws_without_replacement_that_hold_a_right_one():
    for samples, right in ((5, 0), (5, 1), (5, 3), (5, 5), (8, 2)):
        replies = [n < right for n in range(samples)]
        for k in range(1, samples + 1):
            draws = list(itertools.combinations(replies, k))
            assert pass_at_k(right, samples, k) == pytest.approx(sum(map(any, draws)) / len(draws))
    with pytest.raises(ValueError, match="k = 3, expected 1 to the number of samples, 2"):
        pass_at_k(1, 2, 3)


def test_a_score_of_several_samples():
    score = score_records("t", "generate", sampled([0, 3, 6, 6], 6), available=9, chance=0.0, seconds=1.0)
    assert score.value == pytest.approx(15 / 24) and score.items == 4 and score.more["samples"] == 6
    assert list(score.more["pass_at_k"]) == ["1", "2", "4", "6"]
    assert score.more["pass_at_k"]["1"] == {"value": pytest.approx(score.value), "stderr": pytest.approx(score.stderr)}
    assert score.more["pass_at_k"]["6"]["value"] == 0.75
    assert "pass_at_k" not in scored(1, 1).more


def test_errors_of_samples_and_of_pass_at_k_are_the_bootstraps_over_items():
    generator = random.Random(7)
    ease = [generator.betavariate(0.5, 1) for _ in range(150)]
    counts = [sum(generator.random() < p for _ in range(8)) for p in ease]
    records = sampled(counts, 8)
    score = score_records("t", "generate", records, available=150, chance=0.0, seconds=1.0)

    def mean_of(k):
        return lambda drawn: sum(pass_at_k(record["right"], 8, k) for record in drawn) / len(drawn)

    assert score.stderr == pytest.approx(bootstrap(records, mean_of(1)), rel=0.06)
    for k in (2, 4, 8):
        assert score.more["pass_at_k"][str(k)]["stderr"] == pytest.approx(bootstrap(records, mean_of(k)), rel=0.06)
    one_by_one = binomial_error(score.value, 8 * 150)
    assert score.stderr > 1.8 * one_by_one  # samples of an item are alike


def test_errors_of_categories_and_of_the_macro_average_are_the_bootstraps():
    generator = random.Random(8)
    names = {"algebra": ("STEM", 0.3), "law": ("humanities", 0.6), "physics": ("STEM", 0.8)}
    groups = [generator.choice(list(names)) for _ in range(240)]
    records = [
        {"item": n, "correct": generator.random() < names[group][1], "group": group} for n, group in enumerate(groups)
    ]
    score = score_records(
        "t", "choice", records, available=500, chance=0.25, seconds=1.0,
        category=lambda group: names[group][0], group_sizes={"algebra": 250, "law": 150, "physics": 100},
    )  # fmt: skip
    of = {name: [r for r in records if names[r["group"]][0] == name] for name in ("STEM", "humanities")}

    def share(drawn):
        return sum(record["correct"] for record in drawn) / len(drawn)

    for name, inside in of.items():
        entry = score.more["categories"][name]
        assert entry["value"] == pytest.approx(share(inside)) and entry["items"] == len(inside)
        assert entry["stderr"] == pytest.approx(bootstrap(inside, share), rel=0.06)
    assert score.more["categories"]["STEM"]["available"] == 350 and score.more["categories"]["STEM"]["subset"]
    assert score.more["groups"]["law"]["category"] == "humanities"
    by_group = [[r for r in records if r["group"] == group] for group in names]
    macro = score.more["macro"]
    assert macro["value"] == pytest.approx(sum(map(share, by_group)) / 3) and macro["groups"] == 3 and macro["subset"]
    draws = [sum(share(generator.choices(inside, k=len(inside))) for inside in by_group) / 3 for _ in range(1500)]
    assert macro["stderr"] == pytest.approx(statistics.pstdev(draws), rel=0.06)
    assert score.value == pytest.approx(share(records)) != macro["value"]  # the micro average


def test_the_error_of_a_mean_of_centred_scores_is_the_bootstraps():
    generator = random.Random(9)
    tasks = [(0.25, 0.4, 120), (0.0, 0.1, 200), (0.5, 0.7, 90)]
    records = [[{"item": n, "correct": generator.random() < share} for n in range(items)] for _, share, items in tasks]

    def core(parts):
        scores = [
            score_records("t", "choice", part, available=999, chance=chance, seconds=1.0)
            for part, (chance, _, _) in zip(parts, tasks)
        ]
        return mean_centred(scores)

    draws = [core([generator.choices(part, k=len(part)) for part in records])[0] for _ in range(1200)]
    assert core(records)[1] == pytest.approx(statistics.pstdev(draws), rel=0.06)


def test_equal_values_are_not_known_exactly():
    assert item_error([0.5, 0.5]) == binomial_error(0.5, 2)
    assert item_error([0.0]) == binomial_error(0.0, 1) and item_error([1, 1, 1]) == binomial_error(1.0, 3)
    assert item_error([1, 0, 0, 1]) == pytest.approx(binomial_error(0.5, 4))


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=50))
def test_the_error_is_at_most_that_of_right_or_wrong_items(values):
    mean = math.fsum(values) / len(values)
    assert 0 < item_error(values) <= binomial_error(mean, len(values)) + 1e-12


def test_a_score_over_a_part_of_the_items_says_so():
    part, whole = scored(60, 40), scored(600, 400)
    assert part.subset and part.row()["subset"] is True and part.text.endswith("(100 of 1,000 items)")
    assert not whole.subset and whole.row()["subset"] is False and whole.text.endswith("(1,000 items)")


@pytest.mark.parametrize(
    ("items", "of", "expected"),
    [
        ([(10, 10), (20, 20)], None, ""),
        ([(10, 10), (20, 20)], 2, ""),
        ([(10, 10), (20, 20)], 22, "2 of 22 tasks"),
        ([(200, 1319), (32, 32), (200, 500)], None, "at most 200 items each"),
        ([(200, 1319), (32, 32), (200, 500)], 22, "3 of 22 tasks, at most 200 items each"),
        ([(200, 1319), (300, 300)], None, "1 of 2 tasks over a part of their items"),
        ([(200, 1319), (100, 300)], 6, "2 of 6 tasks, 2 of them over a part of their items"),
    ],
)
def test_what_a_mean_leaves_out(items, of, expected):
    assert extent(items, of) == expected


def test_core_is_named_by_how_much_of_it_there_is():
    whole = dict.fromkeys(CORE_TASKS, (10, 10))
    assert len(CORE_TASKS) == 22 and core_extent(whole) == ""
    assert core_extent(whole | {"copa": (5, 10)}) == "1 of 22 tasks over a part of their items"
    assert core_extent({"copa": (30, 30), "piqa": (20, 1838)}) == "2 of 22 tasks, 1 of them over a part of their items"
    assert core_extent({"copa": (20, 100), "piqa": (20, 1838)}) == "2 of 22 tasks, at most 20 items each"
    assert core_extent({"mine": (3, 3)}) == "1 task, none of CORE's 22"


def test_isolation_is_what_held_for_every_item():
    records = [
        {"item": 0, "correct": True, "isolation": ["namespaces", "seccomp", "rlimits"]},
        {"item": 1, "correct": True, "isolation": ["seccomp", "rlimits"]},
    ]
    more = score_records("t", "generate", records, available=2, chance=0.0, seconds=1.0).more
    assert more["isolation"] == ["seccomp", "rlimits"]
    records.append({"item": 2, "correct": True})
    assert score_records("t", "generate", records, available=3, chance=0.0, seconds=1.0).more["isolation"] == []
    assert "isolation" not in scored(1, 1).more
