"""What a benchmark trains: a model of the dial and its batch. Loads without torch."""

import argparse
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from nanochat.config import BaseSettings, ModelSettings
from nanochat.model.config import GPTConfig
from nanochat.model.scaling import Plan, base_plan, model_config


@dataclass(frozen=True)
class Shape:
    """A model of the dial and its batch; the defaults are the reference shape of docs/benchmarks.md.

    Attributes:
        total_batch_size: tokens per optimizer step.
        device_batch_size: rows per forward pass.
    """

    depth: int = 4
    head_dim: int = 64
    vocab_size: int = 4096
    sequence_length: int = 512
    window_pattern: str = "L"
    precision: str = "bfloat16"
    total_batch_size: int = 16_384
    device_batch_size: int = 16

    @classmethod
    def command_line(cls, description: str | None, *, steps: int, repeats: int) -> argparse.ArgumentParser:
        """What the benchmarks of training ask for: one option per field, and how often and how it is run."""
        parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
        for field in fields(cls):
            parser.add_argument(
                f"--{field.name.replace('_', '-')}",
                type=type(field.default),
                default=field.default,
                help="default: %(default)s",
            )
        parser.add_argument("--steps", type=int, default=steps, help="optimizer steps of a turn (default: %(default)s)")
        parser.add_argument("--repeats", type=int, default=repeats, help="turns of each (default: %(default)s)")
        parser.add_argument(
            "--compile", choices=("auto", "always", "never"), default="auto", help="as execution.compile"
        )
        return parser

    @classmethod
    def of_arguments(cls, arguments: argparse.Namespace) -> Self:
        """The shape that a command line asks for."""
        return cls(**{field.name: getattr(arguments, field.name) for field in fields(cls)})

    @property
    def rows_per_step(self) -> int:
        """Rows of one optimizer step."""
        return self.total_batch_size // self.sequence_length

    @property
    def config(self) -> GPTConfig:
        """Of the model, in its modern form."""
        return model_config(self.depth, self._settings, self.vocab_size)

    @property
    def plan(self) -> Plan:
        """The pretraining run of the dial at this shape."""
        base = BaseSettings(total_batch_size=self.rows_per_step * self.sequence_length)
        return base_plan(self.depth, self._settings, base, self.vocab_size)

    @property
    def _settings(self) -> ModelSettings:
        return ModelSettings(
            sequence_length=self.sequence_length,
            head_dim=self.head_dim,
            window_pattern=self.window_pattern,
            precision=self.precision,
        )

    def to_dict(self) -> dict[str, Any]:
        """For the last line of a benchmark."""
        return asdict(self)
