import dataclasses

import pytest
import torch

from nanochat.artifact import read_manifest
from nanochat.errors import TrainingError
from nanochat.headroom import OomKills
from nanochat.model.checkpoint import load_tensors
from nanochat.model.config import GPTConfig
from nanochat.model.memory import MemorySettings, training_memory
from nanochat.runtime import World
from nanochat.train import device_batch, prefetch
from nanochat.train.device_batch import DeviceBatch, DeviceBatchRecord, choose
from nanochat.train.execution import Execution

from . import worker
from .test_trainer import distance

ALONE = World(0, 0, 1, torch.device("cpu"))
AUTO = Execution()
CPU, CUDA = MemorySettings(), MemorySettings(device="cuda", staging=False)
D12 = GPTConfig(depth=12, width=768, heads=6, kv_heads=6, head_dim=128, vocab_size=32768, sequence_length=2048)
D4 = GPTConfig(depth=4, width=256, heads=4, kv_heads=4, head_dim=64, vocab_size=4096, sequence_length=512)


def needed(config, rows, settings, recompute=False):
    return training_memory(config, rows=rows, settings=dataclasses.replace(settings, recompute=recompute)).total


@pytest.mark.parametrize(
    ("config", "settings", "fits", "per_rank", "expected"),
    [
        (D4, CPU, 1000, 32, (16, False)),  # no more than 8,192 tokens
        (D4, CPU, 1000, 7, (4, False)),
        (D4, CPU, 4, 32, (4, False)),
        (D4, CPU, 7, 32, (4, False)),
        (D4, CPU, 1, 32, (1, False)),
        (D12, CUDA, 32, 256, (32, False)),
        (D12, CUDA, 1000, 256, (256, False)),
        (D12, CUDA, 4, 256, (4, False)),
        (D12, CUDA, 2, 2, (2, False)),
    ],
)
def test_the_largest_power_of_two_that_fits(config, settings, fits, per_rank, expected):
    usable = needed(config, fits, settings)
    found = choose(config, AUTO, settings, rows_per_rank=per_rank, usable=usable)
    assert (found.rows, found.recompute) == expected
    assert found.predicted == needed(config, found.rows, settings) <= usable == found.usable


def test_blocks_are_recomputed_only_where_it_is_needed():
    def chosen(settings, usable, when="auto"):
        execution = Execution(activation_checkpointing=when)
        config = D12 if settings is CUDA else D4
        found = choose(config, execution, settings, rows_per_rank=64, usable=usable)
        return found.rows, found.recompute

    rows, recompute = chosen(CUDA, needed(D12, 2, CUDA))
    assert recompute
    assert rows >= 4
    assert chosen(CUDA, needed(D12, 2, CUDA), "never") == (2, False)
    assert chosen(CUDA, needed(D12, 8, CUDA), "always")[1]
    assert chosen(CPU, needed(D4, 1, CPU, recompute=True)) == (1, True)
    assert chosen(CPU, needed(D4, 2, CPU)) == (2, False)
    with pytest.raises(
        TrainingError, match=r"single row of 512 tokens needs about 0\.\d GB, and 0\.1 GB .* lower depth"
    ):
        chosen(CPU, 10**8)
    with pytest.raises(TrainingError, match="activation_checkpointing: auto"):
        chosen(CPU, needed(D4, 1, CPU) - 1, "never")


def test_rows_set_by_hand_stay():
    found = choose(D4, Execution(device_batch_size=48), CPU, rows_per_rank=8, usable=10**6)
    assert found.rows == 48
    assert found.predicted > found.usable


@pytest.fixture
def kills(monkeypatch):
    """The kernel's count, to be changed by a test."""
    count = {"now": OomKills("boot:/group", 5)}
    monkeypatch.setattr(device_batch, "oom_kills", lambda: count["now"])
    return count


