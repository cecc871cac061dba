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

    def check_share(self, what: str) -> None:
        """Refuse to go on with less than half of the data.

        Raises:
            DataError: if more than half of all rows were left out.
        """
        left_out = sum(self.skipped.values())
        if left_out * 2 > self.rows:
            reasons = ", ".join(f"{reason}: {count:,}" for reason, count in sorted(self.skipped.items()))
            first = "; ".join(f"{p['file']} row {p['row']} ({p['reason']})" for p in self.problems[:3])
            raise DataError(
                f"{what}: {left_out:,} of {self.rows:,} would be left out ({reasons}), more than half; the first are "
                f"{first}; mend the files, or take them out of the config"
            )

    def as_metrics(self) -> dict[str, Any]:
        """For the manifest."""
        return {"skipped": self.skipped, "damaged_files": self.damaged, "problems": self.problems}
