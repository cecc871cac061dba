"""Rows of several corpora in given shares.

As with every row source, row n depends on the data, the shares and the seed only, and is found without reading what
comes before it.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nanochat.config import CorpusShare
from nanochat.data.loader import TokenRows
from nanochat.data.packing import Batch, RowSource
from nanochat.data.tokens import TokenFile
from nanochat.errors import DataError

_CYCLE = 1000  # rows over which the shares are exact, to a thousandth


@dataclass(frozen=True)
class _Phase:
    """A stretch of rows from the same corpora: cycles of the same number of rows of each, in ever new orders."""

    first: int
    """Row it begins with."""
    quota: np.ndarray
    """(corpora,) rows of each in a cycle."""
    used: np.ndarray
    """(corpora,) rows of each before it."""


def _quota(weights: np.ndarray) -> np.ndarray:
    """Rows of a cycle for each weight, by largest remainders; at least one where the weight is not zero."""
    exact = _CYCLE * weights / weights.sum()
    quota = np.maximum(np.floor(exact).astype(np.int64), weights > 0)
    for place in np.argsort(-(exact - quota), kind="stable")[: max(0, _CYCLE - int(quota.sum()))]:
        quota[place] += 1
    return quota


class MixedRows:
    """Rows of several sources, drawn in shares.

    A source with `epochs` is read so often and no more; the others then share its rows.

    Args:
        sources: name → rows of a corpus, all of one sequence length.
        shares: name → weight, and passes at most.
        rows: rows that will be read.
        seed: seed of the order.

    Raises:
        DataError: if all sources are used up before.
    """

    def __init__(
        self, sources: Mapping[str, RowSource], shares: Mapping[str, CorpusShare], rows: int, seed: int
    ) -> None:
        self._names = list(sources)
        self._sources = list(sources.values())
        self.sequence_length = self._sources[0].sequence_length
        self.rows_per_epoch = rows
        self._seed = seed
        self._phases = self._plan([shares[name] for name in self._names], rows)
        self._starts = [phase.first for phase in self._phases]

    def _plan(self, shares: list[CorpusShare], rows: int) -> list[_Phase]:
        weights = np.array([share.weight for share in shares])
        limits = [
            None if share.epochs is None else round(share.epochs * source.rows_per_epoch)
            for share, source in zip(shares, self._sources)
        ]
        used = np.zeros(len(shares), dtype=np.int64)
        phases: list[_Phase] = []
        first = 0
        while first < rows:
            for number, limit in enumerate(limits):
                if limit is not None and used[number] >= limit:
                    weights[number] = 0.0
            if not weights.any():
                read = ", ".join(f"{name} {count:,}" for name, count in zip(self._names, used))
                raise DataError(
                    f"data.mixture: its corpora have {first:,} rows of {self.sequence_length} tokens at most ({read}), "
                    f"pretraining reads {rows:,}; raise their epochs, or leave epochs out for one of them"
                )
            phase = _Phase(first, _quota(weights), used.copy())
            phases.append(phase)
            lasts = [
                self._rows_until(phase, number, limit - int(used[number]))
                for number, limit in enumerate(limits)
                if limit is not None and weights[number]
            ]
            length = min(lasts, default=rows - first)
            used = self._read_before(phase, length)[2]
            first += length
        return phases

    def _rows_until(self, phase: _Phase, source: int, left: int) -> int:
        """Rows of a phase before the one that would read a source once more than `left` times."""
        cycles, rest = divmod(left, int(phase.quota[source]))
        places = np.flatnonzero(self._order(phase, cycles) == source)
        return cycles * int(phase.quota.sum()) + int(places[rest])

    def _order(self, phase: _Phase, cycle: int) -> np.ndarray:
        """Sources of the rows of a cycle."""
        sources = np.repeat(np.arange(len(phase.quota)), phase.quota)
        return np.random.default_rng([self._seed, phase.first, cycle]).permutation(sources)

    def _read_before(self, phase: _Phase, row: int) -> tuple[np.ndarray, int, np.ndarray]:
        """Sources of the cycle that holds row `row` of a phase, its place in it, and how often each was read before."""
        cycle, place = divmod(row, int(phase.quota.sum()))
        order = self._order(phase, cycle)
        return order, place, phase.used + cycle * phase.quota + np.bincount(order[:place], minlength=len(phase.quota))

    def _locate(self, start: int, count: int) -> list[tuple[int, int]]:
        """(source, its row) of rows start … start + count - 1."""
        found: list[tuple[int, int]] = []
        while len(found) < count:
            row = start + len(found)
            number = bisect_right(self._starts, row) - 1
            phase = self._phases[number]
            end = self._starts[number + 1] if number + 1 < len(self._starts) else self.rows_per_epoch
            order, place, read = self._read_before(phase, row - phase.first)
            for source in order[place : place + min(end, start + count) - row].tolist():
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
        last = self._phases[-1]
        _, _, read = self._read_before(last, self.rows_per_epoch - last.first)
        return {
            name: float(rows / source.rows_per_epoch) for name, rows, source in zip(self._names, read, self._sources)
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
