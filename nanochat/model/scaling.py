"""The depth dial: from one integer to shape, horizon, batch size and learning rates. Loads without torch.

Where the rules come from: nanochat (Karpathy, 2025 and 2026) for the reference points and the exponent of the batch
size; Hoffmann et al. 2022 (arXiv 2203.15556) for a horizon proportional to the parameters; Power Lines (arXiv
2505.13738) for batch size as a power of the tokens and weight decay by the AdamW timescale; Malladi et al. 2022
(arXiv 2205.10782) for learning rates that go with the square root of the batch; µP (arXiv 2203.03466) for rates of
the embeddings and the head that fall with the width.
"""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from nanochat.config import BaseSettings, FinetuneSettings, ModelSettings, OptimizationSettings, RlSettings
from nanochat.model.config import GPTConfig

REFERENCE_BATCH = 524_288
"""Tokens per step the reference learning rates were tuned at (d12)."""
REFERENCE_WIDTH = 768
REFERENCE_VOCAB = 32_768
BATCH_EXPONENT = 0.383
SMALLEST_RATE_SCALE = 1.0
"""Floor of √(batch / reference batch). Small batches belong to short runs, where the square-root law is out of its
range: it would give a batch of 8,192 an eighth of the rates. Measured (d4, width 128, 120 steps of 8,192 tokens of
web text, validation bits per byte): half of the reference rates 2.186, the reference rates 2.130."""
SMALLEST_SCALAR_SCALE = 0.3
"""The same floor for the scalars of the modern form, lower because each of them is a factor of a whole stream: at full
rate they swing by half in a step and the loss with them. Measured (d2, 50 steps of 512 to 2,048 tokens, mean of the
last losses): 2.609, 3.268, 3.286 with 1.0; 2.412, 3.080, 3.132 with 0.3."""


@dataclass(frozen=True)
class _Reference:
    """Rates and horizon of one form of the model at d12 and a batch of 524,288 tokens."""

    tokens_per_param: float
    matrix_lr: float
    embedding_lr: float
    head_lr: float
    scalar_lr: float
    weight_decay: float
    momentum: float
    momentum_warmup: int


_REFERENCES = {
    "classic": _Reference(20.0, 0.02, 0.2, 0.004, 0.5, 0.0, 0.95, 300),
    "modern": _Reference(10.5, 0.02, 0.3, 0.008, 0.5, 0.28, 0.97, 400),
}


@dataclass(frozen=True)
class Plan:
    """What a training run will do: horizon, batch and every rate of the optimizer, peak values.

    `tokens` counts positions (steps × total_batch_size) and `flops` is their cost, forward and backward.
    """

    steps: int
    total_batch_size: int
    sequence_length: int
    tokens: int
    flops: float
    matrix_lr: float
    embedding_lr: float
    head_lr: float
    scalar_lr: float
    weight_decay: float
    warmup_steps: int
    warmdown_steps: int
    final_lr_ratio: float
    momentum: float
    momentum_start: float
    momentum_warmup_steps: int
    grad_clip: float | None = None

    @property
    def rows_per_step(self) -> int:
        """Rows of `sequence_length` positions in one step, over all ranks."""
        return self.total_batch_size // self.sequence_length

    def to_dict(self) -> dict[str, Any]:
        """For a manifest; `Plan.from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Read what `to_dict` wrote."""
        return cls(**values)


