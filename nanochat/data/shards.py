"""Text shards: parquet files with a column of documents.

Everything that a shard holds is given out, or left out for a reason that is counted, or the reading ends with an
error: a stream is never silently short.
"""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nanochat.errors import DataError

log = logging.getLogger(__name__)

REASONS = ("null", "empty", "not_utf8")
"""Why a document is left out: no value; nothing but blanks; bytes that are no UTF-8."""
_REMEMBERED = 20
_BATCH_BYTES = 8 << 20
_BUFFER_BYTES = 1 << 20  # compressed bytes read at a time: a row group may be larger than the memory
_SLICES = 16  # in a batch, of rows of average length: few rows beside a huge document
_SLICE_ROWS = 512  # averages do not know how often a document repeats in a row group with a dictionary


@dataclass(frozen=True)
class Wording:
    """How errors speak of a file."""

    name: Path | None = None
    """What it is called, where that is not where it lies."""
    missing: str = "rerun snakemake to fetch it"
    damaged: str = "delete it and fetch it again"
    column: str = "expected a shard of text"
    """What to do about a column that is missing or not text."""


FETCHED = Wording()
"""A shard of the hub."""


@dataclass(frozen=True)
class Problem:
    """A document that was left out."""

    row: int
    """Row in the file, counted from 1 as lines are."""
    reason: str


@dataclass
class ShardStats:
    """What has been given out and left out of one or more shards so far."""

    documents: int = 0
    characters: int = 0
    bytes: int = 0
    """Of UTF-8."""
    skipped: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REASONS, 0))
    """Documents left out, by reason."""
    problems: list[Problem] = field(default_factory=list)
    """The first of those left out."""

    def skip(self, row: int, reason: str) -> None:
        """Count a document that is left out; the first ones are remembered."""
        self.skipped[reason] += 1
        if len(self.problems) < _REMEMBERED:
            self.problems.append(Problem(row, reason))

    def as_metrics(self) -> dict[str, Any]:
        """`skipped` and `problems` as a manifest holds them."""
        return {"skipped": dict(self.skipped), "problems": [vars(problem).copy() for problem in self.problems]}


def check_parquet(path: Path, wording: Wording = FETCHED) -> pq.FileMetaData:
    """Read the footer of a parquet file and check that the columns it lists fit into the file.

    Raises:
        DataError: if the file is missing, truncated or no parquet file.
    """
    name = wording.name or path
    if not path.is_file():
        raise DataError(f"{name} does not exist; {wording.missing}")
    size = path.stat().st_size
    try:
        metadata = pq.read_metadata(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{name} ({size:,} bytes) has no readable Parquet footer, so it is truncated or damaged "
            f"({_first_line(error)}); {wording.damaged}"
        ) from None
    for group in range(metadata.num_row_groups):
        for number in range(metadata.num_columns):
            column = metadata.row_group(group).column(number)
            begin = column.dictionary_page_offset or column.data_page_offset
            if begin + column.total_compressed_size > size:
                raise DataError(
                    f"{name} has {size:,} bytes, but column {column.path_in_schema} of row group {group} ends at byte "
                    f"{begin + column.total_compressed_size:,}: the file is damaged; {wording.damaged}"
                )
    return metadata


def documents(path: Path, column: str = "text", stats: ShardStats | None = None) -> Iterator[str]:
    """Documents of a shard in order, about a megabyte in memory at a time, or the longest document.

    Nulls, documents of nothing but blanks and such that are no UTF-8 are left out, counted and named in a warning.

    Args:
        path: parquet file.
        column: its column of strings.
        stats: counted up while reading, where given; what is left out may be counted a few documents ahead.

    Raises:
        DataError: if the file is truncated, the column is missing or not text, or a row group cannot be decoded.
    """
    stats = stats if stats is not None else ShardStats()
    for array in _kept(path, column, stats, _BATCH_BYTES):
        for value in array:
            text = value.as_py()
            stats.documents += 1
            stats.characters += len(text)
            stats.bytes += value.as_buffer().size
            yield text


