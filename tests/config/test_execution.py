import subprocess
import sys

import pytest

from nanochat.config import load_config, parse_device_batch_size
from nanochat.errors import ConfigError


@pytest.mark.parametrize(("value", "expected"), [("auto", "auto"), (8, 8), ("8", 8), (" 16 ", 16)])
def test_rows_are_auto_or_a_number(value, expected):
    assert parse_device_batch_size(value) == expected
    assert load_config({"execution": {"device_batch_size": value}}).execution.device_batch_size == expected


@pytest.mark.parametrize("value", ["fast", "", 0, "-1", True, 2.5, None])
def test_anything_else_is_refused_in_one_line(value):
    with pytest.raises(ConfigError) as error:
        load_config({"execution": {"device_batch_size": value}})
    message = str(error.value)
    assert f"device_batch_size = {value!r}: expected auto, or a number of rows from 1 on" in message
    assert "\n" not in message
    assert message.count("expected") == 1


def test_auto_is_the_default():
    settings = load_config({}).execution
    assert (settings.device_batch_size, settings.activation_checkpointing) == ("auto", "auto")


@pytest.mark.parametrize("value", ["0", "many"])
def test_the_command_line_refuses_it_alike(value):
    command = [sys.executable, "-m", "workflow_scripts.chat_eval", "--stage", "sft", "--out", "a", "--model", "b"]
    done = subprocess.run(
        [*command, "--data", "c", "--device-batch-size", value], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    expected = f"device_batch_size = '{value}': expected auto, or a number of rows from 1 on"
    assert done.stderr.strip().splitlines()[-1].endswith(expected)
