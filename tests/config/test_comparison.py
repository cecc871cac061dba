"""Which evaluations a comparison takes, and what it refuses before the first job."""

import json

import pytest

from nanochat.config import Comparison, Layout, load_config
from nanochat.errors import ConfigError


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made(path, stage):
    path.mkdir(parents=True)
    (path / "manifest.json").write_text(json.dumps({"stage": stage}))


def comparison(first, second, **values):
    values |= {"run": "mine", "data": {"source": "world", "corpus": "world"}}
    return Comparison.of(Layout(load_config(values | {"compare": {"first": first, "second": second}}), 1000))


def test_evaluations_are_found_beside_the_checkpoints(place):
    for run in "ab":
        made(place / "results" / run / "sft", "sft")
        made(place / "results" / run / "eval/sft", "chat_eval")
    found = comparison("results/a/sft", "./results/b/sft/")
    assert (found.first.evaluation, found.second.evaluation) == ("results/a/eval/sft", "results/b/eval/sft")
    assert found.out == "results/mine/compare/a-sft-vs-b-sft" and found.missing == {}


def test_of_the_configured_run_they_are_the_dags_own_whether_there_or_not(place):
    found = comparison("results/mine/mid", "results/mine/rl")
    assert (found.first.evaluation, found.second.evaluation) == ("results/mine/eval/mid", "results/mine/eval/rl")
    assert found.out == "results/mine/compare/mine-mid-vs-mine-rl" and found.missing == {}


def test_a_chat_checkpoint_without_one_is_evaluated_here(place):
    made(place / "elsewhere/my model", "rl")
    found = comparison("results/mine/rl", "elsewhere/my model")
    (name,) = found.missing
    assert found.second.evaluation == f"results/mine/compare/eval/{name}" and name.startswith("elsewhere-my-model-rl-")
    assert found.missing[name].stage == "rl" and found.second.made_here


def test_equal_names_of_different_places_are_told_apart(place):
    for folder in ("x/a", "y/a"):
        made(place / folder / "sft", "sft")
    one, other = comparison("x/a/sft", "y/a/sft").out, comparison("y/a/sft", "x/a/sft").out
    assert one != other and one.startswith("results/mine/compare/a-sft-vs-a-sft-")


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (None, None, "there is nothing to compare; name two checkpoint directories"),
        ("results/mine/sft", None, r"compare\.second is not set"),
        ("results/mine/sft", "results/mine//sft/", "are both results/mine/sft"),
        ("results/mine/sft", "results/none/sft", r"compare\.second = results/none/sft: no checkpoint lies there"),
        ("results/mine/sft", "results/tok/tokenizer", "is an artifact of stage tokenizer; expected a checkpoint"),
        ("results/mine/sft", "results/mine/base", "base models are evaluated on CORE, chat models on chat tasks"),
        ("results/mine/base", "results/c/base", "snakemake results/c/eval/base --configfile results/c/config.yaml"),
    ],
)
def test_what_cannot_be_compared(place, first, second, words):
    made(place / "results/tok/tokenizer", "tokenizer")
    made(place / "results/c/base", "base")
    with pytest.raises(ConfigError, match=words):
        comparison(first, second)
