"""Weights on disk: safetensors and the shape beside them."""

from collections.abc import Mapping
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from nanochat.errors import ArtifactError
from nanochat.model.gpt import GPT, GPTConfig
from nanochat.runtime import compute_dtype

WEIGHTS = "model.safetensors"
SHAPE = "model.json"


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors to a safetensors file, with bytes that depend on their names and values only.

    Raises:
        ArtifactError: if the file cannot be written, for instance because the disk is full.
    """
    # Copies: parameters may be views of one buffer, which the format does not hold.
    plain = {name: tensors[name].detach().to("cpu", copy=True).contiguous() for name in sorted(tensors)}
    try:
        save_file(plain, path, metadata={"format": "pt"})
    except SafetensorError as error:
        path.unlink(missing_ok=True)
        raise ArtifactError(f"{path} cannot be written ({error}); free some space and run the same command") from None
    path.chmod(0o644)  # the library writes files for their owner only


def load_tensors(path: Path, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        ArtifactError: if it is missing or not a whole safetensors file.
    """
    try:
        return load_file(path, device=str(device))
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}); make its stage again") from None


def save_model(directory: Path, model: GPT) -> None:
    """Write model.safetensors (float32 master weights) and model.json."""
    save_tensors(directory / WEIGHTS, model.state_dict())
    (directory / SHAPE).write_text(model.config.model_dump_json(indent=2) + "\n")


def load_config(directory: Path) -> GPTConfig:
    """The shape of the model in a checkpoint directory.

    Raises:
        ArtifactError: if model.json is missing or does not describe a model.
    """
    path = directory / SHAPE
    try:
        return GPTConfig.model_validate_json(path.read_text())
    except (OSError, ValidationError) as error:
        raise ArtifactError(f"{path} does not describe a model ({str(error).splitlines()[0]})") from None


def load_model(directory: Path, device: torch.device | str = "cpu", dtype: torch.dtype | None = None) -> GPT:
    """Read the model of a checkpoint directory.

    Args:
        directory: of the checkpoint.
        device: where the weights go.
        dtype: compute type; None takes what the model was trained to compute in, as far as the device has it.

    Raises:
        ArtifactError: if a file is missing, damaged, or the weights are of another shape than model.json says.
    """
    config = load_config(directory)
    model = GPT(config).to(device)
    try:
        model.load_state_dict(load_tensors(directory / WEIGHTS, device))
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise ArtifactError(f"{directory / WEIGHTS} does not fit {SHAPE} beside it: {reason}") from None
    model.dtype = dtype or compute_dtype(config.precision, torch.device(device))
    return model
