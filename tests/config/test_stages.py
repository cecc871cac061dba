"""Stage views hold what changes an artifact, and nothing that only says how it is made."""

import pytest

from nanochat.config import STAGES, Settings, load_config, pairs_of, parse_pairs
from nanochat.errors import ConfigError


@pytest.mark.parametrize("stage", STAGES)
def test_pairs_carry_a_stage_to_its_script_unchanged(stage):
    config = load_config(
        {
            "depth": 6,
            "data": {"mixture": {"world": {"weight": 3}, "own": {"epochs": 2}}},
            "own": {"text": {"files": ["x"], "shards": 3}, "persona": {"conversations": 77}, "on_damage": "skip"},
            "sft": {"mixture": {"gsm8k": {"epochs": 2}}},
            "base": {"sample_prompts": ["a b", "c=d"]},
        }
    )
    assert_is_part(parse_pairs(stage, pairs_of(config, stage)), config)


def assert_is_part(view: Settings, whole: Settings) -> None:
    for name in type(view).model_fields:
        part, expected = getattr(view, name), getattr(whole, name)
        if isinstance(part, Settings) and type(part) is not type(expected):
            assert_is_part(part, expected)
        else:
            assert part == expected, name


def test_a_changed_key_changes_one_pair_of_one_stage():
    before, after = load_config({}), load_config({"sft": {"matrix_lr": 0.03}})
    for stage in STAGES:
        difference = set(pairs_of(after, stage)) - set(pairs_of(before, stage))
        assert difference == ({"sft.matrix_lr=0.03"} if stage == "sft" else set())


@pytest.mark.parametrize(
    "how",
    [
        {"wandb": {"mode": "online"}},
        {"execution": {"device_batch_size": 1, "checkpoint_steps": 7}},
        {"chat": {"port": 1234}},
    ],
)
def test_how_it_is_made_is_in_no_stage(how):
    before, after = load_config({}), load_config(how)
    assert all(pairs_of(before, stage) == pairs_of(after, stage) for stage in STAGES)


@pytest.mark.parametrize("pair", ["sft.matrix_lr", "sft.nonsense=1", "sft.matrix_lr=-1"])
def test_a_wrong_pair_is_named(pair):
    with pytest.raises(ConfigError, match=r"sft\."):
        parse_pairs("sft", [pair])
