"""Rows of several corpora in given shares.

As with every row source, row n depends on the data, the shares and the seed only, and is found without reading what
comes before it.
"""

import logging
from collections.abc import Mapping, Sequence

import numpy as np

from nanochat.config import CorpusShare
from nanochat.data.loader import TokenRows
from nanochat.data.packing import Batch, RowSource
from nanochat.data.tokens import TokenFile
from nanochat.errors import DataError

log = logging.getLogger(__name__)

_CYCLE = 1000  # rows within which the order is shuffled


def _totals(shares: Sequence[CorpusShare], limits: Sequence[float], rows: int) -> np.ndarray:
    """(corpora,) rows of each: in proportion to the weights, but none above its limit; the others take what is left."""
    weights = np.array([share.weight for share in shares])
    totals = np.zeros(len(shares), dtype=np.int64)
    free = np.ones(len(shares), dtype=bool)
    while free.any():
        wanted = (rows - totals[~free].sum()) * weights / weights[free].sum()
        full = free & (wanted >= limits)
        if not full.any():
            totals[free] = wanted[free].astype(np.int64)
            totals[np.argmax(np.where(free, totals, -1))] += rows - totals.sum()
            break
        totals[full] = np.array(limits)[full]
        free &= ~full
    return totals


class MixedRows:
    """Rows of several sources, drawn in shares that are the same from the first row to the last.

    A source with `epochs` gives so many rows and no more, spread over the whole run; the others share the rest.

    Args:
        sources: name → rows of a corpus, all of one sequence length.
        shares: name → weight, and passes at most.
        rows: rows that will be read.
        seed: seed of the order.

    Raises:
        DataError: if the sources have fewer rows.
    """

    def __init__(
        self, sources: Mapping[str, RowSource], shares: Mapping[str, CorpusShare], rows: int, seed: int
    ) -> None:
        self._names = list(sources)
        self._sources = list(sources.values())
        self.sequence_length = self._sources[0].sequence_length
        self.rows_per_epoch = rows
        self._seed = seed
        given = [shares[name] for name in self._names]
        limits = [
            np.inf if share.epochs is None else round(share.epochs * source.rows_per_epoch)
            for share, source in zip(given, self._sources)
        ]
        self._totals = _totals(given, limits, rows)
        if self._totals.sum() < rows:
            read = ", ".join(f"{name} {count:,}" for name, count in zip(self._names, self._totals))
            raise DataError(
                f"data.mixture: its corpora have {self._totals.sum():,} rows of {self.sequence_length} tokens at most "
                f"({read}), pretraining reads {rows:,}; raise their epochs, or leave epochs out for one of them"
            )
        parts = [share.weight / sum(one.weight for one in given) for share in given]
        for name, part, total, limit in zip(self._names, parts, self._totals.tolist(), limits):
            if limit < 0.99 * part * rows:
                log.warning(
                    "data.mixture: %s is read %g times, as its epochs say: %.1f %% of the text instead of %.1f %%",
                    name,
                    shares[name].epochs,
                    100 * total / rows,
                    100 * part,
                )

    def _read_before(self, row: int) -> np.ndarray:
        """(sources,) how many rows of each come before the first row of a cycle."""
        read = self._totals * row // self.rows_per_epoch
        read[np.argmax(self._totals)] += row - read.sum()
        return read

    def _cycle(self, row: int) -> tuple[int, int]:
        """First row of the cycle that holds `row`, and of the next; the last one is longer, so that none is short."""
        last = max(0, self.rows_per_epoch // _CYCLE - 1)
        number = min(row // _CYCLE, last)
        return number * _CYCLE, self.rows_per_epoch if number == last else (number + 1) * _CYCLE

    def _locate(self, start: int, count: int) -> list[tuple[int, int]]:
        """(source, its row) of rows start … start + count - 1."""
        found: list[tuple[int, int]] = []
        while len(found) < count:
            row = start + len(found)
            begin, end = self._cycle(row)
            read = self._read_before(begin)
            sources = np.repeat(np.arange(len(read)), self._read_before(end) - read)
            order = np.random.default_rng([self._seed, begin]).permutation(sources)
            read += np.bincount(order[: row - begin], minlength=len(read))
            for source in order[row - begin : row - begin + count - len(found)].tolist():
                found.append((source, int(read[source])))
                read[source] += 1
        return found

    def read(self, start: int, count: int) -> Batch:
        """Rows start … start + count - 1 of the global order, (count, T)."""
        if start < 0 or start + count > self.rows_per_epoch:
            raise DataError(
                f"rows [{start}, {start + count}) were asked for, the mixture was made for {self.rows_per_epoch}"
            )
        batch = Batch.padding(count, self.sequence_length, 0)
        located = self._locate(start, count)
        for number, source in enumerate(self._sources):
            places = [place for place, (which, _) in enumerate(located) if which == number]
            if places:
                part = source.read(located[places[0]][1], len(places))  # its rows follow each other
                batch.inputs[places] = part.inputs
                batch.targets[places] = part.targets
                batch.segments[places] = part.segments
        return batch

    def epochs(self) -> dict[str, float]:
        """Name → how often the corpus is read in all rows."""
        return {
            name: float(rows / source.rows_per_epoch)
            for name, rows, source in zip(self._names, self._totals.tolist(), self._sources)
        }


def text_rows(
    corpora: Mapping[str, Sequence[TokenFile]],
    shares: Mapping[str, CorpusShare],
    *,
    rows: int,
    sequence_length: int,
    seed: int,
    bos: int,
) -> TokenRows | MixedRows:
    """Pretraining rows of one corpus, or of several in shares.

    Args:
        corpora: name → token files, in order.
        shares: name → share; empty for one corpus.
        rows: rows that will be read.
        sequence_length: T, positions in a row.
        seed: seed of the order.
        bos: token that fills padding.

    Raises:
        DataError: if a corpus has no text, or there is less than is to be read.
    """
    sources = {name: TokenRows(files, sequence_length, seed, bos) for name, files in corpora.items()}
    if len(sources) == 1 and not shares:
        return next(iter(sources.values()))
    missing = sources.keys() ^ shares.keys()
    if missing:
        raise DataError(
            f"data.mixture names {', '.join(shares)}, the token folders are of {', '.join(sources)}; expected the same"
        )
    return MixedRows(sources, shares, rows, seed)


def mean_by_share(values: Mapping[str, float], shares: Mapping[str, CorpusShare]) -> float:
    """Mean of a figure of each corpus, weighted as the mixture is; of one corpus, the figure itself."""
    weights = {name: shares[name].weight if name in shares else 1.0 for name in values}
    return sum(weights[name] * value for name, value in values.items()) / sum(weights.values())
