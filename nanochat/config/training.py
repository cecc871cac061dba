"""Settings of the model and of the training stages. `None` means: the depth dial decides (model/scaling.py)."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from nanochat.config.base import Named, Settings


class ModelSettings(Settings):
    """The shape that depth does not fix by itself."""

    arch: Literal["classic", "modern"] = "modern"
    """`classic`: nanochat of October 2025, exports to transformers; `modern`: value embeddings, windows, smear."""
    sequence_length: int = Field(default=2048, ge=16, multiple_of=16)
    """Tokens in a training row, and the context of the model."""
    aspect_ratio: int = Field(default=64, ge=8)
    """Width per layer: width = depth × aspect_ratio, rounded up to a multiple of head_dim."""
    head_dim: int = Field(default=128, ge=16, multiple_of=8)
    """Dimension of one attention head."""
    kv_heads: int | None = Field(default=None, ge=1)
    """Key/value heads (grouped-query attention); none means as many as query heads."""
    window_pattern: str = Field(default="SSSL", pattern="^[SL]+$")
    """Attention windows per layer, repeated; S = a quarter of the context, L = all; the last layer is always L.
    The classic form ignores it."""
    precision: Literal["auto", "float32", "bfloat16", "fp8"] = "auto"
    """Compute type; `auto` is bfloat16 where the hardware multiplies it (GPUs from Ampere on, CPUs with AVX512-BF16 or
    AMX) and float32 elsewhere; `fp8` computes the products of the blocks in 8 bits (Hopper, Blackwell) and the rest in
    bfloat16; its scales are taken over a micro-batch, so that here, and only here, the result depends on the device
    batch size beyond rounding. `float32` on GPUs is TF32 in products. Master weights and optimizer state are always
    float32."""


class OptimizationSettings(Settings):
    """What all training stages share: horizon, learning rates, schedule."""

    steps: int | None = Field(default=None, ge=1)
    """Optimizer steps; overrides the other horizons."""
    matrix_lr: float | None = Field(default=None, gt=0)
    """Muon's learning rate, for the matrices of the blocks."""
    embedding_lr: float | None = Field(default=None, gt=0)
    """AdamW's learning rate for token and value embeddings."""
    head_lr: float | None = Field(default=None, gt=0)
    """AdamW's learning rate for the output head."""
    scalar_lr: float | None = Field(default=None, gt=0)
    """AdamW's learning rate for per-layer scalars and gates."""
    weight_decay: float | None = Field(default=None, ge=0)
    """Decoupled, cautious weight decay on the matrices."""
    warmup_ratio: float = Field(default=0.0, ge=0, le=1)
    """Share of the steps over which the learning rates rise from zero."""
    warmdown_ratio: float = Field(default=0.5, ge=0, le=1)
    """Share of the steps, at the end, over which they fall linearly."""
    final_lr_ratio: float = Field(default=0.0, ge=0, le=1)
    """Learning rates at the last step, as a share of their peak."""
    grad_clip: float | None = Field(default=None, gt=0)
    """Largest global gradient norm; none leaves gradients alone (Muon normalises by itself)."""
    eval_every: int | None = Field(default=250, ge=1)
    """Steps between validation losses; none evaluates only at the end."""

    @model_validator(mode="after")
    def _ramps_fit(self) -> Self:
        if self.warmup_ratio + self.warmdown_ratio > 1:
            raise ValueError(
                f"warmup_ratio + warmdown_ratio = {self.warmup_ratio + self.warmdown_ratio:g} is more than the "
                "whole run (1.0); lower one of them"
            )
        return self


class TrainingSettings(OptimizationSettings):
    """What pretraining, midtraining and SFT share: one loop, different data."""

    total_batch_size: int | None = Field(default=None, ge=16)
    """Tokens per optimizer step over all ranks and micro-batches; a multiple of the sequence length."""
    eval_tokens: int = Field(default=10_485_760, ge=1024)
    """Validation tokens per evaluation, at most."""


class BaseSettings(TrainingSettings):
    """Pretraining."""

    sample_prompts: tuple[str, ...] = ()
    """Prompts continued greedily after the stage, kept in samples.md; none takes the corpus's own."""

    tokens_per_param: float | None = Field(default=None, gt=0)
    """Horizon in training tokens per parameter; none is 10.5 per matrix and head parameter (modern), 20 per parameter
    (classic)."""
    warmdown_ratio: float = Field(default=0.65, ge=0, le=1)
    """Share of the steps, at the end, over which the learning rates fall linearly."""
    final_lr_ratio: float = Field(default=0.05, ge=0, le=1)
    """Learning rates at the last step, as a share of their peak."""


