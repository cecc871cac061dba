"""The stage `tokens`: one shard of text as a memory-mapped token file."""

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nanochat.artifact import Manifest, Workspace, read_manifest
from nanochat.config.stages import EmptyStage
from nanochat.data.encoding import BulkEncoder
from nanochat.data.shards import ShardStats, text_batches
from nanochat.data.tokenizer import Tokenizer
from nanochat.errors import ArtifactError, DataError

log = logging.getLogger(__name__)

IDS_FILE = "tokens.bin"
OFFSETS_FILE = "offsets.npy"


@dataclass(frozen=True)
class TokenFile:
    """Documents of one shard as token ids; each starts with `<|bos|>`."""

    directory: Path
    ids: np.ndarray
    """(tokens,) uint16 or uint32, memory-mapped."""
    offsets: np.ndarray
    """(documents + 1,) int64: document i is ids[offsets[i] : offsets[i + 1]]."""
    manifest: Manifest

    @classmethod
    def read(cls, directory: Path, tokenizer_digest: str | None = None) -> "TokenFile":
        """Open a token folder.

        Args:
            directory: what the stage `tokens` has written.
            tokenizer_digest: digest of the tokenizer it must have been made with.

        Raises:
            ArtifactError: if it is missing, of another size than its manifest says, or of another tokenizer.
        """
        manifest = read_manifest(directory, "tokens")
        made_with = manifest.inputs.get("tokenizer")
        if tokenizer_digest is not None and made_with != tokenizer_digest:
            raise ArtifactError(
                f"{directory} was made with the tokenizer {str(made_with)[:12]}…, expected {tokenizer_digest[:12]}…; "
                "delete it and rerun snakemake"
            )
        for name in (IDS_FILE, OFFSETS_FILE):
            path, expected = directory / name, manifest.files[name].bytes
            found = path.stat().st_size if path.is_file() else None
            if found != expected:
                size = "missing" if found is None else f"{found:,} bytes long"
                raise ArtifactError(
                    f"{path} is {size}, its manifest says {expected:,} bytes; delete {directory} and rerun snakemake"
                )
        ids = np.memmap(directory / IDS_FILE, dtype=manifest.metrics["dtype"], mode="r")
        offsets = np.load(directory / OFFSETS_FILE, mmap_mode="r")
        if offsets[-1] != len(ids):
            raise ArtifactError(
                f"{directory}: {OFFSETS_FILE} ends at {offsets[-1]}, but {IDS_FILE} holds {len(ids)} tokens; "
                "delete it and rerun snakemake"
            )
        return cls(directory, ids, offsets, manifest)

    @property
    def documents(self) -> int:
        """Number of documents."""
        return len(self.offsets) - 1

    @property
    def tokens(self) -> int:
        """Number of tokens, `<|bos|>` included."""
        return len(self.ids)

    def document(self, index: int) -> np.ndarray:
        """Token ids of one document, memory-mapped."""
        return self.ids[self.offsets[index] : self.offsets[index + 1]]


def read_corpora(folders: Sequence[Path], tokenizer_digest: str | None = None) -> dict[str, list[TokenFile]]:
    """Open token folders, by corpus: `<tokens>/<corpus>/<shard>`.

    Raises:
        ArtifactError: as `TokenFile.read`.
    """
    corpora: dict[str, list[TokenFile]] = {}
    for folder in folders:
        corpora.setdefault(folder.parent.name, []).append(TokenFile.read(folder, tokenizer_digest))
    return corpora


def id_type(vocab_size: int) -> np.dtype:
    """The smallest of uint16 and uint32 that holds every id of a vocabulary."""
    return np.dtype(np.uint16 if vocab_size <= 1 << 16 else np.uint32)


def write_tokens(shard: Path, tokenizer: Tokenizer, directory: Path, threads: int = 1) -> dict[str, Any]:
    """Tokenize a shard into tokens.bin and offsets.npy, streaming.

    Returns:
        documents, tokens, bytes (UTF-8, without `<|bos|>`), dtype, skipped {reason: documents} and problems (the first
        documents that were left out).

    Raises:
        DataError: if the shard is damaged or has no document.
    """
    kind = id_type(tokenizer.vocab_size)
    stats = ShardStats()
    lengths = [np.zeros(1, dtype=np.int64)]
    with (directory / IDS_FILE).open("wb") as file:
        for ids, counts in BulkEncoder(tokenizer, kind, threads).encode(text_batches(shard, stats=stats)):
            ids.tofile(file)
            lengths.append(counts)
    if not stats.documents:
        raise DataError(
            f"{shard} has no document to tokenize (left out: {stats.skipped}); expected text in its column 'text'"
        )
    offsets = np.cumsum(np.concatenate(lengths))
    np.save(directory / OFFSETS_FILE, offsets)
    return {
        "documents": stats.documents,
        "tokens": int(offsets[-1]),
        "bytes": stats.bytes,
        "dtype": kind.name,
        "skipped": stats.skipped,
        "problems": [asdict(problem) for problem in stats.problems],
    }


def run(settings: EmptyStage, *, out: Path, shard: Path, tokenizer: Path, threads: int = 1) -> Manifest:
    """Tokenize one shard into `out` as {tokens.bin, offsets.npy, manifest.json}.

    Raises:
        DataError: if the shard is damaged or empty.
        ArtifactError: if the shard or the tokenizer is missing or damaged.
    """
    with Workspace(out, "tokens", settings, {"shard": shard, "tokenizer": tokenizer}) as workspace:
        if workspace.finished():
            return workspace.promote()
        begin = time.perf_counter()
        metrics = write_tokens(shard, Tokenizer.load(tokenizer), workspace.final, threads)
        seconds = time.perf_counter() - begin
        log.info("%s: %d documents, %d tokens in %.1f s", shard.name, metrics["documents"], metrics["tokens"], seconds)
        return workspace.finish(metrics=metrics, tokens=metrics["tokens"], wall_seconds=seconds)
