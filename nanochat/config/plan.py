"""What a run fetches and makes of it, in a few words: for the check of the disk before the first byte."""

from pathlib import Path

from pydantic import Field

from nanochat.config.base import Settings
from nanochat.config.catalogue import Catalogue


class FetchPlan(Settings):
    """All that a run takes from one source; short enough for a command line."""

    files: tuple[str, ...] = ()
    """Paths below the data folder; `eval_bundle` is one."""
    shards: dict[str, tuple[int, int]] = Field(default={})
    """Corpus of the catalogue → number of training shards, and which shard is the validation text."""
    tokens: dict[str, tuple[int, int]] = Field(default={})
    """Folder of token files → how many there will be, and the size of one, about."""

    def paths(self, catalogue: Catalogue) -> list[str]:
        """Paths below the data folder of everything that is fetched."""
        shards = [
            catalogue.corpora[name].path(index)
            for name, (count, val) in self.shards.items()
            for index in (*range(count), val)
        ]
        return [*shards, *self.files]

    def token_bytes(self) -> int:
        """Bytes of the token files that are still to be made."""
        missing = 0
        for folder, (count, size) in self.tokens.items():
            made = sum(path.is_dir() for path in Path(folder).glob("shard_*"))
            missing += max(0, count - made) * size
        return missing
