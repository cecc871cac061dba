"""Read what a report may speak of from a run folder; what is absent or unreadable becomes a note, not an error."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import yaml

from nanochat.artifact import Manifest, read_manifest, verify
from nanochat.errors import ArtifactError
from nanochat.metrics import read_metrics
from nanochat.report.numbers import count, number

CHECKPOINTS = ("base", "mid", "sft", "rl")
# Key of the artifact → its folder below the run folder, in the order of the DAG.
FOLDERS = {
    "tokenizer": "tokenizer",
    "tokenizer_eval": "eval/tokenizer",
    "base": "base",
    "base_eval": "eval/base",
    "mid": "mid",
    "mid_eval": "eval/mid",
    "sft": "sft",
    "sft_eval": "eval/sft",
    "rl": "rl",
    "rl_eval": "eval/rl",
}

State = Literal["done", "damaged", "unfinished", "missing", "off"]


@dataclass(frozen=True)
class Artifact:
    """One artifact as it lies on disk now."""

    key: str
    directory: Path
    state: State
    note: str = ""
    """Why it is not simply there; empty where it is."""
    manifest: Manifest | None = None
    history: pd.DataFrame = field(default_factory=pd.DataFrame)
    """metrics.jsonl, one row per logged step."""
    samples: str = ""
    """samples.md."""
    scores: tuple[dict[str, Any], ...] = ()
    """Entries of scores.json."""
    summary: dict[str, Any] = field(default_factory=dict)
    """Aggregates of scores.json."""

    @property
    def title(self) -> str:
        """The rule's name, with the checkpoint for chat evaluations: `chat_eval of sft`."""
        checkpoint = self.key.removesuffix("_eval")
        return (
            f"chat_eval of {checkpoint}" if self.key.endswith("_eval") and checkpoint in CHECKPOINTS[1:] else self.key
        )

    @property
    def metrics(self) -> dict[str, Any]:
        """Final metrics of the manifest; empty where there is none."""
        return self.manifest.metrics if self.manifest else {}

    @property
    def settings(self) -> dict[str, Any]:
        """Settings view of the manifest; empty where there is none."""
        return self.manifest.settings if self.manifest else {}

    def metric(self, *names: str) -> float | None:
        """The first of these final metrics that is a number."""
        return next((known for name in names if (known := number(self.metrics.get(name))) is not None), None)

    def logged(self, name: str) -> pd.Series:
        """Finite logged values of a metric, indexed by step; empty where it was never logged."""
        if name not in self.history or "step" not in self.history:
            return pd.Series(dtype=float)
        values = pd.to_numeric(self.history[name], errors="coerce")
        values.index = pd.Index(pd.to_numeric(self.history["step"], errors="coerce"), name="step")
        return values[values.abs() < float("inf")].dropna()


@dataclass(frozen=True)
class Run:
    """A run folder, read."""

    folder: Path
    config: dict[str, Any]
    artifacts: dict[str, Artifact]
    tokens: tuple[tuple[str, Manifest], ...]
    """Shard, as `<corpus>/<shard>` where there are several corpora, and manifest of every token folder."""
    sources: tuple[tuple[str, Manifest], ...]
    """Name and manifest of every folder that was made of the user's own data."""
    benchmarks: pd.DataFrame
    """Snakemake's benchmark files: job, seconds, cpu_seconds, memory_bytes."""
    warnings: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name of the run: its folder's."""
        return self.folder.resolve().name

    @property
    def done(self) -> list[Artifact]:
        """Artifacts whose manifest could be read."""
        return [artifact for artifact in self.artifacts.values() if artifact.manifest]


def collect(run_folder: Path, token_folders: Sequence[Path], sources: Sequence[Path] = ()) -> Run:
    """Read a run folder, the token folders it was trained on, and what its text and conversations were made of.

    Never raises for what is missing or damaged.
    """
    warnings: list[str] = []
    config = _read_config(run_folder / "config.yaml", warnings)
    artifacts = {key: _artifact(key, run_folder, config, warnings) for key in FOLDERS}
    tokens = _manifests(token_folders, "tokens", warnings)
    own = _manifests(sources, None, warnings)
    return Run(run_folder, config, artifacts, tokens, own, _read_benchmarks(run_folder), tuple(warnings))