class MixtureSettings(Settings):
    """One task of a mixture."""

    epochs: float = Field(default=1.0, gt=0)
    """How often the task's items are seen; 2 doubles them, 0.5 takes a seeded half. With weights: how often at most."""
    weight: float | None = Field(default=None, gt=0)
    """Share of the mixture's tokens against the other weights; all tasks have one, or none has. The mixture is as large
    as it can be with these shares and no task seen more often than its `epochs`."""
    max_items: int | None = Field(default=None, ge=1)
    """Items taken at most, before epochs."""


class FinetuneSettings(TrainingSettings):
    """Midtraining and SFT: conversations of a task mixture."""

    mixture: Named[MixtureSettings] = Field(default={})
    """Task name (of the catalogue, of `own.conversations`, or `persona`) → how much of it; `name: null` takes
    a task out that a configuration file merged before has put in."""
    epochs: float = Field(default=1.0, gt=0)
    """Passes over the mixture; ignored where `steps` is set."""
    lr_scale: float = Field(default=1.0, gt=0)
    """Learning rates as a multiple of the pretraining ones, where not set one by one."""
    train_on: Literal["assistant", "everything"] = "assistant"
    """Which tokens are learned: what the assistant itself would produce, or all but padding."""
    keep_optimizer: bool = True
    """Start from the optimizer state of the stage before instead of zeros."""
    val_fraction: float = Field(default=0.02, gt=0, lt=0.5)
    """Share of each task's training items, chosen by hash, held out for the validation loss."""

    @field_validator("mixture")
    @classmethod
    def _all_or_none_have_weights(cls, mixture: dict[str, MixtureSettings]) -> dict[str, MixtureSettings]:
        without = [name for name, entry in mixture.items() if entry.weight is None]
        if without and len(without) < len(mixture):
            names = ", ".join(without)
            raise ValueError(f"{names} has no weight, the others have; give a weight to all tasks or to none")
        return mixture


class MidSettings(FinetuneSettings):
    """Midtraining: the chat format, tool use and abilities, on all tokens."""

    train_on: Literal["assistant", "everything"] = "everything"
    """Which tokens are learned: what the assistant itself would produce, or all but padding."""
    warmdown_ratio: float = Field(default=0.2, ge=0, le=1)
    """Share of the steps, at the end, over which the learning rates fall linearly."""


class SftSettings(FinetuneSettings):
    """Supervised fine-tuning on conversations."""


class RlSettings(OptimizationSettings):
    """Reinforcement learning with verifiable rewards (GRPO-style, on-policy)."""

    enabled: bool = True
    """Whether the stage is part of the DAG at all."""
    task: str = "gsm8k"
    """A task of the catalogue whose answers can be checked."""
    steps: int | None = Field(default=None, ge=1)
    """Optimizer steps; none is one pass over the task."""
    prompts_per_step: int = Field(default=16, ge=1)
    """Different problems per step."""
    samples_per_prompt: int = Field(default=16, ge=2)
    """Answers sampled for each problem; their mean reward is the baseline."""
    max_new_tokens: int = Field(default=256, ge=8)
    """Length at which an answer is cut off and counts as wrong."""
    temperature: float = Field(default=1.0, gt=0)
    """Sampling temperature of the rollouts; 1.0 keeps them on-policy."""
    lr_scale: float = Field(default=0.05, gt=0)
    """Learning rates as a multiple of the pretraining ones, where not set one by one."""
    normalize_std: bool = False
    """Divide advantages by the group's standard deviation (GRPO); off is Dr. GRPO, arXiv 2503.20783."""
    drop_uniform_groups: bool = True
    """Leave out groups that are all right or all wrong: they carry no gradient (DAPO, arXiv 2503.14476)."""
    warmdown_ratio: float = Field(default=1.0, ge=0, le=1)
    """Share of the steps, at the end, over which the learning rates fall linearly."""
    eval_items: int = Field(default=200, ge=1)
    """Validation problems (held out of the training split by hash) for pass@1 during training."""
    val_fraction: float = Field(default=0.02, gt=0, lt=0.5)
    """Share of the training problems, chosen by hash, held out for it. Equal to the one of mid and sft, whose models
    have then seen none of them."""
