"""Weights and shape as transformers wants them: its own NanoChat for the classic form, our file for the modern one."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from nanochat.errors import ArtifactError
from nanochat.model.config import GPTConfig
from nanochat.model.gpt import GATE_CHANNELS
from nanochat.model.pointwise import EPSILON

REMOTE_FILES = ("configuration_nanochat_workflow.py", "modeling_nanochat_workflow.py")
"""What the modern form brings along, beside this module."""

_OUTSIDE_BLOCKS = {"embedding.weight": "model.embed_tokens.weight", "head.weight": "lm_head.weight"}
_IN_BLOCKS = {
    "attention.query": "self_attn.q_proj",
    "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj",
    "attention.output": "self_attn.o_proj",
    "attention.value_embedding": "self_attn.value_embedding",
    "attention.value_gate": "self_attn.value_gate",
    "mlp.up": "mlp.fc1",
    "mlp.down": "mlp.fc2",
}
_OF_MODERN = ("residual_scales", "x0_scales", "smear_gate.weight", "smear_scale", "backout_scale")


def _renamed(name: str) -> str:
    if name in _OUTSIDE_BLOCKS:
        return _OUTSIDE_BLOCKS[name]
    if name in _OF_MODERN:
        return f"model.{name}"
    blocks, _, rest = name.partition(".")
    layer, _, place = rest.partition(".")
    module, _, parameter = place.rpartition(".")
    if blocks != "blocks" or not layer.isdigit() or module not in _IN_BLOCKS:
        raise ArtifactError(
            f"weight {name!r} has no counterpart in transformers: the checkpoint is of another version of this "
            "program; export it with the version that its manifest.json names under code"
        )
    return f"model.layers.{layer}.{_IN_BLOCKS[module]}.{parameter}"


def exported_tensors(tensors: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """The weights of a checkpoint under transformers' names.

    Args:
        tensors: as in model.safetensors of a checkpoint directory.
        dtype: type to store them in.

    Raises:
        ArtifactError: if a weight has no counterpart.
    """
    return {_renamed(name): tensor.to(dtype) for name, tensor in tensors.items()}


def exported_config(config: GPTConfig, *, dtype: str, bos: int, eos: int) -> dict[str, Any]:
    """config.json: every value that the function depends on, none left to a default of the library.

    Args:
        config: shape of the model.
        dtype: name of the type the weights are stored in.
        bos: id of `<|bos|>`, which also pads: unlike the end of an answer it is never a target.
        eos: id of the token that ends an answer.

    Raises:
        ArtifactError: if the model is of the classic form but not what transformers' NanoChat computes.
    """
    if config.arch == "classic" and set(config.windows) != {config.sequence_length}:
        raise ArtifactError(
            f"window_pattern {config.window_pattern} of a classic model: transformers' NanoChat has no windows; "
            "train it with model.window_pattern L, or as model.arch modern"
        )
    common = {
        "dtype": dtype,
        "vocab_size": config.vocab_size,
        "hidden_size": config.width,
        "intermediate_size": 4 * config.width,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.sequence_length,
        "rms_norm_eps": EPSILON,
        "final_logit_softcapping": config.softcap,
        "rope_theta": config.rope_theta,
        "tie_word_embeddings": False,
        "use_cache": True,
        "bos_token_id": bos,
        "eos_token_id": eos,
        "pad_token_id": bos,
    }
    return common | (_classic(config) if config.arch == "classic" else _modern(config))


def _classic(config: GPTConfig) -> dict[str, Any]:
    return {
        "model_type": "nanochat",
        "architectures": ["NanoChatForCausalLM"],
        "hidden_act": "relu2",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
    }


def _modern(config: GPTConfig) -> dict[str, Any]:
    configuration, modelling = (name.removesuffix(".py") for name in REMOTE_FILES)
    return {
        "model_type": "nanochat_workflow",
        "architectures": ["NanoChatWorkflowForCausalLM"],
        "auto_map": {
            "AutoConfig": f"{configuration}.NanoChatWorkflowConfig",
            "AutoModel": f"{modelling}.NanoChatWorkflowModel",
            "AutoModelForCausalLM": f"{modelling}.NanoChatWorkflowForCausalLM",
        },
        "attention_windows": list(config.windows),
        "value_embedding_layers": list(config.value_embedding_layers),
        "gate_channels": min(GATE_CHANNELS, config.width),
        "smear_channels": min(2 * GATE_CHANNELS, config.width),
        "backout_layer": (config.depth - 1) // 2,
        "attention_sharpness": config.attention_sharpness,
    }
