"""Documents and lines of the user's own files: parquet, jsonl and plain text, each also as .gz or .zst, streaming.

What is wrong with one document is noted in a `Tally` and the document left out; a file that is damaged as a whole ends
with a DataError that says where.
"""

import codecs
import gzip
import json
import shutil
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from nanochat.config.files import COMPRESSED, JSON, PLAIN_TEXT, content_suffix
from nanochat.data.own.tally import Tally
from nanochat.data.shards import Wording, row_slices
from nanochat.errors import DataError

_BLOCK = 1 << 20
_LINE_LIMIT = 256 << 20
_ARRAY_LIMIT = 64 << 20  # parsed as a whole, which takes several times as much
_DAMAGED = "replace it, or set own.on_damage to skip"


@dataclass(frozen=True)
class Entry:
    """One value of JSON, or why there is none.

    Attributes:
        row: line, or item of an array, counted from 1.
        value: what it holds.
        fault: a reason in two words; empty where there is a value.
        message: the same at length.
    """

    row: int
    value: Any = None
    fault: str = ""
    message: str = ""


@dataclass(frozen=True)
class Document:
    """One document: where it begins (line or row, counted from 1) and its text in chunks."""

    row: int
    chunks: Iterable[str]


def kind_of(path: Path) -> str:
    """`parquet`, `json` or `plain`, by suffix.

    Raises:
        DataError: for a suffix that is none of these.
    """
    suffix = content_suffix(path)
    if suffix == ".parquet":
        return "parquet"
    if suffix in JSON:
        return "json"
    if suffix in PLAIN_TEXT:
        return "plain"
    raise DataError(
        f"{path}: files that end in {suffix or 'nothing'!r} are not read; expected .parquet, "
        f"{', '.join(JSON)} or plain text ({', '.join(PLAIN_TEXT[:4])}, …), each also with .gz or .zst; rename it"
    )


def input_names(files: Iterable[Path]) -> dict[str, Path]:
    """Files by names for the manifest that hold as little of the machine's paths as keeps them apart."""
    paths = sorted(path.absolute() for path in files)
    shared = 0
    if paths:
        first, last = paths[0].parent.parts, paths[-1].parent.parts  # sorted: what these two share, all share
        while shared < min(len(first), len(last)) and first[shared] == last[shared]:
            shared += 1
    return {"/".join(path.parts[shared:]): path for path in paths}


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Errors of decoders and of the disk as a DataError with the file."""
    try:
        yield
    except (EOFError, zlib.error, OSError, pa.ArrowException) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"{path} ({path.stat().st_size:,} bytes) cannot be read: {reason}; the file is truncated or "
            f"damaged: {_DAMAGED}"
        ) from None


def _open(path: Path) -> AbstractContextManager[IO[bytes] | pa.NativeFile]:
    suffix = path.suffix.lower()
    if suffix in COMPRESSED and path.stat().st_size == 0:
        raise DataError(f"{path} has 0 bytes, so it is no {suffix} file: {_DAMAGED}")
    if suffix == ".gz":
        return gzip.open(path, "rb")
    if suffix == ".zst":
        return pa.CompressedInputStream(pa.OSFile(str(path)), "zstd")
    return path.open("rb")


def blocks(path: Path) -> Iterator[bytes]:
    """Content of a file, decompressed, a megabyte at a time.

    Raises:
        DataError: if it is truncated or damaged.
    """
    with _damage(path), _open(path) as file:
        while block := file.read(_BLOCK):
            yield block


def lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines of a file that are not blank, with their numbers from 1, without the line end.

    Raises:
        DataError: if the file is damaged, or a line is longer than 256 MB.
    """
    number, parts, held = 0, [], 0
    for block in blocks(path):
        *ended, rest = block.split(b"\n")
        for piece in ended:
            number += 1
            line = b"".join([*parts, piece])
            parts, held = [], 0
            line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
            if line.strip():
                yield number, line
        parts.append(rest)
        held += len(rest)
        if held > _LINE_LIMIT:
            raise DataError(
                f"{path} line {number + 1} is longer than {_LINE_LIMIT >> 20} MB; expected one JSON object on each line"
            )
    if (line := b"".join(parts).removeprefix(codecs.BOM_UTF8 if number == 0 else b"")).strip():
        yield number + 1, line


