"""Paths follow from the configuration: runs share what is equal and never what differs."""

import pytest

from nanochat.config import Layout, load_config
from nanochat.errors import ConfigError


def layout(train_tokens: int = 1_000_000, **values) -> Layout:
    return Layout(load_config(values), train_tokens)


HUB = {"source": "hub", "corpus": "fineweb_edu"}


def test_auto_takes_the_shards_the_horizon_needs():
    d20 = layout(11_200_000_000, data=HUB)
    assert 220 <= len(d20.train_shards) <= 250  # nanochat's speedrun takes 240
    assert len(layout(1_156_000_000, data=HUB).train_shards) == 25
    assert d20.val_shard == 1822
    assert d20.shard(d20.val_shard).endswith("karpathy/fineweb-edu-100b-shuffle/shard_01822.parquet")
    assert max(d20.train_shards) < d20.val_shard


def test_more_shards_than_there_are_is_an_error():
    with pytest.raises(ConfigError, match="1822 training shards"):
        layout(data=HUB | {"train_shards": 1823}).train_shards  # noqa: B018


def test_runs_share_tokens_exactly_when_the_tokenizer_is_the_same():
    first = layout(run="a", data=HUB)
    assert first.tokens_root == layout(run="b", depth=6, data=HUB).tokens_root
    assert first.tokens_root != layout(data=HUB, tokenizer={"vocab_size": 4096}).tokens_root
    assert first.data == "data/hub"


def test_another_world_lies_in_another_folder():
    assert layout().data == layout(depth=9).data
    assert layout().data != layout(world={"seed": 2}).data
    assert layout(data={"source": "/mirror/hub"}).data != layout(data={"source": "/other/hub"}).data


def test_without_rl_nothing_of_it_is_asked_for():
    with_rl = layout(rl={"task": "word_problems"}).artifacts
    without = layout(rl={"enabled": False}).artifacts
    assert {path for path in with_rl if path not in without} == {"results/d4/rl", "results/d4/eval/rl"}


def test_a_stage_reads_the_files_of_its_tasks():
    run = layout(sft={"mixture": {"gsm8k": {}, "identity": {}}}, data=HUB)
    assert run.task_files("sft") == [
        "data/hub/datasets/openai/gsm8k/main/train-00000-of-00001.parquet",
        "data/hub/files/identity_conversations.jsonl",
    ]
