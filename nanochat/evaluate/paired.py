"""Two models on the same items: differences with paired bootstrap intervals, and McNemar's exact test."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95
"""Coverage of the intervals."""


@dataclass(frozen=True)
class Pairs:
    """Both models' values on the items of one task, in the same order.

    Attributes:
        first, second: (items,) float64, 0 or 1, or the share of an item's replies that are right.
        baseline: value that becomes 0 on the centred scale, on which tasks are averaged.
    """

    first: np.ndarray
    second: np.ndarray
    baseline: float = 0.0

    def __post_init__(self) -> None:
        if self.first.shape != self.second.shape or self.first.ndim != 1 or not len(self.first):
            raise ValueError(
                f"Pairs: shapes {self.first.shape} and {self.second.shape}, expected as many items, at least 1"
            )

    @property
    def binary(self) -> bool:
        """Whether every item is either right or wrong."""
        return bool(np.isin(np.concatenate((self.first, self.second)), (0.0, 1.0)).all())


@dataclass(frozen=True)
class Difference:
    """The second model's score minus the first one's.

    Attributes:
        first, second: the scores on the common items.
        value: the difference.
        low, high: ends of its 95 % interval: percentiles of the bootstrap.
        p: two-sided p-value of the bootstrap, the smallest level at which the interval leaves out 0.
        mcnemar: p-value of McNemar's exact test; None where items are not just right or wrong, and for means.
        items: items that both models answered.
    """

    first: float
    second: float
    value: float
    low: float
    high: float
    p: float
    mcnemar: float | None
    items: int


def resampled_means(values: np.ndarray, resamples: int, seed: Sequence[int]) -> np.ndarray:
    """Means of samples with replacement, as many values each as there are.

    Drawn by how often each distinct value occurs, which is multinomial: the same distribution as drawing the items
    one by one, in a time that does not depend on their number.

    Args:
        values: (items,).
        resamples: how many means.
        seed: of numpy's generator.

    Returns:
        (resamples,) float64.
    """
    distinct, counts = np.unique(values, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(len(values), counts / len(values), size=resamples)
    return drawn @ distinct / len(values)


def mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """Two-sided p-value of McNemar's exact test (Psychometrika 12, 1947).

    It asks whether each model is as often right where the other is wrong: of the items on which just one of the two is
    right, it would be either one with probability ½.

    Args:
        first: (items,) 0 or 1.
        second: the same items.
    """
    gained, lost = int(((second == 1) & (first == 0)).sum()), int(((first == 1) & (second == 0)).sum())
    discordant, fewer = gained + lost, min(gained, lost)
    term = total = 1
    for k in range(fewer):
        term = term * (discordant - k) // (k + 1)
        total += term
    return min(1.0, 2 * total / 2**discordant)


def compare(tasks: Mapping[str, Pairs], *, resamples: int = 10_000, seed: int = 0) -> dict[str, Difference]:
    """Differences per task.

    Args:
        tasks: task → values of both models.
        resamples: of the bootstrap; items are resampled, and a resampled item brings both models' values with it.
        seed: each task draws from a stream of its own, whatever other tasks there are.
    """
    found = {}
    for name, pairs in tasks.items():
        means = resampled_means(pairs.second - pairs.first, resamples, _stream(seed, name))
        first, second = float(pairs.first.mean()), float(pairs.second.mean())
        exact = mcnemar(pairs.first, pairs.second) if pairs.binary else None
        found[name] = _difference(first, second, means, exact, len(pairs.first))
    return found


def compare_means(tasks: Mapping[str, Pairs], *, resamples: int = 10_000, seed: int = 0) -> Difference:
    """Difference of the mean centred scores (CORE, ChatCORE) over tasks.

    The bootstrap is stratified: in each resample every task keeps its number of items.

    Args:
        tasks: as in `compare`, at least one.
        resamples: of the bootstrap.
        seed: the same streams as in `compare`.
    """
    first = second = 0.0
    means = np.zeros(resamples)
    for name, pairs in tasks.items():
        scale = 1 / (1 - pairs.baseline) / len(tasks)
        first += (float(pairs.first.mean()) - pairs.baseline) * scale
        second += (float(pairs.second.mean()) - pairs.baseline) * scale
        means += scale * resampled_means(pairs.second - pairs.first, resamples, _stream(seed, name))
    return _difference(first, second, means, None, sum(len(pairs.first) for pairs in tasks.values()))


def _stream(seed: int, task: str) -> tuple[int, int]:
    return seed, zlib.crc32(task.encode())


def _difference(first: float, second: float, means: np.ndarray, exact: float | None, items: int) -> Difference:
    # Sums of the same terms in another order: what is 0 may be off by a rounding.
    means = np.where(np.abs(means) < 1e-12, 0.0, means)
    low, high = np.quantile(means, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    tail = min(int((means <= 0).sum()), int((means >= 0).sum()))
    return Difference(
        first=first,
        second=second,
        value=second - first,
        low=float(low),
        high=float(high),
        p=min(1.0, 2 * (tail + 1) / (len(means) + 1)),
        mcnemar=exact,
        items=items,
    )
