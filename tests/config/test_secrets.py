"""Secrets come from the configuration or the environment, and are shown nowhere."""

import pytest

from nanochat.config import ChatSettings
from nanochat.config.secrets import Given, with_secrets
from nanochat.errors import ConfigError


def test_the_environment_fills_in_what_the_configuration_lacks():
    environment = {"NANOCHAT_PASSWORD": "from-outside", "NANOCHAT_API_KEY": "key-from-outside", "PASSWORD": "no"}
    settings = with_secrets(ChatSettings(password="mine"), environment)
    assert (settings.password, settings.api_key) == ("mine", "key-from-outside")
    assert with_secrets(ChatSettings(), {}) == ChatSettings()


def test_an_empty_variable_is_no_open_door():
    with pytest.raises(ConfigError, match=r"NANOCHAT_PASSWORD is set but empty"):
        with_secrets(ChatSettings(), {"NANOCHAT_PASSWORD": ""})


def test_secrets_leave_the_command_line():
    arguments = ["snakemake", "chat_ui", "--config", "chat={password: Sesame-4711, port: 0}", "seed=4711"]
    given = Given.of(ChatSettings(password="Sesame-4711"), arguments)
    assert given.arguments == ["snakemake", "chat_ui", "--config", "chat={password: ***, port: 0}", "seed=4711"]
    assert given.environment == {"NANOCHAT_PASSWORD": "Sesame-4711"}
    assert len(given.told) == 1 and "NANOCHAT_PASSWORD" in given.told[0]
    assert "Sesame-4711" not in given.told[0]


def test_secrets_of_a_file_are_passed_on_without_a_word():
    given = Given.of(ChatSettings(api_key="k-123"), ["snakemake", "serve", "--configfile", "mine.yaml"])
    assert given == Given({"NANOCHAT_API_KEY": "k-123"}, ["snakemake", "serve", "--configfile", "mine.yaml"], [])


def test_a_secret_that_is_a_word_of_the_command_line_changes_nothing_else():
    given = Given.of(ChatSettings(password="report"), ["snakemake", "report", "--config", "chat={password: report}"])
    assert given.arguments == ["snakemake", "report", "--config", "chat={password: ***}"]
