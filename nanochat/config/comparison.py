"""What `snakemake compare` compares, and where the two evaluations lie or are to be made."""

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from nanochat.config.layout import Layout
from nanochat.errors import ConfigError

STAGES = ("base", "mid", "sft", "rl")


@dataclass(frozen=True)
class Side:
    """One of the two checkpoints.

    Attributes:
        checkpoint: its directory.
        stage: base, mid, sft or rl.
        label: run and stage, such as `d12-sft`.
        evaluation: directory of its evaluation.
        made_here: whether that lies below the comparison, because there is none beside the checkpoint.
    """

    checkpoint: str
    stage: str
    label: str
    evaluation: str
    made_here: bool


@dataclass(frozen=True)
class Comparison:
    """Two checkpoints of one kind, and the folder of what was found.

    Attributes:
        first, second: the checkpoints.
        out: folder of the comparison; its name says what was compared.
    """

    first: Side
    second: Side
    out: str

    @classmethod
    def of(cls, layout: Layout) -> "Comparison":
        """The comparison that the configuration asks for.

        Raises:
            ConfigError: if it asks for none, a checkpoint is not there, or the two are evaluated by different tasks.
        """
        settings = layout.config.compare
        if not settings.first or not settings.second:
            raise ConfigError(
                "compare: there is nothing to compare; name two checkpoint directories: "
                "--config compare='{first: results/a/sft, second: results/b/sft}'"
            )
        first, second = _side(layout, "first", settings.first), _side(layout, "second", settings.second)
        if (first.stage == "base") != (second.stage == "base"):
            raise ConfigError(
                f"compare: {first.checkpoint} is of stage {first.stage}, {second.checkpoint} of stage {second.stage}: "
                "base models are evaluated on CORE, chat models on chat tasks; compare two of one kind"
            )
        name = f"{first.label}-vs-{second.label}"
        if first.label == second.label:
            name += f"-{_key(first.checkpoint)}-{_key(second.checkpoint)}"
        return cls(first, second, f"{layout.run}/compare/{name}")

    @property
    def missing(self) -> dict[str, Side]:
        """Name of the folder → side, for the evaluations that are to be made here."""
        return {Path(side.evaluation).name: side for side in (self.first, self.second) if side.made_here}


def evaluations_folder(layout: Layout) -> str:
    """Folder of the evaluations that are made for comparisons."""
    return f"{layout.run}/compare/eval"


def _key(path: str) -> str:
    return hashlib.sha256(os.path.abspath(path).encode()).hexdigest()[:8]


def _side(layout: Layout, which: str, path: str) -> Side:
    checkpoint = os.path.normpath(path)
    stage = _stage(layout, which, checkpoint)
    parent, name = Path(checkpoint).parent, Path(checkpoint).name
    run = re.sub(r"[^A-Za-z0-9.]+", "-", parent.name or "run").strip("-")
    label = f"{run}-{stage}" if name == stage else f"{run}-{re.sub(r'[^A-Za-z0-9.]+', '-', name).strip('-')}-{stage}"
    if checkpoint == layout.checkpoint(stage):
        return Side(checkpoint, stage, label, layout.evaluation(stage), made_here=False)
    beside = parent / "eval" / name
    if (beside / "manifest.json").is_file():
        return Side(checkpoint, stage, label, beside.as_posix(), made_here=False)
    if stage == "base":
        # Bits per byte are of the text that its own run was trained on: only that run can evaluate it.
        raise ConfigError(
            f"compare.{which} = {checkpoint}: there is no evaluation in {beside}; make it with the configuration of "
            f"its run: snakemake {beside} --configfile {parent}/config.yaml"
        )
    here = f"{evaluations_folder(layout)}/{label}-{_key(checkpoint)}"
    return Side(checkpoint, stage, label, here, made_here=True)


def _stage(layout: Layout, which: str, checkpoint: str) -> str:
    """Stage of a checkpoint: what its manifest says; of the configured run, its place."""
    own = {layout.checkpoint(stage): stage for stage in ("base", *layout.config.chat_stages)}
    if checkpoint in own:
        return own[checkpoint]
    path = Path(checkpoint) / "manifest.json"
    try:
        stage = json.loads(path.read_text())["stage"]
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError(
            f"compare.{which} = {checkpoint}: no checkpoint lies there (seen from {Path.cwd()}; {path.name} cannot be "
            "read); name a finished checkpoint directory such as results/<run>/sft"
        ) from None
    if stage not in STAGES:
        raise ConfigError(
            f"compare.{which} = {checkpoint} is an artifact of stage {stage}; expected a checkpoint of base, mid, sft "
            "or rl"
        )
    return stage