@pytest.mark.parametrize(
    ("now", "ended", "expected"),
    [
        (OomKills("boot:/group", 5), False, 16),  # a kill like any other
        (OomKills("boot:/group", 6), False, 8),
        (OomKills("boot:/group", 6), True, 16),  # another process was killed
        (OomKills("boot:/other", 6), False, 16),
        (None, False, 16),
    ],
)
def test_only_a_kill_for_want_of_memory_halves_the_rows(tmp_path, kills, now, ended, expected):
    batch = DeviceBatch(16, False, 1, 2)
    record = DeviceBatchRecord(tmp_path, ALONE)
    record.begin(batch)
    if ended:
        record.end(batch)
    kills["now"] = now
    again = DeviceBatchRecord(tmp_path, ALONE)
    chosen = again.choose(D4, AUTO, CPU, 32)
    assert again.resumed(chosen.rows) == expected


def test_killed_with_one_row_it_recomputes(tmp_path, kills):
    DeviceBatchRecord(tmp_path, ALONE).begin(DeviceBatch(1, False, 1, 2))
    kills["now"] = OomKills("boot:/group", 6)
    record = DeviceBatchRecord(tmp_path, ALONE)
    chosen = record.choose(D4, AUTO, CPU, 32)
    assert (record.resumed(chosen.rows), chosen.recompute) == (1, True)


def test_a_choice_is_kept_on_as_many_ranks_of_the_same_kind(tmp_path, kills):
    DeviceBatchRecord(tmp_path, ALONE).begin(DeviceBatch(2, True, 1, 2))
    found = DeviceBatchRecord(tmp_path, ALONE).choose(D4, AUTO, CPU, 32)
    assert (found.rows, found.recompute) == (2, True)
    by_hand = Execution(device_batch_size=3, activation_checkpointing="never")
    found = DeviceBatchRecord(tmp_path, ALONE).choose(D4, by_hand, CPU, 32)
    assert (found.rows, found.recompute) == (3, False)
    text = (tmp_path / device_batch.RECORD).read_text()
    (tmp_path / device_batch.RECORD).write_text(text.replace("1 ranks", "4 ranks"))
    assert DeviceBatchRecord(tmp_path, ALONE).choose(D4, AUTO, CPU, 32).rows == 16


class PowerCutError(Exception):
    """Stands for a kill where the test goes on in the same process."""


def test_killed_before_the_first_checkpoint_it_goes_on_with_the_same_rows(tiny_data, tmp_path, monkeypatch):
    whole = worker.run(tiny_data, tmp_path / "whole" / "base", AUTO)
    assert whole.metrics["device_batch_size"] == 8
    assert whole.metrics["predicted_memory_bytes"] > 0
    assert whole.metrics["activation_checkpointing"] is False

    def fail(self, step):
        raise PowerCutError

    with monkeypatch.context() as patch:
        patch.setattr(prefetch.Prefetched, "read", fail)
        with pytest.raises(PowerCutError):
            worker.run(tiny_data, tmp_path / "cut" / "base", AUTO)
    small = MemorySettings(dtype="float32")
    config = GPTConfig.model_validate_json((tmp_path / "whole" / "base" / "model.json").read_text())
    monkeypatch.setattr(device_batch, "usable_bytes", lambda world: needed(config, 1, small))
    assert worker.run(tiny_data, tmp_path / "cut" / "base", AUTO).digest == whole.digest
    assert read_manifest(tmp_path / "cut" / "base").metrics["device_batch_size"] == 8


def test_recomputing_trains_the_same_model(tiny_data, tmp_path):
    results = []
    for when in ("never", "always"):
        out = tmp_path / when / "base"
        manifest = worker.run(tiny_data, out, Execution(device_batch_size=4, activation_checkpointing=when))
        assert manifest.metrics["activation_checkpointing"] is (when == "always")
        results.append(load_tensors(out / "model.safetensors"))
    for name, value in results[0].items():
        assert distance(value, results[1][name]) < 0.01, name
