import pytest
import torch

from nanochat.errors import ArtifactError
from nanochat.model.checkpoint import load_model, save_model
from nanochat.model.gpt import GPT, GPTConfig

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
    assert torch.equal(model(x), again(x))
    assert again.config == CONFIG
    assert again.dtype == torch.float32


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
