"""Batches of pretraining and finetuning: the rows of a step, cut by rank."""

from nanochat.data.packing import RowSource
from nanochat.runtime import World
from nanochat.train.trainer import StepBatch


class RowSteps:
    """Step s is rows [s·R, (s + 1)·R) of a row source; each rank reads a contiguous part of them."""

    def __init__(self, source: RowSource, rows_per_step: int, world: World) -> None:
        self.source = source
        self.rows_per_step = rows_per_step
        self.world = world

    def read(self, step: int) -> StepBatch:
        """Rows of the 0-based `step` for this rank."""
        first, last = (rank * self.rows_per_step // self.world.size for rank in (self.world.rank, self.world.rank + 1))
        rows = self.source.read(step * self.rows_per_step + first, last - first)
        return StepBatch(rows, where=self.position(step))

    def position(self, step: int) -> str:
        """In words, where in the data the rows of the 0-based `step` are, those of all ranks."""
        per_epoch = self.source.rows_per_epoch
        begin = step * self.rows_per_step
        (epoch, first), (end_epoch, last) = (divmod(row, per_epoch) for row in (begin, begin + self.rows_per_step - 1))
        end = f"{last}" if end_epoch == epoch else f"{last} of epoch {end_epoch + 1}"
        return f"epoch {epoch + 1}, rows {first} to {end} (an epoch has {per_epoch}, from 0)"