def text_batches(
    path: Path, column: str = "text", stats: ShardStats | None = None, batch_bytes: int = _BATCH_BYTES
) -> Iterator[pa.LargeStringArray]:
    """Documents of a shard in order, as Arrow arrays; the same ones as `documents`.

    Args:
        path: parquet file.
        column: its column of strings.
        stats: counted up batch by batch, where given.
        batch_bytes: text of a batch at most, UTF-8; a longer document is a batch of its own.

    Yields:
        Arrays without nulls, blank documents and invalid UTF-8, none empty. They may be slices: their offsets start
        anywhere.

    Raises:
        DataError: as `documents`.
    """
    stats = stats if stats is not None else ShardStats()
    for batch in _grouped(_kept(path, column, stats, batch_bytes), batch_bytes):
        stats.documents += len(batch)
        stats.characters += pc.sum(pc.utf8_length(batch)).as_py()
        stats.bytes += int(np.ptp(_offsets(batch)))
        yield batch


def _kept(path: Path, column: str, stats: ShardStats, batch_bytes: int) -> Iterator[pa.LargeStringArray]:
    """The documents of each slice that are kept; counts the others, and warns of them at the end."""
    own = ShardStats()  # `stats` may have seen other shards
    for row, values in row_slices(path, column, batch_bytes):
        array, left_out = _sort_out(values)
        for index, reason in left_out:
            own.skip(row + index + 1, reason)
            stats.skip(row + index + 1, reason)
        if len(array):
            yield array
    if own.problems:
        counts = ", ".join(f"{count:,} {reason}" for reason, count in own.skipped.items() if count)
        rows = ", ".join(f"{problem.row} ({problem.reason})" for problem in own.problems[:5])
        more = ", …" if sum(own.skipped.values()) > 5 else ""
        log.warning("%s: documents left out: %s; the first are rows %s%s", path, counts, rows, more)


