"""Writers of the world's files: parquet as the public sets have it, word list, conversations."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

ROW_GROUP = 1024

TEXT = pa.schema([("text", pa.string())])
QUESTION_ANSWER = pa.schema([("question", pa.string()), ("answer", pa.string())])
ARC = pa.schema(
    [
        ("id", pa.string()),
        ("question", pa.string()),
        ("choices", pa.struct([("text", pa.list_(pa.string())), ("label", pa.list_(pa.string()))])),
        ("answerKey", pa.string()),
    ]
)
MMLU = pa.schema(
    [("question", pa.string()), ("subject", pa.string()), ("choices", pa.list_(pa.string())), ("answer", pa.int64())]
)
HUMANEVAL = pa.schema(
    [(name, pa.string()) for name in ("task_id", "prompt", "entry_point", "canonical_solution", "test")]
)
SMOLTALK = pa.schema(
    [
        ("messages", pa.list_(pa.struct([("content", pa.string()), ("role", pa.string())]))),
        ("source", pa.string()),
    ]
)


def write_table(path: Path, schema: pa.Schema, rows: Sequence[dict[str, Any]]) -> int:
    """Write rows as one zstd parquet file with row groups of 1,024; returns the number of rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(list(rows), schema=schema)
    pq.write_table(
        table, path, row_group_size=ROW_GROUP, compression="zstd", use_dictionary=False, write_statistics=False
    )
    return table.num_rows


def write_words(path: Path, words: Iterable[str]) -> int:
    """Write one word a line with CRLF endings, as words_alpha.txt has them; returns the number of words."""
    listed = list(words)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(f"{word}\r\n" for word in listed).encode("ascii"))
    return len(listed)


def write_conversations(path: Path, conversations: Sequence[Sequence[dict[str, str]]]) -> int:
    """Write one JSON array of messages a line; returns the number of conversations."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in conversations), encoding="utf-8", newline="\n")
    return len(conversations)
