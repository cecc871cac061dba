"""Text shards: parquet files with a column of documents."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from nanochat.errors import DataError

log = logging.getLogger(__name__)

_BATCH_DOCUMENTS = 1024


@dataclass
class ShardStats:
    """What `documents` has given out and left out so far."""

    documents: int = 0
    characters: int = 0
    null: int = 0
    empty: int = 0

    @property
    def skipped(self) -> dict[str, int]:
        """Documents left out, by reason."""
        return {"null": self.null, "empty": self.empty}


def check_parquet(path: Path) -> pq.FileMetaData:
    """Read the footer of a parquet file and check that the columns it lists fit into the file.

    Raises:
        DataError: if the file is missing, truncated or no parquet file.
    """
    if not path.is_file():
        raise DataError(f"{path} does not exist; rerun snakemake to fetch it")
    size = path.stat().st_size
    try:
        metadata = pq.read_metadata(path)
    except (pa.ArrowInvalid, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{path} ({size:,} bytes) has no readable Parquet footer, so it is truncated or damaged ({reason}); "
            "delete it and fetch it again"
        ) from None
    for group in range(metadata.num_row_groups):
        for number in range(metadata.num_columns):
            column = metadata.row_group(group).column(number)
            begin = column.dictionary_page_offset or column.data_page_offset
            if begin + column.total_compressed_size > size:
                raise DataError(
                    f"{path} has {size:,} bytes, but column {column.path_in_schema} of row group {group} ends at byte "
                    f"{begin + column.total_compressed_size:,}: the file is damaged; delete it and fetch it again"
                )
    return metadata


def documents(path: Path, column: str = "text", stats: ShardStats | None = None) -> Iterator[str]:
    """Documents of a shard in order, some thousand in memory at a time.

    Nulls and documents of nothing but blanks are left out and counted.

    Args:
        path: parquet file.
        column: its column of strings.
        stats: counted up while reading, where given.

    Raises:
        DataError: if the file is truncated, the column is missing or not text, or a row group cannot be decoded.
    """
    stats = stats if stats is not None else ShardStats()
    check_parquet(path)
    with pq.ParquetFile(path) as file:
        _check_column(path, file.schema_arrow, column)
        for group in range(file.num_row_groups):
            try:
                for batch in file.iter_batches(_BATCH_DOCUMENTS, row_groups=[group], columns=[column]):
                    yield from _kept(batch.column(0).to_pylist(), stats)
            except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
                raise DataError(
                    f"{path}: row group {group} of {file.num_row_groups} cannot be read "
                    f"({str(error).splitlines()[0]}); the file is damaged: delete it and fetch it again"
                ) from None
    if any(stats.skipped.values()):
        log.info("%s: left out %d null and %d empty documents", path.name, stats.null, stats.empty)


def _kept(texts: list[str | None], stats: ShardStats) -> Iterator[str]:
    for text in texts:
        if text is None:
            stats.null += 1
        elif not text or text.isspace():
            stats.empty += 1
        else:
            stats.documents += 1
            stats.characters += len(text)
            yield text


def _check_column(path: Path, schema: pa.Schema, column: str) -> None:
    if column not in schema.names:
        raise DataError(
            f"{path} has no column {column!r}, it has {', '.join(schema.names) or 'none'}; expected a shard of text"
        )
    kind = schema.field(column).type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise DataError(f"{path}: column {column!r} is of type {kind}, expected string; expected a shard of text")
