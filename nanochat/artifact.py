"""Artifact directories: a manifest, digests, one writer, an in-progress folder that survives kills, atomic promotion.

Snakemake deletes the declared output of every failed job, so a stage works in an undeclared folder beside its output,
`<parent>/.progress/<name>/<fingerprint>/`, keyed by what the result depends on. A finished result is moved to
`final` in there and hard-linked into the output with one rename; it is kept, so that a rerun only links it again.
"""

import contextlib
import fcntl
import hashlib
import importlib.metadata
import json
import logging
import os
import platform
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from nanochat.config.base import Settings
from nanochat.errors import ArtifactError

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
_LIBRARIES = ("torch", "triton", "numpy", "pyarrow", "tokenizers", "safetensors", "pydantic", "snakemake")


class FileEntry(BaseModel):
    """One file of an artifact."""

    bytes: int
    sha256: str
    log: bool = False
    """A record of how it was made (timings); not part of the artifact's digest."""


class Manifest(BaseModel):
    """What an artifact is, what it was made from, and how: `manifest.json`, written last."""

    model_config = ConfigDict(extra="forbid")

    schema_version: int = SCHEMA_VERSION
    stage: str
    fingerprint: str
    created: str
    settings: dict[str, Any]
    inputs: dict[str, str]
    files: dict[str, FileEntry]
    code: dict[str, Any]
    libraries: dict[str, str]
    hardware: dict[str, Any] = {}
    steps: int | None = None
    tokens: int | None = None
    flops: float | None = None
    wall_seconds: float | None = None
    peak_memory_bytes: int | None = None
    metrics: dict[str, Any] = {}

    @property
    def digest(self) -> str:
        """SHA-256 of stage, settings, inputs and content files: equal for equal results, whenever and wherever made."""
        files = {name: entry.sha256 for name, entry in self.files.items() if not entry.log}
        return _digest_json([self.stage, self.settings, self.inputs, files])


