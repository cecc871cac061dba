"""Models whose scores are known before: oracle, adversary, and one that holds everything for equally likely."""

import numpy as np
import pytest
import torch

from nanochat.data.tokenizer import Tokenizer
from nanochat.data.world.bundle import write_bundle
from nanochat.data.world.facts import build_world
from nanochat.evaluate.core import read_bundle, render_items
from nanochat.evaluate.core_batches import plan_batches
from nanochat.infer.scoring import one_by_one
from tests.evaluate.stubs import Prophet
from tests.evaluate.test_core import evaluate
from tests.infer.fixtures import make_model

CONTEXT = 256


@pytest.fixture(scope="module")
def made_bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world") / "bundle"
    write_bundle(build_world(3, 120), 3, 16, folder)
    return folder


def assert_known_scores(bundle, tokenizer: Tokenizer, items: int) -> None:
    tasks = read_bundle(bundle)
    assert {task.kind for task in tasks} == {"multiple_choice", "schema", "language_modeling"}
    uniform = make_model(tokenizer.vocab_size, context=CONTEXT)
    with torch.no_grad():
        uniform.head.weight.zero_()
    oracle, adversary = (Prophet(tasks, items, tokenizer, CONTEXT, right) for right in (True, False))
    known = {name: evaluate(model, tokenizer, tasks, items) for name, model in (("o", oracle), ("a", adversary))}
    blank = evaluate(uniform, tokenizer, tasks, items)
    for task in tasks:
        asked = task.items[:items]
        assert [record["correct"] for record in known["o"][task.label]] == [True] * len(asked), task.label
        assert [record["correct"] for record in known["a"][task.label]] == [False] * len(asked), task.label
        for record in blank[task.label]:
            means = np.array(record["loss_sums"]) / np.array(record["loss_tokens"])
            assert means == pytest.approx(np.log(tokenizer.vocab_size), abs=1e-4)
        if task.kind != "language_modeling":  # equal means: the first option is picked
            firsts = [item["gold"] == 0 for item in asked]
            assert [record["correct"] for record in blank[task.label]] == firsts


def test_scores_of_the_worlds_bundle_are_what_they_must_be(made_bundle, tokenizer):
    assert_known_scores(made_bundle, tokenizer, 16)


@pytest.mark.shared
def test_scores_of_the_public_bundle_are_what_they_must_be(shared_hub, tokenizer):
    assert_known_scores(shared_hub / "eval_bundle", tokenizer, 3)


@pytest.mark.shared
@pytest.mark.parametrize("windows", ["L", "SSL"])
def test_the_public_bundle_in_batches_equals_one_by_one(shared_hub, tokenizer, windows):
    """All 200 items of each of the 12 tasks: benchmarks/eval.py --check-agreement."""
    tasks = read_bundle(shared_hub / "eval_bundle")
    model = make_model(tokenizer.vocab_size, context=320, windows=windows)
    records = evaluate(model, tokenizer, tasks, 4, rows=8)
    assert len(records) == 12
    assert any(len(batch) > len({asked.task.label for asked in batch}) > 1 for batch in plan(tasks, tokenizer))
    for task in tasks:
        for record, item in zip(records[task.label], render_items(task, range(4), tokenizer), strict=True):
            alone = one_by_one(model, item.spans)
            means = np.array(record["loss_sums"]) / np.array(record["loss_tokens"])
            assert means == pytest.approx([loss.mean for loss in alone], abs=1e-4)
            if record["picked"] is None:
                assert record["correct"] == alone[0].greedy
            else:
                assert int(record["picked"]) == min(range(len(alone)), key=lambda option: alone[option].mean)


def plan(tasks, tokenizer):
    return plan_batches(tasks, 4, tokenizer, 320, 8 * 320)