def model_config(depth: int, settings: ModelSettings, vocab_size: int) -> GPTConfig:
    """The shape at this depth: width = depth × aspect_ratio rounded up to whole heads."""
    heads = max(1, -(-depth * settings.aspect_ratio // settings.head_dim))
    classic = settings.arch == "classic"
    return GPTConfig(
        arch=settings.arch,
        depth=depth,
        width=heads * settings.head_dim,
        heads=heads,
        kv_heads=settings.kv_heads or heads,
        head_dim=settings.head_dim,
        vocab_size=vocab_size,
        sequence_length=settings.sequence_length,
        window_pattern="L" if classic else settings.window_pattern,
        rope_theta=10_000.0 if classic else 100_000.0,
        precision=settings.precision,
    )


def count_parameters(config: GPTConfig) -> dict[str, int]:
    """Parameters per component: `matrices, embedding, value_embeddings, head, scalars, total`."""
    attention_width = config.heads * config.head_dim
    kv_width = config.kv_heads * config.head_dim
    attention = config.width * (2 * attention_width + 2 * kv_width)
    layers = len(config.value_embedding_layers)
    counts = {
        "matrices": config.depth * (attention + 8 * config.width**2),
        "embedding": config.vocab_size * config.width,
        "value_embeddings": layers * config.vocab_size * kv_width,
        "head": config.vocab_size * config.width,
        "scalars": 0,
    }
    if config.arch == "modern":
        gates = layers * config.kv_heads * min(12, config.width) + min(24, config.width)
        counts["scalars"] = 2 * config.depth + 2 + gates
    return counts | {"total": sum(counts.values())}


def flops_per_token(config: GPTConfig) -> float:
    """Forward and backward FLOPs of one position: 6 per parameter of a product, 12 per attended key and channel.

    The causal half that a kernel may skip counts in full, as is the custom (PaLM, arXiv 2204.02311); windows count as
    long as they are.
    """
    counts = count_parameters(config)
    keys = sum(config.windows)
    return 6.0 * (counts["matrices"] + counts["head"]) + 12.0 * config.heads * config.head_dim * keys


def _scaling_parameters(config: GPTConfig) -> int:
    """Parameters the horizon is proportional to: matrices and head; for the classic form, all, as its recipe does."""
    counts = count_parameters(config)
    return counts["total"] if config.arch == "classic" else counts["matrices"] + counts["head"]


def _reference_tokens(settings: ModelSettings) -> float:
    """Training horizon of the d12 whose batch is the reference batch."""
    shape = ModelSettings(arch=settings.arch)
    return _REFERENCES[settings.arch].tokens_per_param * _scaling_parameters(model_config(12, shape, REFERENCE_VOCAB))


def _power_of_two(value: float) -> int:
    return 2 ** max(0, round(math.log2(max(1.0, value))))


def _ramps(settings: OptimizationSettings, steps: int) -> dict[str, Any]:
    return {
        "warmup_steps": round(settings.warmup_ratio * steps),
        "warmdown_steps": round(settings.warmdown_ratio * steps),
        "final_lr_ratio": settings.final_lr_ratio,
        "grad_clip": settings.grad_clip,
    }


def base_plan(depth: int, model: ModelSettings, base: BaseSettings, vocab_size: int) -> Plan:
    """The pretraining run that the dial sets, with what `base` overrides.

    Horizon: tokens_per_param × parameters. Batch: 524,288 × (horizon / d12's horizon)^0.383, rounded to a power of
    two; at most 524,288 for the classic form. Learning rates: × √(batch / 524,288) where that is more than 1, and,
    for embeddings and head, × √(768 / width).
    """
    config = model_config(depth, model, vocab_size)
    reference = _REFERENCES[config.arch]
    length = config.sequence_length
    horizon = (base.tokens_per_param or reference.tokens_per_param) * _scaling_parameters(config)
    reference_tokens = _reference_tokens(model)
    batch = base.total_batch_size
    if batch is None:
        batch = _power_of_two(REFERENCE_BATCH * (horizon / reference_tokens) ** BATCH_EXPONENT)
        if config.arch == "classic":
            batch = min(batch, REFERENCE_BATCH)
        batch = max(1, round(batch / length)) * length
    steps = base.steps or max(1, math.ceil(horizon / batch))
    tokens = steps * batch
    root = math.sqrt(batch / REFERENCE_BATCH)
    rate = max(SMALLEST_RATE_SCALE, root)
    wide = (config.width / REFERENCE_WIDTH) ** -0.5
    # Same share of the weights decayed over the run at every size; short runs keep to the reference's.
    decay = reference.weight_decay * min(1.0, root * reference_tokens / tokens)
    return Plan(
        steps=steps,
        total_batch_size=batch,
        sequence_length=length,
        tokens=tokens,
        flops=tokens * flops_per_token(config),
        matrix_lr=base.matrix_lr or reference.matrix_lr * rate,
        embedding_lr=base.embedding_lr or reference.embedding_lr * rate * wide,
        head_lr=base.head_lr or reference.head_lr * rate * wide,
        scalar_lr=base.scalar_lr or reference.scalar_lr * max(SMALLEST_SCALAR_SCALE, root),
        weight_decay=decay if base.weight_decay is None else base.weight_decay,
        momentum=reference.momentum,
        momentum_start=0.85,
        momentum_warmup_steps=reference.momentum_warmup,
        **_ramps(base, steps),
    )


def finetune_plan(
    base: Plan, settings: FinetuneSettings, rows_per_epoch: int, config: GPTConfig, seen_steps: int = 0
) -> Plan:
    """The plan of midtraining or SFT, from the one of pretraining.

    Batch: pretraining's, halved while an epoch would have fewer than 64 steps. Learning rates: pretraining's ×
    lr_scale × √(batch / pretraining's batch). No weight decay unless it is set.

    Args:
        base: plan of pretraining.
        settings: of the stage.
        rows_per_epoch: rows of the context's length in one pass over the data.
        config: of the model.
        seen_steps: optimizer steps the optimizer's state already holds; its momentum is then warm.
    """
    length = config.sequence_length
    batch = settings.total_batch_size
    if batch is None:
        batch = base.total_batch_size
        while batch > length and rows_per_epoch * length < 64 * batch:
            batch //= 2
    batch = max(1, batch // length) * length
    steps = settings.steps or max(1, math.ceil(settings.epochs * rows_per_epoch * length / batch))
    scale = settings.lr_scale * math.sqrt(batch / base.total_batch_size)
    return _derived(base, settings, steps, batch, scale, config, seen_steps)


def rl_plan(base: Plan, settings: RlSettings, problems: int, config: GPTConfig) -> Plan:
    """The plan of RL: one pass over the problems unless steps are set, pretraining's learning rates × lr_scale.

    Args:
        base: plan of pretraining.
        settings: of the stage.
        problems: training problems there are.
        config: of the model.

    Returns:
        A plan whose batch is the most positions a step can have; tokens and FLOPs are upper bounds of the updates.
    """
    length = config.sequence_length
    answers = settings.prompts_per_step * settings.samples_per_prompt
    steps = settings.steps or max(1, math.ceil(problems / settings.prompts_per_step))
    return _derived(base, settings, steps, answers * length, settings.lr_scale, config, 0)


def _derived(
    base: Plan,
    settings: FinetuneSettings | RlSettings,
    steps: int,
    batch: int,
    scale: float,
    config: GPTConfig,
    seen_steps: int,
) -> Plan:
    tokens = steps * batch
    warmed = min(1.0, seen_steps / base.momentum_warmup_steps) if base.momentum_warmup_steps else 1.0
    return replace(
        base,
        steps=steps,
        total_batch_size=batch,
        sequence_length=config.sequence_length,
        tokens=tokens,
        flops=tokens * flops_per_token(config),
        matrix_lr=settings.matrix_lr or base.matrix_lr * scale,
        embedding_lr=settings.embedding_lr or base.embedding_lr * scale,
        head_lr=settings.head_lr or base.head_lr * scale,
        scalar_lr=settings.scalar_lr or base.scalar_lr * scale,
        weight_decay=settings.weight_decay or 0.0,
        momentum_warmup_steps=max(0, base.momentum_warmup_steps - seen_steps),
        momentum_start=base.momentum_start + warmed * (base.momentum - base.momentum_start),
        **_ramps(settings, steps),
    )
