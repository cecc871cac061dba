"""Typed settings: the only home of defaults and of their documentation. Never imports torch."""

from nanochat.config.base import Settings
from nanochat.config.catalogue import Catalogue, Corpus, TaskEntry, load_catalogue
from nanochat.config.chat import SECRETS, ChatSettings
from nanochat.config.comparison import Comparison, Side
from nanochat.config.data import CorpusShare, DataSettings, TokenizerSettings, WorldSettings
from nanochat.config.evaluation import (
    BaseEvalSettings,
    ChatEvalSettings,
    ChatTaskSettings,
    CompareSettings,
    ExecutionSettings,
    ReportSettings,
    WandbSettings,
    parse_device_batch_size,
)
from nanochat.config.export import ExportSettings
from nanochat.config.layout import Layout
from nanochat.config.own import OWN, PERSONA, OwnSettings, OwnTextSettings, PersonaSettings, task_entry
from nanochat.config.run import RunConfig, load_config, merge, read_yaml
from nanochat.config.stages import STAGES, pairs_of, parse_pairs
from nanochat.config.training import (
    BaseSettings,
    FinetuneSettings,
    MidSettings,
    MixtureSettings,
    ModelSettings,
    OptimizationSettings,
    RlSettings,
    SftSettings,
    TrainingSettings,
)

__all__ = [
    "OWN",
    "PERSONA",
    "SECRETS",
    "STAGES",
    "BaseEvalSettings",
    "BaseSettings",
    "Catalogue",
    "ChatEvalSettings",
    "ChatSettings",
    "ChatTaskSettings",
    "CompareSettings",
    "Comparison",
    "Corpus",
    "CorpusShare",
    "DataSettings",
    "ExecutionSettings",
    "ExportSettings",
    "FinetuneSettings",
    "Layout",
    "MidSettings",
    "MixtureSettings",
    "ModelSettings",
    "OptimizationSettings",
    "OwnSettings",
    "OwnTextSettings",
    "PersonaSettings",
    "ReportSettings",
    "RlSettings",
    "RunConfig",
    "Settings",
    "SftSettings",
    "Side",
    "TaskEntry",
    "TokenizerSettings",
    "TrainingSettings",
    "WandbSettings",
    "WorldSettings",
    "load_catalogue",
    "load_config",
    "merge",
    "pairs_of",
    "parse_device_batch_size",
    "parse_pairs",
    "read_yaml",
    "task_entry",
]
