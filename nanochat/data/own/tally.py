"""What was read of the user's files and what was left out, by reason and place."""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nanochat.errors import DataError

log = logging.getLogger(__name__)

_PROBLEMS_SHOWN = 20


@dataclass
class Tally:
    """What was read and what was left out, as the manifest tells it.

    Attributes:
        rows: documents or lines seen, good or bad.
        skipped: left out, by reason.
        problems: where the first ones are.
        damaged: files that broke off, with the reason.
    """

    rows: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    problems: list[dict[str, Any]] = field(default_factory=list)
    damaged: list[dict[str, str]] = field(default_factory=list)
    _size: int = 0
    _rows_before: int = 0
    _left_out_before: int = 0
    _bytes: int = 0
    _bytes_left_out: float = 0.0

    def begin(self, size: int) -> None:
        """Note that the rows to come are of a file of `size` bytes."""
        if rows := self.rows - self._rows_before:
            self._bytes += self._size
            self._bytes_left_out += self._size * (self.left_out - self._left_out_before) / rows
        self._size, self._rows_before, self._left_out_before = size, self.rows, self.left_out

    @property
    def left_out(self) -> int:
        """Rows left out so far, for whatever reason."""
        return sum(self.skipped.values())

    def skip(self, path: Path, row: int, reason: str, detail: str = "") -> None:
        """Note a document that is left out; `row` is its line or row, counted from 1."""
        self.skipped[reason] = self.skipped.get(reason, 0) + 1
        if len(self.problems) < _PROBLEMS_SHOWN:
            self.problems.append({"file": str(path), "row": row, "reason": detail or reason})
            log.warning("%s row %d is left out: %s", path, row, detail or reason)

    def broken(self, path: Path, error: DataError) -> None:
        """Note a damaged file whose rest is left out."""
        self.damaged.append({"file": str(path), "reason": str(error)})
        log.warning("the rest of a damaged file is left out: %s", error)

    def share_left_out(self) -> float:
        """Share of the bytes of all files that was left out, taking of each file its share of rows.

        Rows of two files do not compare: a row is a line of one and the whole of the other.
        """
        self.begin(0)
        return self._bytes_left_out / self._bytes if self._bytes else 0.0

    def check_share(self, what: str) -> None:
        """Refuse to go on with less than half of the data.

        Raises:
            DataError: if more than half was left out, as `share_left_out` weighs it.
        """
        share = self.share_left_out()
        if share > 0.5:
            reasons = ", ".join(f"{reason}: {count:,}" for reason, count in sorted(self.skipped.items()))
            first = "; ".join(f"{p['file']} row {p['row']:,} ({p['reason']})" for p in self.problems[:3])
            raise DataError(
                f"{what}: {self.left_out:,} of {self.rows:,} would be left out ({reasons}), {share:.0%} of the data by "
                f"the sizes of the files, more than half; the first are {first}; mend the files, or take them out of "
                "the config"
            )

    def as_metrics(self) -> dict[str, Any]:
        """For the manifest."""
        return {"skipped": self.skipped, "damaged_files": self.damaged, "problems": self.problems}
