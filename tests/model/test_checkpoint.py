import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from nanochat.errors import ArtifactError
from nanochat.model.checkpoint import load_model, load_tensors, save_model, save_tensors
from nanochat.model.gpt import GPT, GPTConfig
from nanochat.runtime import compute_dtype

CONFIG = GPTConfig(depth=2, width=32, heads=2, kv_heads=2, head_dim=16, vocab_size=40, sequence_length=16)


def make(seed: int = 0) -> GPT:
    model = GPT(CONFIG)
    model.init_weights(seed)
    return model


def test_a_model_comes_back_as_it_was(tmp_path):
    model = make()
    save_model(tmp_path, model)
    again = load_model(tmp_path)
    x = torch.arange(8)[None]
    assert again.config == CONFIG
    assert again.dtype == compute_dtype("auto", torch.device("cpu"))
    with again.computing_in(torch.float32):
        assert torch.equal(model(x), again(x))


def test_equal_weights_give_equal_bytes(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        save_model(tmp_path / name, make())
    first, second = (tmp_path / name / "model.safetensors" for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()


def test_damage_is_named(tmp_path):
    save_model(tmp_path, make())
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    with pytest.raises(ArtifactError, match=r"model\.safetensors"):
        load_model(tmp_path)
    weights.write_bytes(whole)
    shape = tmp_path / "model.json"
    shape.write_text(shape.read_text().replace('"width": 32', '"width": 64'))
    with pytest.raises(ArtifactError, match="does not fit"):
        load_model(tmp_path)
    shape.write_text("{")
    with pytest.raises(ArtifactError, match=r"model\.json"):
        load_model(tmp_path)


def test_the_file_is_the_one_that_the_library_writes(tmp_path):
    whole = torch.arange(3_000_000, dtype=torch.float32).reshape(1000, 3000)
    types = (torch.bool, torch.uint8, torch.float16, torch.bfloat16, torch.int32, torch.float64, torch.int64)
    tensors = {f"{index}": torch.ones(index + 1, 3).to(dtype) for index, dtype in enumerate(types)}
    tensors |= {'ü"': torch.tensor(3), "empty": torch.empty(0, 3), "part": whole[:, 1:], "row": whole[3]}
    digest = save_tensors(tmp_path / "ours", tensors)
    save_file({name: value.contiguous() for name, value in tensors.items()}, tmp_path / "theirs", {"format": "pt"})
    content = (tmp_path / "ours").read_bytes()
    assert content == (tmp_path / "theirs").read_bytes()
    assert digest == hashlib.sha256(content).hexdigest()
    again = load_tensors(tmp_path / "ours")
    assert all(torch.equal(value, again[name]) and value.dtype == again[name].dtype for name, value in tensors.items())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_one_clear_error(tmp_path):
    (tmp_path / "model.safetensors").symlink_to("/dev/full")
    with pytest.raises(ArtifactError, match=r"model\.safetensors cannot be written .*No space left.*free some space"):
        save_tensors(tmp_path / "model.safetensors", {"w": torch.zeros(1000)})
    assert list(tmp_path.iterdir()) == []
