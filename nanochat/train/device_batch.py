"""Rows of a micro-batch, and whether blocks are computed twice: chosen by the model of memory, remembered for resume.

What is chosen is kept in the stage's in-progress folder, since memory that is free today may not be tomorrow: a stage
that is killed, even before its first step checkpoint, goes on with the same sizes and so bit by bit.
"""

import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nanochat.artifact import write_atomically
from nanochat.errors import TrainingError
from nanochat.headroom import OomKills, oom_kills, shares_memory, usable_bytes
from nanochat.model.config import GPTConfig
from nanochat.model.gpt import GPT
from nanochat.model.memory import MemorySettings, largest_batch, training_memory
from nanochat.runtime import World
from nanochat.train.execution import Execution

log = logging.getLogger(__name__)

CPU_TOKENS = 8192
"""Tokens of a micro-batch from which on a CPU gets no faster (docs/benchmarks.md)."""
FEW_ROWS = 4
"""A GPU is not busy with fewer: then recomputing, a third more work at most, pays."""
RECORD = "device_batch.json"


@dataclass(frozen=True)
class DeviceBatch:
    """How a step is cut on this machine.

    Attributes:
        rows: of a micro-batch.
        recompute: whether blocks are computed again in the backward pass.
        predicted: bytes that the model of memory expects at the peak.
        usable: bytes that each rank may hold.
    """

    rows: int
    recompute: bool
    predicted: int
    usable: int


def choose(
    config: GPTConfig, execution: Execution, settings: MemorySettings, *, rows_per_rank: int, usable: int
) -> DeviceBatch:
    """The largest power of two of rows that fits, at most a step's; blocks are recomputed only where that is needed.

    With `activation_checkpointing: auto` they are where not even one row fits otherwise, and on GPUs where fewer than
    four do and more would.

    Args:
        config: of the model.
        execution: what is asked for.
        settings: what memory depends on; `recompute` is set here.
        rows_per_rank: rows that one rank has in a step, at least 1.
        usable: bytes that each rank may hold.

    Raises:
        TrainingError: if not even one row fits, unless the rows are set by hand.
    """
    most = rows_per_rank
    if settings.device == "cpu":
        most = min(most, max(1, CPU_TOKENS // config.sequence_length))
    kept, again = (
        largest_batch(config, usable, most=most, settings=replace(settings, recompute=recompute))
        for recompute in (False, True)
    )
    recompute = execution.activation_checkpointing == "always"
    if execution.activation_checkpointing == "auto":
        wanted = min(FEW_ROWS, most) if settings.device == "cuda" else 1
        recompute = kept < wanted and again > kept
    settings = replace(settings, recompute=recompute)
    rows = execution.device_batch_size
    if rows == "auto":
        rows = again if recompute else kept

    def predicted(rows: int) -> int:
        return training_memory(config, rows=min(rows, rows_per_rank), settings=settings).total

    if not rows:
        way_out = "lower depth or model.sequence_length, or free some memory"
        if not recompute:
            way_out = f"set execution.activation_checkpointing: auto, {way_out}"
        raise TrainingError(
            f"a single row of {config.sequence_length} tokens needs about {predicted(1) / 1e9:.1f} GB, and "
            f"{usable / 1e9:.1f} GB may be used on this device; {way_out}. With device_batch_size = 1 set by hand it "
            "is tried nevertheless"
        )
    return DeviceBatch(rows, recompute, predicted(rows), usable)


def memory_settings(model: GPT, world: World) -> MemorySettings:
    """What the memory of training depends on besides shape and rows, as the model is set up."""
    kind, cuda = model.attention_kind, model.device.type == "cuda"
    if kind == "auto" and cuda:  # not compiled
        kind = "dense"
    return MemorySettings(
        device="cuda" if cuda else "cpu",
        dtype="float32" if str(model.dtype) == "torch.float32" else "bfloat16",
        ranks=world.size,
        recompute=model.recompute,
        attention=None if kind == "auto" else kind,
        kernels="cross_entropy" in model.kernels,
        staging=shares_memory(model.device),
    )


class DeviceBatchRecord:
    """The choice of a stage in its in-progress folder: made once, then kept.

    Attributes:
        killed: whether the run before ended because the kernel had no memory left. Only the count of such kills in
            this process's control group says so: any other end without a word is taken for a kill like any other,
            after which training goes on as it was.
    """

    def __init__(self, progress: Path, world: World) -> None:
        self._path, self._world = progress / RECORD, world
        self._place = f"{world.size} ranks on {world.device.type}"
        self._before: dict[str, Any] = world.broadcast_object(self._read() if world.is_main else None)
        self.killed = world.broadcast_object(self._was_killed() if world.is_main else False)

    def _read(self) -> dict[str, Any]:
        try:
            return json.loads(self._path.read_text())
        except (OSError, ValueError):
            return {}

    def _was_killed(self) -> bool:
        counted, now = self._before.get("oom_kills"), oom_kills()
        if not self._before.get("running") or counted is None or now is None:
            return False
        return now.group == counted["group"] and now.count > counted["count"]

    def choose(
        self, config: GPTConfig, execution: Execution, settings: MemorySettings, rows_per_rank: int
    ) -> DeviceBatch:
        """The choice made before, if it was for as many ranks on the same kind of device, or a new one.

        What is set by hand counts in either case.

        Raises:
            TrainingError: as `choose`.
        """
        usable = usable_bytes(self._world)
        before = self._before
        if before.get("place") != self._place:
            return choose(config, execution, settings, rows_per_rank=rows_per_rank, usable=usable)
        rows = before["rows"] if execution.device_batch_size == "auto" else execution.device_batch_size
        recompute = {"auto": before["recompute"], "always": True, "never": False}[execution.activation_checkpointing]
        if self.killed and rows == 1 and execution.activation_checkpointing == "auto":
            recompute = True
        settings = replace(settings, recompute=recompute)
        predicted = training_memory(config, rows=min(rows, rows_per_rank), settings=settings).total
        return DeviceBatch(rows, recompute, predicted, usable)

    def resumed(self, rows: int) -> int:
        """Rows to go on with: those of the step checkpoint, or half of them after a kill for want of memory."""
        if not self.killed:
            return rows
        rows = max(1, rows // 2)
        log.warning("the kernel had no memory left and killed the run before: device_batch_size is now %d", rows)
        return rows

    def begin(self, batch: DeviceBatch) -> None:
        """Remember the choice, and that training runs."""
        kills = oom_kills()
        self._write(batch, running=True, kills=kills)

    def end(self, batch: DeviceBatch) -> None:
        """Remember that training has ended in an orderly way, if with an error."""
        self._write(batch, running=False, kills=None)

    def _write(self, batch: DeviceBatch, *, running: bool, kills: OomKills | None) -> None:
        if self._world.is_main:
            values = {
                "place": self._place,
                "rows": batch.rows,
                "recompute": batch.recompute,
                "running": running,
                "oom_kills": kills and kills.to_dict(),
            }
            write_atomically(self._path, json.dumps(values) + "\n")
