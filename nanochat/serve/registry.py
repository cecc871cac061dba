"""The checkpoints below a run folder, found on disk and loaded when first spoken to."""

import logging
import threading
from pathlib import Path

from nanochat.artifact import MANIFEST, read_manifest
from nanochat.errors import ArtifactError
from nanochat.infer.checkpoint import load_checkpoint
from nanochat.runtime import World
from nanochat.serve.model import ChatModel

log = logging.getLogger(__name__)

STAGES = ("base", "mid", "sft", "rl")
"""Stages that leave a model, in the order they are trained."""


class Registry:
    """Finds and keeps the models of one run.

    Args:
        run: a run folder (`results/<run>`), or a single checkpoint directory, which can be served by itself.
        device: `auto`, `cpu` or `cuda`.

    Raises:
        ArtifactError: if there is no checkpoint.
        DeviceError: if the device does not exist.
    """

    def __init__(self, run: Path, device: str = "auto") -> None:
        self.run = run
        self._device = World.open(device).device
        self._lock = threading.Lock()
        self._loaded: dict[str, tuple[int, ChatModel]] = {}
        if not self.stages:
            raise ArtifactError(
                f"{run} holds no checkpoint to talk to (looked for {', '.join(STAGES)}); train one first: snakemake"
            )

    def _directories(self) -> dict[str, Path]:
        if (self.run / MANIFEST).is_file():
            return {read_manifest(self.run, STAGES).stage: self.run}
        return {stage: self.run / stage for stage in STAGES if (self.run / stage / MANIFEST).is_file()}

    @property
    def stages(self) -> tuple[str, ...]:
        """Stages there is a finished checkpoint of, in training order."""
        return tuple(self._directories())

    def resolve(self, stage: str) -> str:
        """The stage meant by `stage`; `auto` is the last one trained.

        Raises:
            ArtifactError: if there is no checkpoint of it.
        """
        stages = self.stages
        if stage == "auto" and stages:
            return stages[-1]
        if stage not in stages:
            raise ArtifactError(
                f"stage {stage!r} has no checkpoint in {self.run}; there are: {', '.join(stages) or 'none'}. "
                "Choose one of them (chat.stage), or train it with snakemake"
            )
        return stage

    def get(self, stage: str) -> ChatModel:
        """The model of a stage, loaded and verified at first use, and again after it was trained anew.

        Raises:
            ArtifactError: if there is no checkpoint of it, or it is damaged.
        """
        stage = self.resolve(stage)
        with self._lock:
            directory = self._directories()[stage]
            made = (directory / MANIFEST).stat().st_mtime_ns
            if stage not in self._loaded or self._loaded[stage][0] != made:
                log.info("loading %s", directory)
                self._loaded[stage] = made, ChatModel(stage, load_checkpoint(directory, device=self._device))
            return self._loaded[stage][1]

    def close(self) -> None:
        """Let go of every loaded model and its memory."""
        with self._lock:
            self._loaded.clear()
