import pytest
import torch

from nanochat.evaluate import device_batch
from nanochat.evaluate.device_batch import MOST_ROWS, evaluation_rows
from nanochat.model.config import GPTConfig
from nanochat.model.memory import MemorySettings, inference_memory
from nanochat.runtime import World

ALONE = World(0, 0, 1, torch.device("cpu"))
CONFIG = GPTConfig(depth=8, width=512, heads=8, kv_heads=8, head_dim=64, vocab_size=8192, sequence_length=1024)


@pytest.mark.parametrize(("fits", "expected"), [(100, MOST_ROWS), (31, 16), (3, 2), (1, 1), (0, 1)])
def test_auto_is_32_or_what_fits(tmp_path, monkeypatch, fits, expected):
    (tmp_path / "model.json").write_text(CONFIG.model_dump_json())
    usable = inference_memory(CONFIG, rows=fits, settings=MemorySettings(dtype="float32"))
    monkeypatch.setattr(device_batch, "usable_bytes", lambda world: usable)
    assert evaluation_rows("auto", tmp_path, ALONE) == expected
    assert evaluation_rows(48, tmp_path, ALONE) == 48


def test_a_missing_model_is_left_to_the_evaluation(tmp_path):
    assert evaluation_rows("auto", tmp_path / "nothing", ALONE) == MOST_ROWS
