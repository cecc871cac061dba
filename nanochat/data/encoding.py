"""Many texts to token ids, each different chunk of them encoded once: several times the speed of the tokenizer."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from threading import Lock

import numpy as np
import pyarrow as pa

from nanochat.data.chunks import cut
from nanochat.data.parallel import in_order
from nanochat.data.tokenizer import Tokenizer

_KEPT_CHARACTERS = 64  # longer chunks are rare, and rarely come again
_KEPT_CHUNKS = 2_000_000
_PIECE_CHARACTERS = 20_000


@dataclass(frozen=True)
class _Table:
    """Ids of chunks: entry i is ids[begin[i] : begin[i] + length[i]]. A new one is made of it, it does not change."""

    ids: np.ndarray
    begin: np.ndarray
    length: np.ndarray

    def with_more(self, ids: np.ndarray, length: np.ndarray) -> "_Table":
        """These entries and others after them."""
        begin = len(self.ids) + np.cumsum(length) - length
        return _Table(
            np.concatenate([self.ids, ids]),
            np.concatenate([self.begin, begin]),
            np.concatenate([self.length, length]),
        )

    def gather(self, entries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ids of entries, one after the other, and (entries,) how many each has."""
        lengths = self.length[entries]
        ends = np.cumsum(lengths)
        total = int(ends[-1]) if len(ends) else 0
        places = np.arange(total) + np.repeat(self.begin[entries] - (ends - lengths), lengths)
        return self.ids[places], lengths


class _Memory:
    """Chunks that were encoded, short ones."""

    def __init__(self, first: int, kind: np.dtype) -> None:
        self.entry: dict[str, int] = {}
        self.table = _Table(np.array([first], dtype=kind), np.zeros(1, dtype=np.int64), np.ones(1, dtype=np.int64))

    def add(self, chunks: list[str], ids: np.ndarray, lengths: np.ndarray) -> None:
        """Take in new chunks with their ids."""
        first = len(self.table.begin)
        self.entry.update(zip(chunks, range(first, first + len(chunks))))
        self.table = self.table.with_more(ids, lengths)


class BulkEncoder:
    """Encodes batches of texts on several threads, with a memory of the chunks it has seen.

    The ids are those of `Tokenizer.encode`, but for chunks of more than 20,000 characters without a border
    (chunks.py), such as a base64 dump or a book in Chinese: they are encoded in pieces, since their memory would grow
    with them.

    Args:
        tokenizer: to encode with.
        kind: type of the ids.
        threads: threads to encode on.

    Raises:
        ArtifactError: if the tokenizer splits texts in another way than chunks.py knows.
    """

    def __init__(self, tokenizer: Tokenizer, kind: np.dtype, threads: int = 1) -> None:
        tokenizer.check_split()
        self._tokenizer = tokenizer
        self._threads = threads
        self._lock = Lock()
        self._kind = kind
        self._memory = _Memory(tokenizer.bos, kind)

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
        entries, table = self._look_up(distinct)
        # Entry 0, the <|bos|>, goes before the first chunk of each document.
        order = np.insert(entries[chunks.codes], chunks.first[:-1], 0)
        ids, lengths = table.gather(order)
        ends = np.concatenate([[0], np.cumsum(lengths)])
        document_ends = ends[chunks.first[1:] + np.arange(1, len(texts) + 1)]
        return ids, np.diff(document_ends, prepend=0)

    def _look_up(self, distinct: list[str]) -> tuple[np.ndarray, _Table]:
        """The entry of each chunk in a table, new ones encoded."""
        memory = self._memory
        entry_of = memory.entry.get
        entries = np.array([entry_of(chunk, -1) for chunk in distinct], dtype=np.int64)
        new = np.flatnonzero(entries < 0).tolist()
        short = [place for place in new if len(distinct[place]) <= _KEPT_CHARACTERS]
        long = [place for place in new if len(distinct[place]) > _KEPT_CHARACTERS]
        with self._lock:  # texts share most of their new words: one thread encodes them, the next finds them here
            chunks = [distinct[place] for place in short if distinct[place] not in memory.entry]
            memory.add(chunks, *self._tokenizer.pieces.encode(chunks, self._kind))
            table = memory.table
            if len(memory.entry) > _KEPT_CHUNKS and self._memory is memory:
                self._memory = _Memory(self._tokenizer.bos, self._kind)
        entries[short] = [memory.entry[distinct[place]] for place in short]
        if long:
            entries[long] = len(table.begin) + np.arange(len(long))
            pieces = [self._in_pieces(distinct[place]) for place in long]
            table = table.with_more(np.concatenate(pieces), np.array(list(map(len, pieces)), dtype=np.int64))
        return entries, table

    def _in_pieces(self, chunk: str) -> np.ndarray:
        pieces = [chunk[start : start + _PIECE_CHARACTERS] for start in range(0, len(chunk), _PIECE_CHARACTERS)]
        return self._tokenizer.pieces.encode(pieces, self._kind)[0]
