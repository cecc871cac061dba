"""The checkpoints there are, found on disk and loaded when first spoken to."""

import contextlib
import logging
import threading
from dataclasses import dataclass
from pathlib import Path

from nanochat.artifact import MANIFEST, read_manifest
from nanochat.config import ChatSettings
from nanochat.errors import ArtifactError
from nanochat.headroom import usable_bytes
from nanochat.infer.checkpoint import STAGES, load_checkpoint
from nanochat.runtime import World
from nanochat.serve.errors import BusyError, UnknownModelError
from nanochat.serve.model import ChatModel

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """A finished checkpoint on disk.

    Attributes:
        name: `<run>/<stage>`; of a checkpoint directory that is served by itself its stage.
        run: name of the run's folder.
        stage: base, mid, sft or rl.
        directory: where it lies.
        written: when its files were put in place, nanoseconds since 1970.
    """

    name: str
    run: str
    stage: str
    directory: Path
    written: int

    @property
    def created(self) -> int:
        """When its files were put in place, seconds since 1970."""
        return self.written // 10**9


class Registry:
    """Finds the models of a run and of the runs beside it, and keeps those that are spoken to.

    Args:
        run: a run folder (`results/<run>`), or a single checkpoint directory, which can be served by itself.
        device: `auto`, `cpu` or `cuda`.
        settings: the stage to begin with, slots, and how many models are kept in memory.

    Raises:
        ArtifactError: if there is no checkpoint, or none of the stage to begin with.
        DeviceError: if the device does not exist.
    """

    def __init__(self, run: Path, device: str = "auto", *, settings: ChatSettings | None = None) -> None:
        self.run = run.resolve()
        self._settings = settings or ChatSettings()
        self._world = World.open(device)
        self._lock = threading.Lock()
        self._loading = threading.Lock()
        self._loaded: dict[str, tuple[int, ChatModel]] = {}
        """By name, the one spoken to last at the end; with the time its manifest was written."""
        self.default  # noqa: B018  # what cannot be served is told at once

    @property
    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """Those of the run itself first, then those of the runs beside it, each in training order."""
        if (self.run / MANIFEST).is_file():
            stage = read_manifest(self.run, STAGES).stage
            return (_checkpoint(stage, self.run.parent.name, stage, self.run),)
        others = sorted(folder for folder in self.run.parent.iterdir() if folder != self.run)
        found = []
        for folder in (self.run, *others):
            for stage in STAGES:
                # What may not be read, or is being made anew at this moment, is not there.
                with contextlib.suppress(OSError):
                    found.append(_checkpoint(f"{folder.name}/{stage}", folder.name, stage, folder / stage))
        return tuple(found)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all models."""
        return tuple(checkpoint.name for checkpoint in self.checkpoints)

    @property
    def default(self) -> str:
        """Name of the model to begin with.

        Raises:
            ArtifactError: if there is none.
        """
        own = [checkpoint for checkpoint in self.checkpoints if checkpoint.directory.is_relative_to(self.run)]
        if not own:
            raise ArtifactError(
                f"{self.run} holds no checkpoint to talk to (looked for {', '.join(STAGES)}); "
                "train one first: snakemake"
            )
        wanted = self._settings.stage
        for checkpoint in reversed(own):
            if wanted in ("auto", checkpoint.stage):
                return checkpoint.name
        raise ArtifactError(
            f"stage {wanted!r} has no checkpoint in {self.run}; there are: {', '.join(one.stage for one in own)}. "
            "Choose one of them (chat.stage), or train it with snakemake"
        )

    def resolve(self, name: str) -> Checkpoint:
        """The checkpoint that is meant: by its name, by a stage of the run, or `auto` for the one to begin with.

        Raises:
            UnknownModelError: if there is none.
        """
        checkpoints = self.checkpoints
        if name == "auto":
            name = self.default
        for checkpoint in checkpoints:
            if name == checkpoint.name or (checkpoint.directory.parent == self.run and name == checkpoint.stage):
                return checkpoint
        raise UnknownModelError(
            f"there is no model {name[:200]!r}; there are: {', '.join(one.name for one in checkpoints) or 'none'}"
        )

    def get(self, name: str) -> ChatModel:
        """A model, loaded and verified at first use, and again after it was trained anew. May take seconds.

        Raises:
            UnknownModelError: if there is no such checkpoint.
            ArtifactError: if it is damaged.
            BusyError: if as many others as may be in memory are all in use.
        """
        checkpoint = self.resolve(name)
        found = self._known(checkpoint)
        if found is not None:
            return found
        with self._loading:  # one at a time; who asks for a model that is there does not wait
            found = self._known(checkpoint)  # others may have waited for the same
            if found is not None:
                return found
            with self._lock:
                self._loaded.pop(checkpoint.name, None)  # its memory goes before the new one comes
                self._make_room()
            log.info("loading %s", checkpoint.directory)
            loaded = load_checkpoint(checkpoint.directory, device=self._world.device)
            model = ChatModel(checkpoint.name, loaded, self._settings.slots, usable_bytes(self._world))
            with self._lock:
                self._loaded[checkpoint.name] = checkpoint.written, model
            return model

    def _known(self, checkpoint: Checkpoint) -> ChatModel | None:
        """The model, if it is loaded and of this very checkpoint."""
        with self._lock:
            made, model = self._loaded.get(checkpoint.name, (None, None))
            if model is None or made != checkpoint.written:
                return None
            self._loaded[checkpoint.name] = self._loaded.pop(checkpoint.name)
            return model

    def _make_room(self) -> None:
        while len(self._loaded) >= self._settings.models:
            idle = next((name for name, (_, model) in self._loaded.items() if model.users == 0), None)
            if idle is None:
                raise BusyError(
                    f"{len(self._loaded)} models are in use and no more are kept in memory (chat.models); try again"
                )
            del self._loaded[idle]

    def close(self) -> None:
        """Let go of every loaded model and its memory."""
        with self._lock:
            self._loaded.clear()


def _checkpoint(name: str, run: str, stage: str, directory: Path) -> Checkpoint:
    return Checkpoint(name, run, stage, directory, (directory / MANIFEST).stat().st_mtime_ns)
