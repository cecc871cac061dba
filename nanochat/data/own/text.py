"""The stage `own_text`: the user's own text as shards laid out like the public ones."""

import logging
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nanochat.artifact import Manifest, Workspace
from nanochat.config.stages import OwnTextStage
from nanochat.data.own.cutting import cut
from nanochat.data.own.readers import input_names, read_documents
from nanochat.data.own.spill import Spill, Split
from nanochat.data.own.tally import Tally
from nanochat.errors import DataError

log = logging.getLogger(__name__)

FOLDER = "datasets/own/text"
_ROW_GROUP = 1024
_ROW_GROUP_BYTES = 64 << 20
_FILES_LISTED = 50
_SCHEMA = pa.schema([("text", pa.string())])


class ShardWriter:
    """Writes one parquet shard, a row group at a time."""

    def __init__(self, path: Path) -> None:
        self.documents = 0
        self.characters = 0
        self._writer = pq.ParquetWriter(path, _SCHEMA, compression="zstd")
        self._held: list[bytes] = []
        self._bytes = 0

    def add(self, text: bytes) -> None:
        """Append a document, UTF-8."""
        self._held.append(text)
        self._bytes += len(text)
        self.documents += 1
        if len(self._held) == _ROW_GROUP or self._bytes > _ROW_GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._held:
            texts = pa.array(self._held, pa.string())
            self.characters += pc.sum(pc.utf8_length(texts)).as_py()
            self._writer.write_table(pa.table([texts], schema=_SCHEMA), row_group_size=_ROW_GROUP)
            self._held, self._bytes = [], 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if error[0] is None:
            self._flush()
        self._writer.close()


def _read(files: Sequence[Path], settings: OwnTextStage, spill: Spill, tally: Tally) -> dict[str, Any]:
    """Bring all documents to the spill; what was read, in all and of each file."""
    own = settings.own
    listed: list[dict[str, Any]] = []
    pieces_of_cut = 0
    for path in files:
        entry = {"file": str(path), "documents": 0, "characters": 0, "bytes": path.stat().st_size}
        tally.begin(entry["bytes"])
        try:
            for document in read_documents(path, own.text.column, tally, spill.folder):
                pieces = 0
                for piece in cut(document.chunks, own.text.document_chars):
                    if not piece.isspace():
                        spill.add(piece)
                        pieces += 1
                        entry["characters"] += len(piece)
                entry["documents"] += pieces
                pieces_of_cut += pieces > 1
        except DataError as error:
            if own.on_damage == "stop":
                raise
            tally.broken(path, error)
        if len(listed) < _FILES_LISTED:
            listed.append(entry)
            log.info(
                "%s: %s documents, %s characters", path.name, f"{entry['documents']:,}", f"{entry['characters']:,}"
            )
    spill.flush()
    return {"cut": pieces_of_cut, "files": listed, "files_not_listed": len(files) - len(listed)}


def _write(spill: Spill, split: Split, folder: Path) -> dict[str, int]:
    """Write the training shards and, last, the validation shard."""
    train = characters = 0
    with ShardWriter(folder / f"shard_{spill.shards:05d}.parquet") as validation:
        for number in range(spill.shards):
            with ShardWriter(folder / f"shard_{number:05d}.parquet") as shard:
                for text, held_out in spill.read(number, split):
                    (validation if held_out else shard).add(text)
            if not shard.documents:
                raise DataError(
                    f"own.text: training shard {number} of {spill.shards} would be empty, since there are only "
                    f"{split.distinct:,} different documents; lower own.text.shards to "
                    f"{max(1, min(spill.shards - 1, split.distinct // 20))} or fewer"
                )
            spill.drop(number)
            train += shard.documents
            characters += shard.characters
    return {
        "documents": train + validation.documents,
        "train_documents": train,
        "val_documents": validation.documents,
        "characters": characters + validation.characters,
        "duplicates": split.duplicates,
    }


def run(settings: OwnTextStage, *, out: Path, files: Sequence[Path], others: int = 0) -> Manifest:
    """Make shards of the user's own text in `out`: datasets/own/text/shard_<number>.parquet and manifest.json.

    Memory is bounded (a few hundred MB; 24 bytes for each document of the largest shard); the disk holds all text
    once more, uncompressed, while it works.

    Args:
        settings: `own.text.shards` training shards are made; the one after the last is the validation shard.
        out: folder to make.
        files: parquet, jsonl, json or plain text, each also .gz or .zst.
        others: files of the same folders that are no text, for the manifest.

    Returns:
        The manifest. Its metrics: documents, train_documents, val_documents, characters, duplicates (left out), cut
        (documents that were cut), skipped {reason: number}, damaged_files, problems, files,
        files_left_alone (`others`).

    Raises:
        DataError: if there are fewer than two documents, more than half would be left out (each file weighs its bytes),
            a training shard would be empty, or a file is damaged and `own.on_damage` is stop.
    """
    paths = sorted(set(files))
    if not paths:
        raise DataError("own.text.files: no file to read; name files, folders or patterns in the config")
    with Workspace(out, "own_text", settings, input_names(paths)) as workspace:
        if workspace.finished():
            return workspace.promote()
        begin = time.perf_counter()
        scratch = workspace.progress / "spill.tmp"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        try:
            tally = Tally()
            spill = Spill(scratch, settings.own.text.shards)
            about_files = _read(paths, settings, spill, tally)
            tally.check_share("own.text: documents")
            split = spill.split(settings.own.text.val_fraction)
            if split.distinct < 2:
                raise DataError(
                    f"own.text: found {split.distinct} document(s) in {len(paths):,} file(s) (copies left "
                    f"out: {split.duplicates:,}, damaged files: {len(tally.damaged):,}), expected at least 2, one "
                    "to train on and one to validate; add files, or lower own.text.document_chars so that long ones "
                    "are cut"
                )
            folder = workspace.final / FOLDER
            folder.mkdir(parents=True)
            metrics = {**_write(spill, split, folder), **tally.as_metrics(), **about_files, "files_left_alone": others}
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        seconds = time.perf_counter() - begin
        log.info(
            "own text: %s documents for training, %s for validation, %s copies and %s others left out, in %.1f s",
            f"{metrics['train_documents']:,}",
            f"{metrics['val_documents']:,}",
            f"{metrics['duplicates']:,}",
            f"{tally.left_out:,}",
            seconds,
        )
        return workspace.finish(metrics=metrics, wall_seconds=seconds)
