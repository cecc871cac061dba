"""Weights on disk: safetensors and the shape beside them."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from nanochat.errors import ArtifactError
from nanochat.model.gpt import GPT, GPTConfig
from nanochat.runtime import compute_dtype

WEIGHTS = "model.safetensors"
SHAPE = "model.json"

# Data lies in the order of these types, then of names.
_TYPES = {
    torch.int64: "I64",
    torch.float64: "F64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_CHUNK = 1 << 20  # bytes hashed and then written while they are still in the processor's cache


def _header(tensors: Mapping[str, Tensor]) -> tuple[list[str], bytes]:
    """Names in the order of their data, and what stands before it: the format's length, JSON and padding."""
    order = sorted(tensors, key=lambda name: (list(_TYPES).index(tensors[name].dtype), name))
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    start = 0
    for name in order:
        tensor = tensors[name]
        end = start + tensor.nbytes
        entries[name] = {"dtype": _TYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return order, len(text).to_bytes(8, "little") + text


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write tensors to a safetensors file, byte by byte as the library would, and force it to the disk.

    The library copies all tensors first and its file has to be read again for a digest. This reads each byte once,
    and lets other threads run meanwhile, so that it can write beside a training loop.

    Args:
        path: of the file.
        tensors: on any device, views of each other or not.

    Returns:
        The file's SHA-256, hex; it depends on the tensors' names and values only.

    Raises:
        ArtifactError: if the file cannot be written, for instance because the disk is full.
    """
    order, header = _header(tensors)
    digest = hashlib.sha256(header)
    try:
        with path.open("wb") as file:
            file.write(header)
            for name in order:
                plain = tensors[name].detach().to("cpu").contiguous().reshape(-1).view(torch.uint8)
                content = memoryview(plain.numpy())
                for start in range(0, len(content), _CHUNK):
                    chunk = content[start : start + _CHUNK]
                    digest.update(chunk)
                    file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        path.unlink(missing_ok=True)
        raise ArtifactError(f"{path} cannot be written ({error}); free some space and run the same command") from None
    return digest.hexdigest()


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
