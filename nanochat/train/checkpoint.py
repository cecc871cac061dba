"""Step checkpoints: what a killed stage continues from.

Every random choice of training is made from (seed, step), so that weights, optimizer state and a few counters are
all there is to save. Training waits only until they are copied; a thread of lower priority does the rest.
"""

import json
import logging
import os
import shutil
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor

from nanochat.artifact import digest_file
from nanochat.errors import ArtifactError
from nanochat.model.checkpoint import load_tensors, save_tensors
from nanochat.runtime import World
from nanochat.train.background import lower_priority

log = logging.getLogger(__name__)

_TENSORS = "state.safetensors"
_META = "state.json"


@dataclass(frozen=True)
class StepState:
    """A step checkpoint: tensors, and counters that fit into JSON."""

    step: int
    tensors: Mapping[str, Tensor]
    meta: dict[str, Any]


class _Staging:
    """Copies of tensors in memory of the host, which is allocated once."""

    def __init__(self) -> None:
        self.buffers: dict[str, Tensor] = {}
        self._stream: torch.cuda.Stream | None = None
        self._copied: torch.cuda.Event | None = None

    def buffer(self, name: str, like: Tensor) -> Tensor:
        """The memory of a tensor's copy; each page is touched when it is made, so that copying is fast."""
        found = self.buffers.get(name)
        if found is None or (found.shape, found.dtype) != (like.shape, like.dtype):
            found = torch.empty(like.shape, dtype=like.dtype, pin_memory=like.is_cuda).zero_()
            self.buffers[name] = found
        return found

    @torch.no_grad()
    def copy(self, items: Iterable[tuple[str, Tensor]], *, passing: bool) -> None:
        """Copy tensors; from a GPU the copies are only begun, on a stream of their own.

        Args:
            items: (name, tensor).
            passing: whether each tensor exists for this only, so that its memory is used again for the next.
        """
        for name, value in items:
            buffer = self.buffer(name, value)
            if not value.is_cuda:
                buffer.copy_(value)
                continue
            if self._stream is None:
                self._stream = torch.cuda.Stream(value.device)
            training = torch.cuda.current_stream(value.device)
            self._stream.wait_stream(training)
            with torch.cuda.stream(self._stream):
                buffer.copy_(value, non_blocking=True)
            if passing:
                training.wait_stream(self._stream)
        if self._stream is not None:
            self._copied = self._stream.record_event()

    def before_update(self) -> None:
        """Make the GPU's coming work wait for the copies."""
        if self._copied is not None:
            torch.cuda.current_stream().wait_event(self._copied)

    def wait(self) -> None:
        """Wait for the copies."""
        if self._copied is not None:
            self._copied.synchronize()


def _force_to_disk(folder: Path) -> None:
    """Make the renames and new names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class StepCheckpoints:
    """Step checkpoints of one stage in `progress`/steps/; the main rank writes, every rank reads.

    As a context manager it ends with the pending write, whatever ended the block.
    """

    def __init__(self, progress: Path, world: World, keep: int = 2) -> None:
        self.folder = progress / "steps"
        self.world = world
        self.keep = keep
        self._staging = _Staging()
        self._writing: threading.Thread | None = None
        self._error: Exception | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.wait()
        except ArtifactError as failed:
            if kind is None:
                raise
            log.warning("%s", failed)  # the first error is the one to tell

    def _all(self) -> list[tuple[int, Path]]:
        found = [(int(path.name), path) for path in self.folder.glob("*") if path.name.isdigit()]
        return sorted(found, reverse=True)

    def reserve(self, items: Iterable[tuple[str, Tensor]]) -> None:
        """Allocate the memory for copies of tensors like these, so that the first `save` is as fast as the others."""
        for name, value in items:
            if self.world.is_main:
                self._staging.buffer(name, value)

    def save(self, step: int, items: Iterable[tuple[str, Tensor]], meta: Mapping[str, Any]) -> None:
        """Copy a state and have it written by a thread; waits for the write before to end.

        Tensors on a GPU may be overwritten only after `before_update`.

        Args:
            step: of the state.
            items: (name, tensor), the same on every rank; with several ranks each may be gathered from them when it is
                asked for, and every rank goes through all of them.
            meta: counters.

        Raises:
            ArtifactError: if the write before failed.
        """
        self.wait()
        if not self.world.is_main:
            for _ in items:
                pass
            return
        self._staging.copy(items, passing=self.world.size > 1)
        self._writing = threading.Thread(target=self._write, args=(step, meta), name="checkpoint")
        self._writing.start()

    def before_update(self) -> None:
        """To be called before saved tensors change: lets a copy that a GPU still makes end first."""
        if self._writing is not None:
            self._staging.before_update()

    def check(self) -> None:
        """Raise the error of a write that has ended; returns at once.

        Raises:
            ArtifactError: if it failed.
        """
        if self._writing is not None and not self._writing.is_alive():
            self.wait()

    def wait(self) -> None:
        """Wait for the pending write.

        Raises:
            ArtifactError: if it failed.
        """
        if self._writing is not None:
            self._writing.join()
            self._writing = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _write(self, step: int, meta: Mapping[str, Any]) -> None:
        lower_priority()
        temporary = self.folder / "saving.tmp"
        try:
            self._staging.wait()
            self._write_below(temporary, step, meta)
        except OSError as error:
            self._error = ArtifactError(
                f"the step checkpoint of step {step} cannot be written to {self.folder} ({error}); "
                "free some space and run the same command"
            )
        except Exception as error:  # the loop's to raise
            self._error = error
        if self._error is not None:
            shutil.rmtree(temporary, ignore_errors=True)

    def _write_below(self, temporary: Path, step: int, meta: Mapping[str, Any]) -> None:
        """Write a checkpoint under a temporary name, rename it, and remove the ones beyond `keep`."""
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        digest = save_tensors(temporary / _TENSORS, self._staging.buffers)
        with (temporary / _META).open("w") as file:
            json.dump({"step": step, "meta": meta, "sha256": digest}, file)
            file.flush()
            os.fsync(file.fileno())
        _force_to_disk(temporary)
        target = self.folder / f"{step:08d}"
        shutil.rmtree(target, ignore_errors=True)
        temporary.replace(target)
        _force_to_disk(self.folder)
        for _, path in self._all()[self.keep :]:
            shutil.rmtree(path, ignore_errors=True)

    def _newest_whole(self) -> Path | None:
        for step, path in self._all():
            try:
                meta = json.loads((path / _META).read_text())
                if digest_file(path / _TENSORS) == meta["sha256"]:
                    return path
            except (FileNotFoundError, ValueError, KeyError):
                pass
            except OSError as error:  # a network that is down, a missing right: no reason to throw hours of work away
                raise ArtifactError(
                    f"step checkpoint {path} cannot be read ({error}); mend that and run the same command, or delete it"
                ) from None
            log.warning("step checkpoint %d (%s) is damaged; using the one before it", step, path)
            shutil.rmtree(path, ignore_errors=True)
        return None

    def load_latest(self, device: torch.device | str = "cpu") -> StepState | None:
        """The newest checkpoint whose digest is right, or None; damaged ones are removed.

        Raises:
            ArtifactError: if a pending write failed.
        """
        self.wait()
        path = self.world.broadcast_object(self._newest_whole() if self.world.is_main else None)
        if path is None:
            return None
        meta = json.loads((path / _META).read_text())
        return StepState(meta["step"], load_tensors(path / _TENSORS, device), meta["meta"])
