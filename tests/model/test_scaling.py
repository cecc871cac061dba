import subprocess
import sys

import pytest

from nanochat.config import BaseSettings, FinetuneSettings, ModelSettings, RlSettings
from nanochat.model.scaling import (
    Plan,
    base_plan,
    count_parameters,
    finetune_plan,
    flops_per_token,
    model_config,
    rl_plan,
)

CLASSIC = ModelSettings(arch="classic")
MODERN = ModelSettings()


@pytest.mark.parametrize(
    ("depth", "settings", "vocab", "millions"),
    [
        (20, CLASSIC, 65_536, 561.0),
        (16, CLASSIC, 65_536, 335.5),
        (12, MODERN, 32_768, 286.3),
        (24, MODERN, 32_768, 1384),
    ],
)
def test_parameters_match_the_published_counts(depth, settings, vocab, millions):
    counts = count_parameters(model_config(depth, settings, vocab))
    assert counts["total"] / 1e6 == pytest.approx(millions, rel=1e-3)


def test_d12_splits_as_published():
    counts = count_parameters(model_config(12, MODERN, 32_768))
    assert counts["matrices"] / 1e6 == pytest.approx(85, abs=0.1)
    assert counts["value_embeddings"] / 1e6 == pytest.approx(151, abs=0.1)


def test_flops_match_the_published_counts():
    small = ModelSettings(sequence_length=512, head_dim=64, window_pattern="L")
    assert flops_per_token(model_config(4, small, 4096)) / 1e6 == pytest.approx(31.5, abs=0.1)
    d12 = ModelSettings(sequence_length=1024, window_pattern="L")
    assert flops_per_token(model_config(12, d12, 32_768)) * 1.156e9 == pytest.approx(8.95e17, rel=2e-3)


def test_plans_of_the_reference_runs():
    d20 = base_plan(20, CLASSIC, BaseSettings(), 65_536)
    assert d20.tokens / 1e9 == pytest.approx(11.2, abs=0.1)
    assert (d20.total_batch_size, d20.matrix_lr, d20.weight_decay) == (524_288, 0.02, 0.0)
    d12 = base_plan(12, MODERN, BaseSettings(), 32_768)
    assert d12.tokens / 1e9 == pytest.approx(1.156, abs=0.001)
    assert (d12.total_batch_size, d12.matrix_lr, d12.embedding_lr, d12.head_lr) == (524_288, 0.02, 0.3, 0.008)
    d24 = base_plan(24, MODERN, BaseSettings(), 32_768)
    assert d24.total_batch_size == 1_048_576
    assert d24.matrix_lr > d12.matrix_lr
    assert d24.weight_decay < d12.weight_decay


def test_small_runs_get_small_batches_but_not_vanishing_rates():
    tiny = base_plan(4, ModelSettings(sequence_length=256, head_dim=32, aspect_ratio=32), BaseSettings(), 2048)
    assert tiny.total_batch_size < 131_072
    forced = base_plan(4, MODERN, BaseSettings(total_batch_size=8192, steps=10), 2048)
    assert forced.matrix_lr >= 0.02
    assert forced.weight_decay <= 0.28
    assert forced.tokens == 81_920


def test_settings_override_the_dial_one_by_one():
    settings = BaseSettings(steps=7, matrix_lr=0.5, weight_decay=0.0, warmup_ratio=0.3, warmdown_ratio=0.5)
    plan = base_plan(12, MODERN, settings, 32_768)
    assert (plan.steps, plan.matrix_lr, plan.weight_decay) == (7, 0.5, 0.0)
    assert (plan.warmup_steps, plan.warmdown_steps) == (2, 4)
    assert Plan.from_dict(plan.to_dict()) == plan


def test_finetuning_takes_its_rates_from_pretraining():
    base = base_plan(12, MODERN, BaseSettings(), 32_768)
    config = model_config(12, MODERN, 32_768)
    many = finetune_plan(base, FinetuneSettings(lr_scale=0.1), 100_000, config)
    assert many.total_batch_size == base.total_batch_size
    assert many.matrix_lr == pytest.approx(0.1 * base.matrix_lr)
    assert many.steps == 391
    few = finetune_plan(base, FinetuneSettings(), 200, config, seen_steps=200)
    assert few.steps >= 64
    assert few.matrix_lr < base.matrix_lr
    assert few.momentum_start == pytest.approx(0.91)
    settings = RlSettings(prompts_per_step=8, samples_per_prompt=4)
    rl = rl_plan(base, settings, 100, config)
    assert (rl.steps, rl.total_batch_size) == (13, 8 * 4 * 2048)
    assert rl.matrix_lr == pytest.approx(0.05 * base.matrix_lr)


def test_the_dial_loads_without_torch():
    code = "import sys, nanochat.model.scaling; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
