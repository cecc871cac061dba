"""One corpus of a run's pretraining text: its shards, and which of them are for training and for validation."""

from dataclasses import dataclass

from nanochat.config.catalogue import Corpus


@dataclass(frozen=True)
class Text:
    """One corpus of a run.

    Attributes:
        name: in the catalogue, or `own`.
        entry: of the catalogue.
        folder: data folder of its shards.
        wanted: training shards in use.
        val: number of the validation shard: always the last one.
    """

    name: str
    entry: Corpus
    folder: str
    wanted: int
    val: int

    @property
    def train(self) -> range:
        """Numbers of the training shards in use."""
        return range(self.wanted)

    def shard(self, index: int) -> str:
        """Path of a text shard."""
        return f"{self.folder}/{self.entry.path(index)}"

    @property
    def train_shards(self) -> list[str]:
        """Paths of the training shards in use."""
        return [self.shard(index) for index in self.train]

    @property
    def val_shard(self) -> str:
        """Path of the validation shard."""
        return self.shard(self.val)