def _digest_json(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256 of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _files_below(directory: Path) -> list[Path]:
    # Snakemake leaves .snakemake_timestamp in directory outputs; hidden files are never part of an artifact.
    return sorted(p for p in directory.rglob("*") if p.is_file() and not p.name.startswith("."))


def read_manifest(directory: Path, stage: str | Sequence[str] | None = None) -> Manifest:
    """Read the manifest of an artifact directory, and check its stage where one is given.

    Raises:
        ArtifactError: if there is none, it cannot be read, or it is of another stage.
    """
    path = directory / MANIFEST
    try:
        manifest = Manifest.model_validate_json(path.read_text())
    except FileNotFoundError:
        raise ArtifactError(
            f"{directory} holds no {MANIFEST}: not a finished artifact; rerun snakemake to make it"
        ) from None
    except (OSError, ValidationError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise ArtifactError(f"{path} is damaged ({reason}); delete {directory} and rerun snakemake") from None
    stages = [stage] if isinstance(stage, str) else stage
    if stages is not None and manifest.stage not in stages:
        raise ArtifactError(f"{directory} is an artifact of stage {manifest.stage}, expected {' or '.join(stages)}")
    return manifest


def verify(directory: Path) -> Manifest:
    """Re-read every file of an artifact and compare it with the manifest.

    Raises:
        ArtifactError: naming the first file that is missing, of another size or of another digest.
    """
    manifest = read_manifest(directory)
    for name, entry in manifest.files.items():
        path = directory / name
        if not path.is_file():
            raise ArtifactError(
                f"{path} is missing although the manifest lists it; delete {directory} and rerun snakemake"
            )
        size = path.stat().st_size
        if size != entry.bytes:
            raise ArtifactError(
                f"{path} has {size} bytes, the manifest says {entry.bytes}; delete {directory} and rerun snakemake"
            )
        if digest_file(path) != entry.sha256:
            raise ArtifactError(
                f"{path} does not have the SHA-256 {entry.sha256[:12]}… of its manifest: the file is damaged; "
                f"delete {directory} and rerun snakemake"
            )
    return manifest


def input_digest(path: Path) -> str:
    """Digest of an input: a verified artifact's, a plain file's SHA-256, or that of a plain folder's files.

    Raises:
        ArtifactError: if it is missing or damaged.
    """
    if path.is_dir():
        if (path / MANIFEST).exists():
            return verify(path).digest
        return _digest_json({str(p.relative_to(path)): digest_file(p) for p in _files_below(path)})
    if not path.is_file():
        raise ArtifactError(f"input {path} does not exist; rerun snakemake to make it")
    return digest_file(path)


def fingerprint(stage: str, settings: Settings, inputs: Mapping[str, str]) -> str:
    """Key of an in-progress folder: equal settings and inputs continue each other's work."""
    return _digest_json([stage, settings.model_dump(mode="json"), dict(inputs)])[:16]


def write_atomically(path: Path, text: str, *, mode: int = 0o666) -> None:
    """Write a text file under a temporary name and rename it, so that a reader never sees half of it.

    Args:
        path: of the file; its folder is made where there is none.
        text: what it will hold.
        mode: who may read and write it, before the process's own mask.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _code_version() -> dict[str, Any]:
    package = Path(__file__).parent
    version: dict[str, Any] = {"version": importlib.metadata.version("nanochat-workflow")}
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        run = ["git", "-C", str(package), "describe", "--always", "--dirty", "--abbrev=12", "--match="]
        version["commit"] = subprocess.run(run, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    return version


def _library_versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in _LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


class Workspace:
    """One writer's hold on an artifact in the making.

    Use as a context manager. Entering verifies the inputs, takes the lock (waiting for another process that holds it,
    as a killed snakemake leaves its child running) and creates the in-progress folder. Under torchrun the main rank
    writes; other ranks pass their `rank` and only read.
    """

    def __init__(self, out: Path, stage: str, settings: Settings, inputs: Mapping[str, Path], *, rank: int = 0) -> None:
        self.out = out
        self.stage = stage
        self.settings = settings
        self.rank = rank
        self.inputs = {name: input_digest(path) for name, path in inputs.items()}
        self.fingerprint = fingerprint(stage, settings, self.inputs)
        self.progress = out.parent / ".progress" / out.name / self.fingerprint
        self.final = self.progress / "final.tmp"
        self._lock: Any = None

    def __enter__(self) -> Self:
        self.progress.mkdir(parents=True, exist_ok=True)
        if self.rank == 0:
            self._take_lock()
            shutil.rmtree(self.final, ignore_errors=True)
            self.final.mkdir()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _take_lock(self) -> None:
        lock = (self.progress.parent / "lock").open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            log.warning(
                "%s is being made by another process: %s. Waiting for it to end.",
                self.out,
                lock.read().strip(),
            )
            fcntl.flock(lock, fcntl.LOCK_EX)
        lock.seek(0)
        lock.truncate()
        since = datetime.now(UTC).isoformat(timespec="seconds")
        lock.write(f"pid {os.getpid()} on {socket.gethostname()} since {since} ({' '.join(sys.argv)[:200]})\n")
        lock.flush()
        self._lock = lock

    @property
    def _done(self) -> Path:
        return self.progress / "final"

    def finished(self) -> bool:
        """Whether a complete result lies in the in-progress folder; a damaged one is removed."""
        if not (self._done / MANIFEST).exists():
            return False
        try:
            verify(self._done)
        except ArtifactError as error:
            log.warning("finished result is damaged and will be made again: %s", error)
            if self.rank == 0:
                shutil.rmtree(self._done)
            return False
        log.info("%s: made before from the same inputs and settings; it is linked, not made again", self.out)
        return True

    def finish(
        self,
        *,
        metrics: Mapping[str, Any] | None = None,
        hardware: Mapping[str, Any] | None = None,
        steps: int | None = None,
        tokens: int | None = None,
        flops: float | None = None,
        wall_seconds: float | None = None,
        peak_memory_bytes: int | None = None,
        logs: Sequence[str] = ("metrics.jsonl",),
    ) -> Manifest:
        """Write the manifest over the files in `final`, last, and promote the artifact to its output.

        The arguments are the manifest's fields of these names; `logs` names files that record how it was made and
        stay out of the artifact's digest.
        """
        files = {}
        for path in _files_below(self.final):
            name = str(path.relative_to(self.final))
            files[name] = FileEntry(bytes=path.stat().st_size, sha256=digest_file(path), log=name in logs)
            with path.open("rb") as file:
                os.fsync(file.fileno())
        manifest = Manifest(
            stage=self.stage,
            fingerprint=self.fingerprint,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            settings=self.settings.model_dump(mode="json"),
            inputs=self.inputs,
            files=files,
            code=_code_version(),
            libraries=_library_versions(),
            hardware=dict(hardware or {}),
            steps=steps,
            tokens=tokens,
            flops=flops,
            wall_seconds=wall_seconds,
            peak_memory_bytes=peak_memory_bytes,
            metrics=dict(metrics or {}),
        )
        write_atomically(self.final / MANIFEST, manifest.model_dump_json(indent=2) + "\n")
        shutil.rmtree(self._done, ignore_errors=True)
        self.final.replace(self._done)
        return self.promote()

    def promote(self) -> Manifest:
        """Hard-link the finished result into the output, with one rename."""
        manifest = read_manifest(self._done)
        temporary = self.out.with_name(f".{self.out.name}.tmp")
        previous = self.out.with_name(f".{self.out.name}.old")
        for leftover in (temporary, previous, self.final):
            shutil.rmtree(leftover, ignore_errors=True)
        shutil.copytree(self._done, temporary, copy_function=_link_or_copy)
        if self.out.exists():
            self.out.replace(previous)
        temporary.replace(self.out)
        shutil.rmtree(previous, ignore_errors=True)
        return manifest


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copy2(source, target)
