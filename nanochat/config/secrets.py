"""Secrets of a configuration: where they may stand, and how they reach the servers that ask for them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nanochat.config.chat import SECRETS, ChatSettings
from nanochat.errors import ConfigError


def variable(key: str) -> str:
    """The environment variable that holds a secret of `chat`."""
    return f"NANOCHAT_{key.upper()}"


def with_secrets(settings: ChatSettings, environment: Mapping[str, str]) -> ChatSettings:
    """Settings with those secrets that they lack taken from the environment.

    Raises:
        ConfigError: if such a variable is there, but empty: nobody means to serve without the password they set.
    """
    found = {}
    for key in SECRETS:
        name = variable(key)
        if getattr(settings, key) is None and name in environment:
            if not environment[name]:
                raise ConfigError(f"{name} is set but empty; expected the chat.{key}. Give it a value, or unset it")
            found[key] = environment[name]
    return settings.model_copy(update=found)


@dataclass(frozen=True)
class Given:
    """The secrets of a configuration, as a program passes them on and shows them.

    Attributes:
        environment: variables for the program that needs them.
        arguments: this program's command line without them.
        told: warnings, one for each that stood there.
    """

    environment: dict[str, str]
    arguments: list[str]
    told: list[str]

    @classmethod
    def of(cls, settings: ChatSettings, arguments: Sequence[str]) -> "Given":
        """Find them.

        Args:
            settings: the configuration's.
            arguments: of the command line that was given.
        """
        environment, shown, told = {}, list(arguments), []
        for key in SECRETS:
            secret = getattr(settings, key)
            if secret is None:
                continue
            environment[variable(key)] = secret
            if any(key in argument and secret in argument for argument in shown):
                shown = [argument.replace(secret, "***") if key in argument else argument for argument in shown]
                told.append(
                    f"chat.{key} stands on the command line, where everybody on this machine can read it; "
                    f"better set {variable(key)} in the environment"
                )
        return cls(environment, shown, told)
