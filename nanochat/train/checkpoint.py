"""Step checkpoints: what a killed stage continues from.

Every random choice of training is made from (seed, step), so that weights, optimizer state and a few counters are
all there is to save.
"""

import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nanochat.artifact import digest_file
from nanochat.model.checkpoint import load_tensors, save_tensors
from nanochat.runtime import World

log = logging.getLogger(__name__)

_TENSORS = "state.safetensors"
_META = "state.json"


@dataclass(frozen=True)
class StepState:
    """A step checkpoint: tensors, and counters that fit into JSON."""

    step: int
    tensors: Mapping[str, Tensor]
    meta: dict[str, Any]


class StepCheckpoints:
    """Step checkpoints of one stage in `progress`/steps/; the main rank writes, every rank reads."""

    def __init__(self, progress: Path, world: World, keep: int = 2) -> None:
        self.folder = progress / "steps"
        self.world = world
        self.keep = keep

    def _all(self) -> list[tuple[int, Path]]:
        found = [(int(path.name), path) for path in self.folder.glob("*") if path.name.isdigit()]
        return sorted(found, reverse=True)

    def save(self, state: StepState) -> None:
        """Write a checkpoint under a temporary name, rename it, and remove the ones beyond `keep`."""
        if self.world.is_main:
            temporary = self.folder / "saving.tmp"
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            save_tensors(temporary / _TENSORS, state.tensors)
            meta = {"step": state.step, "meta": state.meta, "sha256": digest_file(temporary / _TENSORS)}
            (temporary / _META).write_text(json.dumps(meta))
            for name in (_TENSORS, _META):
                with (temporary / name).open("rb") as file:
                    os.fsync(file.fileno())
            target = self.folder / f"{state.step:08d}"
            shutil.rmtree(target, ignore_errors=True)
            temporary.replace(target)
            for _, path in self._all()[self.keep :]:
                shutil.rmtree(path, ignore_errors=True)
        self.world.barrier()

    def _newest_whole(self) -> Path | None:
        for step, path in self._all():
            try:
                meta = json.loads((path / _META).read_text())
                if digest_file(path / _TENSORS) == meta["sha256"]:
                    return path
            except (OSError, ValueError, KeyError):
                pass
            log.warning("step checkpoint %d (%s) is damaged; using the one before it", step, path)
            shutil.rmtree(path, ignore_errors=True)
        return None

    def load_latest(self, device: torch.device | str = "cpu") -> StepState | None:
        """The newest checkpoint whose digest is right, or None; damaged ones are removed."""
        path = self.world.broadcast_object(self._newest_whole() if self.world.is_main else None)
        if path is None:
            return None
        meta = json.loads((path / _META).read_text())
        return StepState(meta["step"], load_tensors(path / _TENSORS, device), meta["meta"])