def row_slices(
    path: Path, column: str = "text", batch_bytes: int = _BATCH_BYTES, wording: Wording = FETCHED
) -> Iterator[tuple[int, pa.LargeBinaryArray]]:
    """All rows of a column of strings, some at a time: the one way in which text is read from parquet files.

    Args:
        path: parquet file.
        column: its column of strings, in any of Arrow's layouts.
        batch_bytes: a slice has a sixteenth of it where rows are of average length, and at least one row.
        wording: of errors.

    Yields:
        (rows before, values): the bytes of each row, or null; whether they are UTF-8 is not checked.

    Raises:
        DataError: if the file is truncated, the column is missing or not text, or a row group cannot be decoded or ends
            before its last row.
    """
    metadata = check_parquet(path, wording)
    name = wording.name or path
    row = 0
    with pq.ParquetFile(path, metadata=metadata, buffer_size=_BUFFER_BYTES, page_checksum_verification=True) as file:
        number = _check_column(file, column, wording, name)
        for index in range(metadata.num_row_groups):
            group = metadata.row_group(index)
            end = row + group.num_rows
            place = f"{name}: row group {index} of {metadata.num_row_groups} (rows {row + 1:,} to {end:,})"
            average = group.column(number).total_uncompressed_size // max(1, group.num_rows)
            rows = min(_SLICE_ROWS, max(1, batch_bytes // (_SLICES * max(1, average))))
            batches = file.iter_batches(rows, row_groups=[index], columns=[column], use_threads=False)
            while (values := _next(batches, place, row, wording)) is not None:
                yield row, values
                row += len(values)
            if row != end:
                raise DataError(f"{place} ends before row {row + 1:,}: the file is damaged; {wording.damaged}")


def _next(batches: Iterator[pa.RecordBatch], place: str, row: int, wording: Wording) -> pa.LargeBinaryArray | None:
    try:
        batch = next(batches, None)
        return None if batch is None else _binary(batch.column(0))
    except MemoryError as error:
        raise DataError(
            f"{place} does not fit the memory at row {row + 1:,} ({_first_line(error)}): pages of a parquet file are "
            "read whole; free memory or write the file with smaller pages; if its documents are short, it is damaged: "
            f"{wording.damaged}"
        ) from None
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{place} cannot be read: row {row + 1:,} or one after it ({_first_line(error)}); the file is damaged: "
            f"{wording.damaged}"
        ) from None


def _check_column(file: pq.ParquetFile, column: str, wording: Wording, name: Path) -> int:
    """Number of the column, which must hold text."""
    schema = file.schema_arrow
    if schema.names.count(column) != 1:
        found = "no column" if column not in schema.names else "more than one column"
        raise DataError(f"{name} has {found} {column!r}, it has {', '.join(schema.names) or 'none'}; {wording.column}")
    kind = schema.field(column).type
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (pa.types.is_string(plain) or pa.types.is_large_string(plain) or pa.types.is_string_view(plain)):
        raise DataError(f"{name}: column {column!r} is of type {kind}, expected string; {wording.column}")
    return next(n for n in range(file.metadata.num_columns) if file.metadata.schema.column(n).path == column)


def _binary(values: pa.Array) -> pa.LargeBinaryArray:
    """The bytes of strings of any layout; nothing is checked yet."""
    plain = values.dictionary_decode() if pa.types.is_dictionary(values.type) else values
    return plain.cast(pa.large_binary())


def _sort_out(values: pa.LargeBinaryArray) -> tuple[pa.LargeStringArray, list[tuple[int, str]]]:
    """The documents to keep, and (index, reason) of the others in order."""
    reasons: dict[int, str] = {}
    kept = np.arange(len(values))

    def leave_out(which: np.ndarray, reason: str) -> pa.Array:
        nonlocal kept
        reasons.update(dict.fromkeys(kept[which].tolist(), reason))
        kept = kept[~which]
        return pa.array(~which)

    if values.null_count:
        values = values.filter(leave_out(np.asarray(values.is_null()), "null"))
    try:
        texts = values.cast(pa.large_string())
    except pa.ArrowInvalid:  # says only that there is such a document
        broken = np.array([not _is_utf8(value.as_py()) for value in values])
        texts = values.filter(leave_out(broken, "not_utf8")).cast(pa.large_string())
    blank = pc.or_(pc.utf8_is_space(texts), pc.equal(pc.binary_length(texts), 0))  # the empty text is no space
    if pc.any(blank).as_py():
        texts = texts.filter(leave_out(np.asarray(blank), "empty"))
    return texts, sorted(reasons.items())


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _grouped(arrays: Iterable[pa.LargeStringArray], limit: int) -> Iterator[pa.LargeStringArray]:
    """The same documents in arrays of at most `limit` bytes, or of one document."""
    waiting: list[pa.LargeStringArray] = []
    size = 0
    for array in arrays:
        offsets = _offsets(array)
        begin = 0
        while begin < len(array):
            end = int(np.searchsorted(offsets, offsets[begin] + limit - size, side="right")) - 1
            if end <= begin and not waiting:
                end = begin + 1
            if end > begin:
                waiting.append(array[begin:end])
                size += int(offsets[end] - offsets[begin])
            if end < len(array) or size >= limit:
                yield _together(waiting)
                waiting, size = [], 0
            begin = max(begin, end)
    if waiting:
        yield _together(waiting)


def _together(arrays: list[pa.LargeStringArray]) -> pa.LargeStringArray:
    return arrays[0] if len(arrays) == 1 else pa.concat_arrays(arrays)


def _offsets(array: pa.LargeStringArray) -> np.ndarray:
    """(len + 1,) int64: where each document begins and ends in the array's bytes."""
    return np.frombuffer(array.buffers()[1], dtype=np.int64)[array.offset : array.offset + len(array) + 1]


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
