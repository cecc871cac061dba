"""Settings of evaluation, report and chat."""

import os
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from nanochat.config.base import Named, Settings


class BaseEvalSettings(Settings):
    """Bits per byte and the CORE-format tasks of the evaluation bundle."""

    max_items: int | None = Field(default=None, ge=1)
    """Items per task at most; none takes all. Few-shot examples always come from the whole task."""
    tasks: tuple[str, ...] = ()
    """Task labels of the bundle to run; empty runs all there are."""
    bpb_tokens: int = Field(default=10_485_760, ge=1024)
    """Tokens of training and of validation text for bits per byte, at most."""


class ChatTaskSettings(Settings):
    """How one chat task is evaluated."""

    max_items: int | None = Field(default=None, ge=1)
    """Items at most; none takes all."""
    max_new_tokens: int = Field(default=256, ge=1)
    """Length at which a generated answer is cut off."""
    samples: int = Field(default=1, ge=1, le=1024)
    """Answers generated for each item; from 2 on the score is the mean share of right ones (pass@1), with pass@k beside
    it, and needs a temperature."""
    temperature: float | None = Field(default=None, ge=0)
    """Sampling temperature of this task; none takes the section's."""
    top_k: int | None = Field(default=None, ge=1)
    """Sample from the k most likely tokens only; none from all."""
    top_p: float | None = Field(default=None, gt=0, le=1)
    """Sample from the most likely tokens that together hold this probability; none from all."""


class ChatEvalSettings(Settings):
    """Chat tasks every chat stage is evaluated on."""

    tasks: Named[ChatTaskSettings] = Field(default={})
    """Task name (of the catalogue) → how."""
    temperature: float = Field(default=0.0, ge=0)
    """0 is greedy, the setting of published scores."""
    seed: int = 0
    """Seed of sampling, where the temperature is not 0."""

    @model_validator(mode="after")
    def _samples_differ(self) -> Self:
        for name, task in self.tasks.items():
            if task.samples > 1 and not self.temperature_of(name):
                raise ValueError(
                    f"chat_eval.tasks.{name}: samples = {task.samples} at temperature 0 would be the same answer each "
                    "time; set its temperature, such as 0.8, or leave samples at 1"
                )
        return self

    def temperature_of(self, task: str) -> float:
        """Sampling temperature of one of the tasks."""
        own = self.tasks[task].temperature
        return self.temperature if own is None else own


class CompareSettings(Settings):
    """What `snakemake compare` compares: two checkpoints, on the items both were evaluated on."""

    first: str | None = None
    """Checkpoint directory, such as results/a/sft; its evaluation is looked for in results/a/eval/sft."""
    second: str | None = None
    """The other one; differences are the second one's score minus the first one's."""
    resamples: int = Field(default=10_000, ge=100)
    """Resamples of the paired bootstrap."""
    seed: int = 0
    """Seed of the resampling."""

    @model_validator(mode="after")
    def _are_two(self) -> Self:
        if (self.first is None) != (self.second is None):
            given = "first" if self.second is None else "second"
            other = "second" if self.second is None else "first"
            raise ValueError(
                f"compare.{other} is not set; compare.{given} is compared with another checkpoint directory"
            )
        if self.first and self.second and os.path.normpath(self.first) == os.path.normpath(self.second):
            raise ValueError(f"compare.first and compare.second are both {self.first}; name two checkpoint directories")
        return self


class ReportSettings(Settings):
    """The report."""

    title: str = "A chat model of my own"
    """Heading of report.md."""


class WandbSettings(Settings):
    """Weights & Biases; nothing here triggers a rerun, metrics.jsonl is always written."""

    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    """`auto`: online where WANDB_API_KEY is set, else offline."""
    project: str = "nanochat"
    """Project the runs are filed under."""


def parse_device_batch_size(value: object) -> int | Literal["auto"]:
    """Rows of a micro-batch: a whole number from 1 on, also as text, or `auto`.

    Raises:
        ValueError: in one line that names the value.
    """
    if value == "auto":
        return "auto"
    number = int(value) if isinstance(value, str) and value.strip().isdecimal() else value
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise ValueError(f"device_batch_size = {value!r}: expected auto, or a number of rows from 1 on")
    return number


class ExecutionSettings(Settings):
    """How training runs on this machine; nothing here changes the artifact or triggers a rerun."""

    checkpoint_steps: int | None = Field(default=None, ge=1)
    """Steps between step checkpoints; none leaves it to the clock."""
    checkpoint_minutes: float = Field(default=10.0, gt=0)
    """Minutes between step checkpoints."""
    keep_checkpoints: int = Field(default=2, ge=1)
    """Step checkpoints kept per stage."""
    device_batch_size: Annotated[int | Literal["auto"], BeforeValidator(parse_device_batch_size)] = "auto"
    """Rows per device and micro-batch, where a profile sets no `device_batch_size` resource. `auto`: the largest power
    of two that the model of memory says fits, with headroom (on a CPU 8,192 tokens at most, since more are no faster
    there); evaluations take 32, or what fits. Halved when memory runs out. The total batch, and so the result, stays.
    """
    activation_checkpointing: Literal["auto", "always", "never"] = "auto"
    """Whether blocks are computed again in the backward pass instead of keeping what they computed; the result stays
    up to rounding. `auto`: only where not a single row fits otherwise, or, on a GPU, fewer than four."""
    compile: Literal["auto", "always", "never"] = "auto"
    """Whether training is compiled; `auto` does it on GPUs only, since on CPUs it gains nothing."""
    conda: str = "envs/cpu.yaml"
    """Environment file that `snakemake --sdm conda` makes for the rules."""
