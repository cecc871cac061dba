"""The whole configuration of a run: one object, validated before anything happens, errors in one clear line."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, get_args, get_origin

import yaml
from pydantic import Field, ValidationError, model_validator

from nanochat.config.base import Settings
from nanochat.config.catalogue import load_catalogue
from nanochat.config.chat import ChatSettings
from nanochat.config.data import DataSettings, TokenizerSettings, WorldSettings
from nanochat.config.evaluation import (
    BaseEvalSettings,
    ChatEvalSettings,
    CompareSettings,
    ExecutionSettings,
    ReportSettings,
    WandbSettings,
)
from nanochat.config.export import ExportSettings
from nanochat.config.own import OWN, PERSONA, OwnSettings
from nanochat.config.training import BaseSettings, MidSettings, ModelSettings, RlSettings, SftSettings
from nanochat.errors import ConfigError


class RunConfig(Settings):
    """Everything one run of the DAG is made from."""

    run: str = Field(default="d{depth}", pattern=r"^[A-Za-z0-9_.{}-]+$")
    """Name of the run and of its folder below results/; `{depth}` is replaced."""
    seed: int = Field(default=42, ge=0)
    """Seed of initialisation, data order and sampling."""
    depth: int = Field(default=4, ge=1, le=64)
    """The dial: layers of the model, from which width, heads, horizon, batch and learning rates follow."""
    data: DataSettings = DataSettings()
    world: WorldSettings = WorldSettings()
    own: OwnSettings = OwnSettings()
    tokenizer: TokenizerSettings = TokenizerSettings()
    model: ModelSettings = ModelSettings()
    base: BaseSettings = BaseSettings()
    base_eval: BaseEvalSettings = BaseEvalSettings()
    mid: MidSettings = MidSettings()
    sft: SftSettings = SftSettings()
    rl: RlSettings = RlSettings()
    chat_eval: ChatEvalSettings = ChatEvalSettings()
    compare: CompareSettings = CompareSettings()
    report: ReportSettings = ReportSettings()
    chat: ChatSettings = ChatSettings()
    export: ExportSettings = ExportSettings()
    wandb: WandbSettings = WandbSettings()
    execution: ExecutionSettings = ExecutionSettings()

    @property
    def name(self) -> str:
        """The run's name with `{depth}` filled in."""
        return self.run.replace("{depth}", str(self.depth))

    @property
    def chat_stages(self) -> tuple[str, ...]:
        """The chat stages of this run, in order."""
        return ("mid", "sft", "rl") if self.rl.enabled else ("mid", "sft")

    @model_validator(mode="after")
    def _combinations_are_possible(self) -> Self:
        catalogue = load_catalogue()
        for name in self.data.shares:
            if name == OWN:
                if not self.own.text.files:
                    raise ValueError("data: the corpus own has no text; name files or folders in own.text.files")
                continue
            corpus = catalogue.corpus(name, f"data.mixture.{name}" if self.data.mixture else "data.corpus")
            if self.data.source == "world" and corpus.shards is not None:
                raise ValueError(
                    f"data: {name} is not in the embedded world; set data.source to hub, a mirror or a folder"
                )
        for name in self.own.tasks:
            if name in catalogue.tasks:
                raise ValueError(f"own.conversations.{name}: the catalogue has a task of this name; choose another one")
        catalogue = catalogue.model_copy(update={"tasks": self.own.tasks | catalogue.tasks})
        for section in ("mid", "sft"):
            for task in getattr(self, section).mixture:
                if task in self.own.tasks:
                    continue
                if task == PERSONA:
                    raise ValueError(
                        f"{section}.mixture.{PERSONA}: there is no persona; name its file in own.persona.file"
                    )
                if not catalogue.task(task, f"{section}.mixture").train:
                    raise ValueError(f"{section}.mixture.{task}: this task has no training split")
        for task, how in self.chat_eval.tasks.items():
            metric = catalogue.task(task, "chat_eval.tasks").metric
            if metric is None:
                raise ValueError(f"chat_eval.tasks.{task}: this task's answers cannot be checked")
            if metric == "choice" and how.samples > 1:
                raise ValueError(
                    f"chat_eval.tasks.{task}.samples = {how.samples}: this task is answered by the likeliest letter, "
                    "of which there is one; leave samples at 1"
                )
        if self.rl.enabled:
            entry = catalogue.task(self.rl.task, "rl.task")
            if entry.metric != "generate" or not entry.train:
                raise ValueError(
                    f"rl.task = {self.rl.task}: needs generated answers that can be checked, and a training split"
                )
        if self.export.stage == "rl" and not self.rl.enabled:
            raise ValueError("export.stage = rl: this run has no such stage; set rl.enabled to true, or choose another")
        for section in ("base", "mid", "sft"):
            batch = getattr(self, section).total_batch_size
            if batch is not None and batch % self.model.sequence_length:
                nearest = max(1, round(batch / self.model.sequence_length)) * self.model.sequence_length
                raise ValueError(
                    f"{section}.total_batch_size = {batch} is not a multiple of model.sequence_length = "
                    f"{self.model.sequence_length}; the nearest valid value is {nearest}"
                )
        if self.model.kv_heads is not None:
            width = -(-self.depth * self.model.aspect_ratio // self.model.head_dim) * self.model.head_dim
            heads = width // self.model.head_dim
            if heads % self.model.kv_heads:
                raise ValueError(
                    f"model.kv_heads = {self.model.kv_heads} does not divide the {heads} heads of depth {self.depth}"
                )
        return self


def _nearest(location: tuple[str | int, ...]) -> str:
    """The valid key closest to the one at `location`, as a hint, or the list of valid ones."""
    model: Any = RunConfig
    for part in location[:-1]:
        if get_origin(model) is dict:
            model = get_args(model)[1]
        elif part in getattr(model, "model_fields", {}):
            model = model.model_fields[part].annotation
        else:
            return ""
    valid = list(getattr(model, "model_fields", {}))
    close = difflib.get_close_matches(str(location[-1]), valid, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {'.'.join([*map(str, location[:-1]), close[0]])}?"
    return f"; valid keys here: {', '.join(valid)}" if valid else ""


def _one_line(error: ValidationError) -> str:
    """All problems of a pydantic error, one clear sentence each."""
    lines = []
    for problem in error.errors():
        where = ".".join(map(str, problem["loc"]))
        if problem["type"] == "extra_forbidden":
            lines.append(f"unknown key {where}{_nearest(problem['loc'])}")
        elif problem["type"] == "value_error":
            lines.append(f"{where + ': ' if where else ''}{problem['ctx']['error']}")
        else:
            lines.append(f"{where} = {problem['input']!r}: {problem['msg'][0].lower()}{problem['msg'][1:]}")
    return "; ".join(dict.fromkeys(lines))


def load_config(values: Mapping[str, Any]) -> RunConfig:
    """Validate a configuration mapping, as Snakemake hands it over.

    Raises:
        ConfigError: in one line, naming each wrong key, its value and the nearest valid one.
    """
    try:
        return RunConfig.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError(f"config: {_one_line(error)}") from None


def merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Merge configuration mappings, later ones winning key by key at every depth."""
    merged: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
                merged[key] = merge(merged[key], value)
            else:
                merged[key] = value
    return merged


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        ConfigError: if the file is missing, is not YAML or not a mapping.
    """
    try:
        values = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(f"config file {path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"config file {path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"config file {path}: expected keys and values, found {type(values).__name__}")
    return values
