"""Many texts to token ids, each different chunk of them encoded once: several times the speed of the tokenizer."""

from collections.abc import Iterable, Iterator
from threading import Lock

import numpy as np
import pyarrow as pa

from nanochat.data.chunks import cut
from nanochat.data.parallel import in_order
from nanochat.data.tokenizer import Tokenizer

_KEPT_BYTES = 64  # longer chunks are rare, and rarely come again
_KEPT_CHUNKS = 2_000_000
_PIECE_CHARACTERS = 100_000


class _Table:
    """Ids of chunks: entry i is ids[begin[i] : begin[i] + length[i]]."""

    def __init__(self, kind: np.dtype) -> None:
        self.ids = np.empty(0, dtype=kind)
        self.begin = np.empty(0, dtype=np.int64)
        self.length = np.empty(0, dtype=np.int64)

    def append(self, ids: np.ndarray, length: np.ndarray) -> None:
        """Add entries; the arrays are new ones, so that another thread may go on with those it has."""
        begin = len(self.ids) + np.cumsum(length) - length
        self.ids = np.concatenate([self.ids, ids])
        self.begin = np.concatenate([self.begin, begin])
        self.length = np.concatenate([self.length, length])


def _gather(table: tuple[np.ndarray, np.ndarray, np.ndarray], entries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ids of entries, one after the other, and (entries,) how many each has."""
    ids, begin, length = table
    lengths = length[entries]
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    places = np.arange(total) + np.repeat(begin[entries] - (ends - lengths), lengths)
    return ids[places], lengths


class BulkEncoder:
    """Encodes batches of texts on several threads, with a memory of the chunks it has seen.

    The ids are those of `Tokenizer.encode`, but for chunks of more than 100,000 characters without a border
    (chunks.py), such as a base64 dump or a book in Chinese: they are encoded in pieces, since their memory would grow
    with them.

    Args:
        tokenizer: to encode with.
        kind: type of the ids.
        threads: threads to encode on.
    """

    def __init__(self, tokenizer: Tokenizer, kind: np.dtype, threads: int = 1) -> None:
        self._tokenizer = tokenizer
        self._threads = threads
        self._lock = Lock()
        self._kind = kind
        self._forget()

    def _forget(self) -> None:
        self._table = _Table(self._kind)
        self._table.append(np.array([self._tokenizer.bos], dtype=self._kind), np.ones(1, dtype=np.int64))
        self._entry: dict[str, int] = {}

    def encode(self, batches: Iterable[pa.LargeStringArray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Encode batches of documents, in order.

        Args:
            batches: documents without nulls, valid UTF-8.

        Yields:
            For each batch the ids of all its documents, each beginning with `<|bos|>`, and (documents,) int64 how many
            ids each has.
        """
        yield from in_order(self._encode, batches, self._threads)

    def _encode(self, texts: pa.LargeStringArray) -> tuple[np.ndarray, np.ndarray]:
        chunks = cut(texts)
        distinct = chunks.distinct.to_pylist()
        with self._lock:
            entries, table = self._entries(distinct)
        # Entry 0, the <|bos|>, goes before the first chunk of each document.
        order = np.insert(entries[chunks.codes], chunks.first[:-1], 0)
        ids, lengths = _gather(table, order)
        ends = np.concatenate([[0], np.cumsum(lengths)])
        document_ends = ends[chunks.first[1:] + np.arange(1, len(texts) + 1)]
        return ids, np.diff(document_ends, prepend=0)

    def _entries(self, distinct: list[str]) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """The table's entry of each chunk, new ones encoded, and the table as it is now."""
        if len(self._entry) > _KEPT_CHUNKS:
            self._forget()
        entry = self._entry
        found = [entry.get(chunk, -1) for chunk in distinct]
        new = [place for place, number in enumerate(found) if number < 0]
        kept = [place for place in new if len(distinct[place]) <= _KEPT_BYTES]
        once = [place for place in new if len(distinct[place]) > _KEPT_BYTES]
        table = self._table
        for place in kept:
            found[place] = entry[distinct[place]] = len(entry) + 1
        if kept:
            table.append(*self._tokenizer.encode_apart([distinct[place] for place in kept], self._kind))
        now = (table.ids, table.begin, table.length)
        if once:
            more = _Table(self._kind)
            pieces = [self._in_pieces(distinct[place]) for place in once]
            more.append(np.concatenate(pieces), np.array(list(map(len, pieces)), dtype=np.int64))
            for number, place in enumerate(once):
                found[place] = len(table.begin) + number
            now = (
                np.concatenate([table.ids, more.ids]),
                np.concatenate([table.begin, len(table.ids) + more.begin]),
                np.concatenate([table.length, more.length]),
            )
        return np.array(found, dtype=np.int64), now

    def _in_pieces(self, chunk: str) -> np.ndarray:
        pieces = [chunk[start : start + _PIECE_CHARACTERS] for start in range(0, len(chunk), _PIECE_CHARACTERS)]
        return self._tokenizer.encode_apart(pieces, self._kind)[0]
