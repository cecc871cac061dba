"""Documents of any number put to shards by the hash of their content, in bounded memory, by way of the disk.

First all documents are appended to one file for each shard; then each of these is read in the order of the hashes.
So equal input gives equal shards in whatever order its files come, and a document that comes twice meets itself.
"""

import hashlib
import math
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_BUFFER_BYTES = 64 << 20
# Two independent halves of one hash: the place of a document, and its rank for validation.
_RECORD = np.dtype([("place", "<u8"), ("rank", "<u8"), ("bytes", "<u8")])


@dataclass(frozen=True)
class Split:
    """What `Spill.split` found.

    Attributes:
        distinct: documents without their copies.
        duplicates: copies.
        validation: number of validation documents, those of the smallest ranks.
        threshold: the largest rank among them.
    """

    distinct: int
    duplicates: int
    validation: int
    threshold: int


class Spill:
    """Documents on their way to `shards` shards.

    Args:
        folder: an empty folder with room for all text, uncompressed.
        shards: number of shards.
    """

    def __init__(self, folder: Path, shards: int) -> None:
        self.folder = folder
        self.shards = shards
        self.documents = 0
        self._held: dict[int, list[bytes]] = {}
        self._records: dict[int, list[tuple[int, int, int]]] = {}
        self._bytes = 0

    def add(self, text: str) -> None:
        """Put one document to its shard."""
        content = text.encode()
        digest = hashlib.blake2b(content, digest_size=16).digest()
        place, rank = int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")
        shard = place % self.shards
        self._held.setdefault(shard, []).append(content)
        self._records.setdefault(shard, []).append((place, rank, len(content)))
        self.documents += 1
        self._bytes += len(content) + 300  # and what Python needs to hold them
        if self._bytes > _BUFFER_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is held; to be called after the last document."""
        for shard, held in self._held.items():
            with self._texts(shard).open("ab") as file:
                file.writelines(held)
            with self._index(shard).open("ab") as file:
                np.array(self._records[shard], dtype=_RECORD).tofile(file)
        self._held, self._records, self._bytes = {}, {}, 0

    def split(self, fraction: float) -> Split:
        """Choose ⌈fraction · distinct documents⌉ for validation, those of the smallest ranks, without holding all.

        Args:
            fraction: share for validation, below a half; at least one document is chosen.
        """
        most = max(1, math.ceil(fraction * self.documents))
        smallest = np.empty(0, dtype=np.uint64)
        distinct = 0
        for shard in range(self.shards):
            records, order = self._sorted(shard)
            distinct += len(order)
            smallest = np.concatenate([smallest, records["rank"][order]])
            if len(smallest) > most:
                smallest = np.partition(smallest, most - 1)[:most]
        count = max(1, math.ceil(fraction * distinct)) if distinct else 0
        threshold = int(np.partition(smallest, count - 1)[count - 1]) if count else 0
        return Split(distinct, self.documents - distinct, count, threshold)

    def read(self, shard: int, split: Split) -> Iterator[tuple[bytes, bool]]:
        """Distinct documents of a shard as UTF-8 in the order of their hashes, and whether each is for validation."""
        records, order = self._sorted(shard)
        if not len(order):
            return
        ends = np.cumsum(records["bytes"])
        with self._texts(shard).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            for number in order:
                end = int(ends[number])
                text = content[end - int(records["bytes"][number]) : end]
                yield text, int(records["rank"][number]) <= split.threshold

    def drop(self, shard: int) -> None:
        """Remove the files of a shard that has been read."""
        self._texts(shard).unlink(missing_ok=True)
        self._index(shard).unlink(missing_ok=True)

    def _sorted(self, shard: int) -> tuple[np.ndarray, np.ndarray]:
        """Records of a shard, and which of them to read, in the order of their hashes, copies left out."""
        path = self._index(shard)
        if not path.exists():
            return np.empty(0, dtype=_RECORD), np.empty(0, dtype=np.int64)
        records = np.fromfile(path, dtype=_RECORD)
        order = np.lexsort((records["rank"], records["place"]))
        place, rank = records["place"][order], records["rank"][order]
        first = np.ones(len(order), dtype=bool)
        first[1:] = (place[1:] != place[:-1]) | (rank[1:] != rank[:-1])
        return records, order[first]

    def _texts(self, shard: int) -> Path:
        return self.folder / f"{shard:05d}.text"

    def _index(self, shard: int) -> Path:
        return self.folder / f"{shard:05d}.index"
