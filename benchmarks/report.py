"""What all benchmarks share: medians and spreads, tables for people, the machine, and the last line for programs."""

import json
import os
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from nanochat.runtime import hardware_info

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Sample:
    """Repeated measurements of one thing."""

    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> "Sample":
        """From any sequence of at least one value."""
        return cls(tuple(values))

    @property
    def median(self) -> float:
        """The value that half of the repeats exceed."""
        return statistics.median(self.values)

    @property
    def spread(self) -> float:
        """Largest minus smallest value, as a share of the median."""
        return (max(self.values) - min(self.values)) / self.median if self.median else 0.0


def ratio(a: Sample | None, b: Sample | None) -> float | None:
    """Median of `a` over median of `b`; None where one of them was not measured."""
    return a.median / b.median if a is not None and b is not None and b.median else None


def number(value: float | None, digits: int = 2, unit: str = "") -> str:
    """A figure for a table; a dash where there is none."""
    return "–" if value is None else f"{value:,.{digits}f}{unit}"


def share(value: float | None, digits: int = 1) -> str:
    """A share in percent for a table."""
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table with columns as wide as they need; the first column is text, the others end to the right."""
    widths = [max(len(str(line[column])) for line in (header, *rows)) for column in range(len(header))]
    print(f"\n{title}")
    for line in (header, ["-" * width for width in widths], *rows):
        cells = [cell.ljust(widths[0]) if place == 0 else cell.rjust(widths[place]) for place, cell in enumerate(line)]
        print("  ".join(cells).rstrip())


def machine(device: "torch.device | None" = None) -> dict[str, Any]:
    """The machine under a benchmark: hardware, torch, and how busy it was (load is that of the last minute)."""
    return hardware_info(device) | {"torch": version("torch"), "load": os.getloadavg()[0]}


def finish(name: str, figures: dict[str, Any], machine: dict[str, Any]) -> None:
    """Print the machine for people, then everything as one line of JSON, the last of the output."""
    gigabytes = machine["memory_bytes"] / 2**30
    parts = [f"{machine['cores']} cores of {machine['cpu']}", f"{gigabytes:.0f} GiB", f"torch {machine['torch']}"]
    if machine["devices"]:
        parts.insert(0, str(machine["device"]))
    if "threads" in machine:
        parts.append(f"{machine['threads']} threads")
    print(f"\nmachine: {', '.join(parts)}, load {machine['load']:.2f}")
    print(json.dumps({"benchmark": name, **figures, "machine": machine}), flush=True)


def with_briefly_spinning_threads() -> None:
    """Start this program again with the OpenMP setting of the workflow's rules, which is read when torch is loaded."""
    if "GOMP_SPINCOUNT" not in os.environ:
        sys.stdout.flush()
        environment = os.environ | {"GOMP_SPINCOUNT": "5000"}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)
