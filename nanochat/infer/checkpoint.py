"""Open a checkpoint directory for use: model, tokenizer and manifest, digests verified."""

from dataclasses import dataclass
from pathlib import Path

import torch

from nanochat.artifact import Manifest, read_manifest, verify
from nanochat.data.tokenizer import Tokenizer
from nanochat.errors import ArtifactError
from nanochat.model.checkpoint import load_model
from nanochat.model.gpt import GPT
from nanochat.runtime import inference_dtype

STAGES = ("base", "mid", "sft", "rl")


@dataclass(frozen=True)
class LoadedModel:
    """A checkpoint in memory; the model is in evaluation mode."""

    model: GPT
    tokenizer: Tokenizer
    manifest: Manifest


def load_checkpoint(
    directory: Path,
    device: torch.device | str = "cpu",
    *,
    dtype: torch.dtype | None = None,
    verify_files: bool = True,
) -> LoadedModel:
    """Load a checkpoint directory; it needs nothing beside it, so it can be copied to another machine first.

    Args:
        directory: of stage base, mid, sft or rl.
        device: where the weights go.
        dtype: compute type; None takes float32 on a CPU and the one the model was trained with on a GPU.
        verify_files: re-read every file and compare its digest with the manifest's.

    Raises:
        ArtifactError: if it is missing, damaged, of another stage, or model and tokenizer do not fit each other.
    """
    manifest = read_manifest(directory, STAGES)
    if verify_files:
        verify(directory)
    model = load_model(directory, device)
    model.dtype = dtype or inference_dtype(model.config.precision, torch.device(device))
    model.eval()
    tokenizer = Tokenizer.load(directory)
    if tokenizer.vocab_size != model.config.vocab_size:
        raise ArtifactError(
            f"{directory}: the tokenizer has {tokenizer.vocab_size} tokens, the model expects "
            f"{model.config.vocab_size}; the directory mixes two runs, copy it again"
        )
    return LoadedModel(model, tokenizer, manifest)
