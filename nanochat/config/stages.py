"""Stage views: exactly the settings that change a stage's artifact, as `key=value` pairs for Snakemake's params.

Snakemake reruns a job when its params change and shows the params that differ. One pair per key makes that
reason name the key; a stage that does not list a section cannot be rerun by it, and cannot read it either.
"""

import json
import shlex
from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from nanochat.config.base import Settings
from nanochat.config.data import TokenizerSettings, WorldSettings
from nanochat.config.evaluation import BaseEvalSettings, ChatEvalSettings, ReportSettings
from nanochat.config.run import RunConfig
from nanochat.config.training import BaseSettings, MidSettings, ModelSettings, RlSettings, SftSettings
from nanochat.errors import ConfigError


class WorldStage(Settings):
    """What the embedded world is made from."""

    world: WorldSettings = WorldSettings()


class TokenizerStage(Settings):
    """What the tokenizer is trained with; the shards are inputs."""

    tokenizer: TokenizerSettings = TokenizerSettings()


class EmptyStage(Settings):
    """A stage that is fixed by its inputs alone."""


class BaseStage(Settings):
    """What pretraining depends on besides tokens and tokenizer."""

    seed: int = 42
    depth: int = 4
    model: ModelSettings = ModelSettings()
    base: BaseSettings = BaseSettings()


class BaseEvalStage(Settings):
    """How the base model is evaluated."""

    base_eval: BaseEvalSettings = BaseEvalSettings()


class MidStage(Settings):
    """What midtraining depends on besides the base model and the task files."""

    seed: int = 42
    mid: MidSettings = MidSettings()


class SftStage(Settings):
    """What SFT depends on besides the midtrained model and the task files."""

    seed: int = 42
    sft: SftSettings = SftSettings()


class RlStage(Settings):
    """What RL depends on besides the SFT model and the task files."""

    seed: int = 42
    rl: RlSettings = RlSettings()


class ChatEvalStage(Settings):
    """How a chat model is evaluated."""

    chat_eval: ChatEvalSettings = ChatEvalSettings()


class ReportStage(Settings):
    """How the report is written."""

    report: ReportSettings = ReportSettings()


STAGES: dict[str, type[Settings]] = {
    "world": WorldStage,
    "tokenizer": TokenizerStage,
    "tokenizer_eval": EmptyStage,
    "tokens": EmptyStage,
    "base": BaseStage,
    "base_eval": BaseEvalStage,
    "mid": MidStage,
    "sft": SftStage,
    "rl": RlStage,
    "chat_eval": ChatEvalStage,
    "report": ReportStage,
}


def _flatten(prefix: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        return [pair for key, inner in value.items() for pair in _flatten(f"{prefix}.{key}" if prefix else key, inner)]
    return [(prefix, value)]


def pairs_of(config: RunConfig, stage: str) -> list[str]:
    """The settings that change the artifact of `stage`, as sorted `section.key=json` strings."""
    sections = STAGES[stage].model_fields
    values = config.model_dump(mode="json", include=set(sections))
    if not values:
        return []
    return sorted(f"{key}={json.dumps(value)}" for key, value in _flatten("", values))


def parse_pairs(stage: str, pairs: Iterable[str]) -> Any:
    """The stage view that `pairs_of` described; unquoted strings are accepted where typed by hand.

    Raises:
        ConfigError: for a pair without `=`, an unknown key or a wrong value.
    """
    values: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise ConfigError(f"setting {shlex.quote(pair)}: expected section.key=value")
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = text
        *parents, last = key.split(".")
        place = values
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    try:
        return STAGES[stage].model_validate(values)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise ConfigError(f"setting {where} of stage {stage}: {problem['msg']}") from None