def _manifests(folders: Sequence[Path], stage: str | None, warnings: list[str]) -> tuple[tuple[str, Manifest], ...]:
    found = []
    several = len({folder.parent for folder in folders}) > 1
    for folder in folders:
        name = f"{folder.parent.name}/{folder.name}" if several else folder.name
        try:
            found.append((name, read_manifest(folder, stage)))
        except ArtifactError as error:
            warnings.append(str(error))
    return tuple(found)


def _read_config(path: Path, warnings: list[str]) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        values = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        warnings.append(f"{path} cannot be read: {' '.join(str(error).split())}")
        return {}
    return values if isinstance(values, dict) else {}


def _artifact(key: str, run_folder: Path, config: dict[str, Any], warnings: list[str]) -> Artifact:
    directory = run_folder / FOLDERS[key]
    if not directory.is_dir():
        state, note = _absence(key, directory, config)
        return Artifact(key, directory, state, note)
    try:
        manifest = read_manifest(directory)
    except ArtifactError as error:
        warnings.append(str(error))
        return Artifact(key, directory, "damaged", "damaged: its manifest cannot be read")
    state, note = "done", ""
    try:
        verify(directory)
    except ArtifactError as error:
        warnings.append(str(error))
        state, note = "damaged", "damaged: a file does not match the manifest"
    scores, summary = _read_scores(directory / "scores.json", warnings)
    history = pd.DataFrame([row for row in read_metrics(directory / "metrics.jsonl") if isinstance(row, dict)])
    samples = directory / "samples.md"
    text = samples.read_text(errors="replace") if samples.is_file() else ""
    return Artifact(key, directory, state, note, manifest, history, text, scores, summary)


def _absence(key: str, directory: Path, config: dict[str, Any]) -> tuple[State, str]:
    """Why an artifact is not there: switched off, begun and interrupted, or never begun."""
    rl = config.get("rl")
    if key in ("rl", "rl_eval") and isinstance(rl, dict) and rl.get("enabled") is False:
        return "off", "switched off in the configuration (rl.enabled: false)"
    progress = directory.parent / ".progress" / directory.name
    steps = [
        known
        for path in progress.glob("*/metrics.jsonl")
        for row in read_metrics(path)
        if isinstance(row, dict) and (known := number(row.get("step"))) is not None
    ]
    if steps:
        return "unfinished", f"interrupted after step {count(max(steps))}; the next snakemake run resumes it"
    return "missing", "not run"


def _read_scores(path: Path, warnings: list[str]) -> tuple[tuple[dict[str, Any], ...], dict[str, Any]]:
    if not path.is_file():
        return (), {}
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        warnings.append(f"{path} cannot be read: {error}")
        return (), {}
    if not isinstance(content, dict):
        return (), {}
    scores, summary = content.get("scores"), content.get("summary")
    rows = tuple(row for row in scores if isinstance(row, dict)) if isinstance(scores, list) else ()
    return rows, summary if isinstance(summary, dict) else {}


def _read_benchmarks(run_folder: Path) -> pd.DataFrame:
    rows = []
    folder = run_folder / "benchmarks"
    for path in sorted(folder.rglob("*.tsv")):
        try:
            table = pd.read_csv(path, sep="\t")
        except (OSError, ValueError):  # empty: the job was killed while it was being written
            continue
        known = {
            name: pd.to_numeric(table[name], errors="coerce") if name in table else pd.Series(dtype=float)
            for name in ("s", "max_rss", "cpu_time")
        }
        rows.append(
            {
                "job": _job(path.relative_to(folder).with_suffix("").as_posix()),
                "seconds": known["s"].sum(min_count=1),
                "cpu_seconds": known["cpu_time"].sum(min_count=1),
                "memory_bytes": known["max_rss"].max() * 2**20,  # Snakemake writes MiB
            }
        )
    return pd.DataFrame(rows, columns=["job", "seconds", "cpu_seconds", "memory_bytes"])


def _job(path: str) -> str:
    """The artifact key or rule that a benchmark file belongs to: `tokens/shard_00003` → `tokens`."""
    words = re.split(r"[/._-]", path)
    if path.startswith("chat_eval"):
        stage = next((word for word in words if word in CHECKPOINTS), None)
        return f"{stage}_eval" if stage else "chat_eval"
    head = re.split(r"[/.]", path)[0]
    return re.sub(r"[_-]?(shard[_-]?)?\d+$", "", head) or head
