"""The stage export: a folder that transformers loads, of one checkpoint."""

import json
import logging
import time
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import torch

from nanochat.artifact import MANIFEST, Manifest, Workspace, read_manifest, verify
from nanochat.config.stages import ExportStage
from nanochat.data.tokenizer import TOKENIZER_FILE, Tokenizer
from nanochat.errors import ArtifactError
from nanochat.export.card import Evaluation, model_card
from nanochat.export.tokenizer import TEMPLATE_FILE, chat_template, exported_tokenizer, tokenizer_config
from nanochat.export.weights import REMOTE_FILES, exported_config, exported_tensors
from nanochat.infer.checkpoint import STAGES
from nanochat.model.checkpoint import WEIGHTS, load_config, load_tensors, save_tensors
from nanochat.model.config import GPTConfig

log = logging.getLogger(__name__)


def run(
    settings: ExportStage,
    *,
    out: Path,
    model: Path,
    earlier: Sequence[Path] = (),
    evaluations: Sequence[Path] = (),
) -> Manifest:
    """Write a checkpoint as a Hugging Face folder: weights, config, tokenizer, chat template and model card.

    A classic model is one of transformers' own `NanoChatForCausalLM`; a modern one brings its modelling file along.
    Nothing of transformers is needed to write it.

    Args:
        settings: type of the weights, title, and how it samples unless told otherwise.
        out: the folder.
        model: checkpoint directory of any stage.
        earlier: checkpoints it was trained from, for the model card.
        evaluations: of the model or of those, for the model card.

    Raises:
        ArtifactError: if an input is missing, damaged or does not belong to the others, the model has no counterpart in
            transformers, or `out` holds something else than an unchanged export.
    """
    manifest = read_manifest(model, STAGES)
    chain = _chain(model, manifest, earlier)
    scored = [_evaluation(path, chain) for path in evaluations]
    _check_free(out)
    inputs = {f"earlier/{stage}": path for path, stage in zip(earlier, _stages(earlier))}
    inputs |= {f"evaluation/{score.stage}": path for path, score in zip(evaluations, scored)}
    with Workspace(out, "export", settings, {"model": model, **inputs}) as workspace:
        if workspace.finished():
            return workspace.promote()
        started = time.monotonic()
        config = load_config(model)
        name = settings.export.name or f"{out.absolute().parents[1].name}-{manifest.stage}"
        _write(workspace.final, settings, model, manifest.stage, config)
        card = model_card(name, config, chain, scored, settings.export.dtype)
        (workspace.final / "README.md").write_text(card, encoding="utf-8")
        log.info("%s: %s for transformers", out, name)
        return workspace.finish(metrics={"name": name, "form": config.arch}, wall_seconds=time.monotonic() - started)


def _stages(directories: Sequence[Path]) -> list[str]:
    return [read_manifest(path, STAGES).stage for path in directories]


def _chain(model: Path, manifest: Manifest, earlier: Sequence[Path]) -> list[Manifest]:
    """The model's manifest and those of the checkpoints it was trained from, first to last."""
    chain = [manifest]
    known = {read_manifest(path, STAGES).digest: path for path in earlier}
    while chain[0].inputs.get("init") in known:
        chain.insert(0, read_manifest(known.pop(chain[0].inputs["init"])))
    if known:
        path = next(iter(known.values()))
        raise ArtifactError(
            f"{path} is not what {model} was trained from: its digest is not the one that the next stage recorded; "
            "run snakemake again, or leave it out"
        )
    return chain


def _evaluation(directory: Path, chain: Sequence[Manifest]) -> Evaluation:
    """Scores, if they are of a checkpoint of the chain."""
    manifest = read_manifest(directory, ("base_eval", "chat_eval"))
    stage = next((one.stage for one in chain if one.digest == manifest.inputs.get("model")), None)
    if stage is None:
        raise ArtifactError(
            f"{directory} evaluates another checkpoint than the exported one or those it was trained from: "
            "run snakemake again, or leave it out"
        )
    path = directory / "scores.json"
    try:
        content = json.loads(path.read_text())
        return Evaluation(stage, tuple(content["scores"]), content["summary"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path} is damaged ({error!r}); delete {directory} and rerun snakemake") from None


def _check_free(out: Path) -> None:
    """Only an export that is as it was written may be replaced: who changed one may want to keep it."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    try:
        read_manifest(out, "export")
        written = {MANIFEST, *verify(out).files}
        files = (path.relative_to(out) for path in sorted(out.rglob("*")) if path.is_file())
        # Hidden files are Snakemake's and the system's.
        added = [str(path) for path in files if str(path) not in written and not path.name.startswith(".")]
        reason = f"{added[0]} was added" if added else ""
    except ArtifactError as error:
        reason = str(error)
    if reason:
        raise ArtifactError(
            f"{out} is there and not an unchanged export ({reason}); move it away, or choose another folder"
        )


def _write(folder: Path, settings: ExportStage, model: Path, stage: str, config: GPTConfig) -> None:
    tokenizer = Tokenizer.load(model)
    chats = stage != "base"
    end = tokenizer.special["<|assistant_end|>"] if chats else tokenizer.bos
    dtype = settings.export.dtype
    shape = exported_config(config, dtype=dtype, bos=tokenizer.bos, eos=end)
    save_tensors(folder / WEIGHTS, exported_tensors(load_tensors(model / WEIGHTS), getattr(torch, dtype)))
    _write_json(folder / "config.json", shape)
    _write_json(folder / "generation_config.json", _generation(settings, tokenizer.bos, end))
    if config.arch == "modern":
        for name in REMOTE_FILES:
            content = resources.files("nanochat.export").joinpath(name).read_text(encoding="utf-8")
            (folder / name).write_text(content, encoding="utf-8")
    text = (model / TOKENIZER_FILE).read_text(encoding="utf-8")
    (folder / TOKENIZER_FILE).write_text(exported_tokenizer(text), encoding="utf-8")
    _write_json(folder / "tokenizer_config.json", tokenizer_config(config.sequence_length, chats=chats))
    if chats:
        (folder / TEMPLATE_FILE).write_text(chat_template(), encoding="utf-8")


def _generation(settings: ExportStage, bos: int, end: int) -> dict[str, Any]:
    """generation_config.json: the chat's own settings."""
    chat = settings.chat
    sampling = {"do_sample": True, "temperature": chat.temperature, "top_k": chat.top_k or 0, "top_p": 1.0}
    return {
        **(sampling if chat.temperature else {"do_sample": False}),
        "max_new_tokens": chat.max_new_tokens,
        "bos_token_id": bos,
        "eos_token_id": sorted({bos, end}),
        "pad_token_id": bos,
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