def entries(path: Path) -> Iterator[Entry]:
    """Values of a file of JSON: one on each line, or the items of the one array that a `.json` file holds.

    A `.json` file may also be one value over many lines, or one array of messages, which is one conversation. More than
    64 MB are read by line only.

    Raises:
        DataError: if the file is damaged, or a line is longer than 256 MB.
    """
    if content_suffix(path) == ".json" and (whole := _whole(path)) is not None:
        items = whole if _is_collection(whole) else [whole]
        yield from (Entry(number, item) for number, item in enumerate(items, 1))
        return
    for row, line in lines(path):
        try:
            yield Entry(row, json.loads(line.decode()))
        except UnicodeDecodeError:
            yield Entry(row, fault="not UTF-8", message="the line is not UTF-8")
        except (json.JSONDecodeError, RecursionError) as error:
            yield Entry(row, fault="not JSON", message=f"not JSON ({error}); expected one JSON value on each line")


def _whole(path: Path) -> Any:
    """The one value that a file holds; None if it has several lines of values, is too large, or is no JSON."""
    held, size = [], 0
    for block in blocks(path):
        held.append(block)
        size += len(block)
        if size > _ARRAY_LIMIT:
            return None
    try:
        return json.loads(b"".join(held).decode("utf-8-sig"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
        return None


def _is_collection(value: Any) -> bool:
    """Whether it is an array of entries; an array of messages is one entry."""
    if not isinstance(value, list) or not all(isinstance(item, dict | list) for item in value):
        return False
    return not any(isinstance(item, dict) and {"role", "content"} <= item.keys() for item in value)


def read_documents(path: Path, column: str, tally: Tally, scratch: Path) -> Iterator[Document]:
    """Documents of a file in order; each must be read to its end before the next.

    Args:
        path: parquet, jsonl or plain text.
        column: the column or key that holds the text.
        tally: counts what is seen and left out.
        scratch: folder for the content of a compressed parquet file.

    Raises:
        DataError: if the file is damaged as a whole, lacks the column, or is of another kind.
    """
    kind = kind_of(path)
    if kind == "plain":
        yield from _plain(path, tally)
        return
    values = _json_values(path, column, tally) if kind == "json" else _parquet_values(path, column, tally, scratch)
    for row, value in values:
        reason = _fault(value)
        if reason:
            tally.skip(path, row, reason)
        else:
            yield Document(row, (value,))


def _fault(value: Any) -> str:
    """Why a value is no document, or nothing."""
    if value is None:
        return "null"
    if not isinstance(value, str):
        return "not UTF-8" if isinstance(value, bytes) else "not a string"
    if not value or value.isspace():
        return "empty"
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can spell
        return "not UTF-8"
    return ""


def _plain(path: Path, tally: Tally) -> Iterator[Document]:
    # Read twice: what cannot be decoded at its end must not have been given out at its beginning.
    tally.rows += 1
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    offset, blank = 0, True
    try:
        for block in blocks(path):
            text = decoder.decode(block)
            blank = blank and (not text or text.isspace())
            offset += len(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        tally.skip(path, 1, "not UTF-8", f"not UTF-8 (between bytes {max(0, offset - 4):,} and {offset + _BLOCK:,})")
        return
    except DataError:
        tally.rows -= 1
        raise
    if blank:
        tally.skip(path, 1, "empty")
        return
    decoder.reset()
    yield Document(1, (decoder.decode(block) for block in blocks(path)))


def _json_values(path: Path, column: str, tally: Tally) -> Iterator[tuple[int, Any]]:
    for entry in entries(path):
        tally.rows += 1
        value = entry.value
        if entry.fault:
            tally.skip(path, entry.row, entry.fault, entry.message)
        elif not isinstance(value, dict):
            tally.skip(
                path, entry.row, "not an object", f"a JSON {type(value).__name__}, expected an object with {column!r}"
            )
        elif column not in value:
            keys = ", ".join(map(repr, list(value)[:8])) or "none"
            tally.skip(path, entry.row, "no key", f"no key {column!r} (it has {keys}); own.text.column names the key")
        else:
            yield entry.row, value[column]


def _parquet_values(path: Path, column: str, tally: Tally, scratch: Path) -> Iterator[tuple[int, Any]]:
    wording = Wording(path, "name another", _DAMAGED, "own.text.column names the column of the text")
    with _unpacked(path, scratch) as source:
        for before, values in row_slices(source, column, wording=wording):
            for row, value in enumerate(values, before + 1):
                tally.rows += 1
                yield row, _decoded(value.as_py())


@contextmanager
def _unpacked(path: Path, scratch: Path) -> Iterator[Path]:
    """A file without compression: parquet is read from its end."""
    if path.suffix.lower() not in COMPRESSED:
        yield path
        return
    with tempfile.NamedTemporaryFile(dir=scratch) as copy:
        with _damage(path), _open(path) as packed:
            shutil.copyfileobj(packed, copy, _BLOCK)
        copy.flush()
        yield Path(copy.name)


def _decoded(value: bytes | None) -> str | bytes | None:
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value
