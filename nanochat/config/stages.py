"""Stage views: exactly the settings that change a stage's artifact, as `key=value` pairs for Snakemake's params.

Snakemake reruns a job when its params change and shows the params that differ. One pair per key makes that
reason name the key; a stage that does not list a section cannot be rerun by it, and cannot read it either.
"""

import json
import shlex
from collections.abc import Iterable
from typing import Any, Literal

from pydantic import Field, ValidationError

from nanochat.config.base import Settings
from nanochat.config.data import CorpusShare, TokenizerSettings, WorldSettings
from nanochat.config.evaluation import BaseEvalSettings, ChatEvalSettings, CompareSettings, ReportSettings
from nanochat.config.run import RunConfig
from nanochat.config.training import BaseSettings, MidSettings, ModelSettings, RlSettings, SftSettings
from nanochat.errors import ConfigError


class WorldStage(Settings):
    """What the embedded world is made from."""

    world: WorldSettings = WorldSettings()


class OwnTextView(Settings):
    """Of `own.text`, all but where the files lie."""

    column: str = "text"
    document_chars: int = 100_000
    val_fraction: float = 0.02
    shards: int = 1


class OwnTextSection(Settings):
    """Of `own`, what the shards of the user's own text are made from."""

    text: OwnTextView = OwnTextView()
    on_damage: Literal["stop", "skip"] = "stop"


class OwnTextStage(Settings):
    """How the user's own text becomes shards; the files are inputs."""

    own: OwnTextSection = OwnTextSection()


class OwnConversationsSection(Settings):
    """Of `own`, what decides about conversations that don't follow the schema."""

    on_damage: Literal["stop", "skip"] = "stop"


class OwnConversationsStage(Settings):
    """How the user's own conversations are checked; the files are inputs."""

    own: OwnConversationsSection = OwnConversationsSection()


class PersonaView(Settings):
    """Of `own.persona`, all but where the file lies."""

    conversations: int = 2000


class PersonaSection(Settings):
    """Of `own`, the persona."""

    persona: PersonaView = PersonaView()


class PersonaStage(Settings):
    """How a persona is expanded; its file is an input."""

    seed: int = 42
    own: PersonaSection = PersonaSection()


class TokenizerStage(Settings):
    """What the tokenizer is trained with; the shards are inputs."""

    tokenizer: TokenizerSettings = TokenizerSettings()


class EmptyStage(Settings):
    """A stage that is fixed by its inputs alone."""


class DataView(Settings):
    """Of `data`, how corpora are mixed."""

    mixture: dict[str, CorpusShare] = Field(default={})


class BaseStage(Settings):
    """What pretraining depends on besides tokens and tokenizer."""

    seed: int = 42
    depth: int = 4
    data: DataView = DataView()
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


class CompareStage(Settings):
    """What two checkpoints are compared by."""

    compare: CompareSettings = CompareSettings()


class ReportStage(Settings):
    """How the report is written."""

    report: ReportSettings = ReportSettings()


class ExportView(Settings):
    """Of `export`, all but which checkpoint."""

    dtype: Literal["float32", "bfloat16"] = "float32"
    name: str | None = None


class GenerationView(Settings):
    """Of `chat`, how an exported model samples unless told otherwise."""

    temperature: float = 0.8
    top_k: int | None = 50
    max_new_tokens: int = 256


class ExportStage(Settings):
    """How a checkpoint is written for transformers."""

    export: ExportView = ExportView()
    chat: GenerationView = GenerationView()


STAGES: dict[str, type[Settings]] = {
    "world": WorldStage,
    "own_text": OwnTextStage,
    "own_conversations": OwnConversationsStage,
    "persona": PersonaStage,
    "tokenizer": TokenizerStage,
    "tokenizer_eval": EmptyStage,
    "tokens": EmptyStage,
    "base": BaseStage,
    "base_eval": BaseEvalStage,
    "mid": MidStage,
    "sft": SftStage,
    "rl": RlStage,
    "chat_eval": ChatEvalStage,
    "compare": CompareStage,
    "report": ReportStage,
    "export": ExportStage,
}


def _flatten(prefix: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        return [pair for key, inner in value.items() for pair in _flatten(f"{prefix}.{key}" if prefix else key, inner)]
    return [(prefix, value)]


def _fields_of(view: type[Settings]) -> dict[str, Any]:
    """Fields of a view, nested ones one by one, as pydantic's `include` wants them."""
    nested = {name: field.annotation for name, field in view.model_fields.items()}
    return {
        name: _fields_of(kind) if isinstance(kind, type) and issubclass(kind, Settings) else True
        for name, kind in nested.items()
    }


def pairs_of(config: RunConfig, stage: str) -> list[str]:
    """The settings that change the artifact of `stage`, as sorted `section.key=json` strings."""
    values = config.model_dump(mode="json", include=_fields_of(STAGES[stage]))
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
