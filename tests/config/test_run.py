"""A broken configuration ends in one line that names the key and the way out."""

from pathlib import Path

import pytest
import yaml

from nanochat.config import load_config, merge
from nanochat.errors import ConfigError

CONFIGS = sorted((Path(__file__).parents[2] / "config").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_config_is_valid(path):
    load_config(yaml.safe_load(path.read_text()))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"deph": 4}, "unknown key deph; did you mean depth?"),
        ({"sft": {"matrx_lr": 1}}, "unknown key sft.matrx_lr; did you mean sft.matrix_lr?"),
        ({"sft": {"matrix_lr": "fast"}}, "sft.matrix_lr = 'fast'"),
        ({"sft": {"mixture": {"gsm9k": {}}}}, "sft.mixture: gsm9k is not in the catalogue; did you mean gsm8k?"),
        ({"sft": {"mixture": {"gsm8k": {"epoch": 2}}}}, "did you mean sft.mixture.gsm8k.epochs?"),
        ({"sft": {"mixture": {"humaneval": {}}}}, "no training split"),
        ({"base": {"total_batch_size": 3000}}, "the nearest valid value is 2048"),
        ({"base": {"warmup_ratio": 0.9}}, "more than the whole run"),
        ({"rl": {"task": "arc_easy"}}, "rl.task = arc_easy"),
        ({"rl": {"task": "arc_easy", "enabled": False}}, None),
        ({"model": {"kv_heads": 7, "head_dim": 64}}, "does not divide"),
        ({"tokenizer": {"vocab_size": 1000}}, "multiple of 64"),
        ({"chat": {"port": 99999}}, "chat.port"),
        ({"data": {"corpus": "fineweb"}}, "did you mean fineweb_edu?"),
    ],
)
def test_errors_name_the_key_and_the_nearest_valid_one(values, expected):
    if expected is None:
        load_config(values)
        return
    with pytest.raises(ConfigError) as error:
        load_config(values)
    message = str(error.value)
    assert expected in message
    assert "\n" not in message


def test_merge_goes_deep_and_leaves_its_inputs_alone():
    first, second = {"a": {"b": 1, "c": 2}, "d": 1}, {"a": {"b": 3}}
    assert merge(first, second) == {"a": {"b": 3, "c": 2}, "d": 1}
    assert first == {"a": {"b": 1, "c": 2}, "d": 1}


def test_depth_is_part_of_the_run_name():
    assert load_config({"run": "spark-d{depth}", "depth": 16}).name == "spark-d16"


def test_values_from_the_command_line_may_be_strings():
    assert load_config({"depth": "16"}).depth == 16
