"""What a run fetches and makes of it, in a few words: for the check of the disk before the first byte."""

from pathlib import Path

from pydantic import Field

from nanochat.config.base import Settings
from nanochat.config.catalogue import Catalogue
from nanochat.config.layout import Layout

_LEAST_CHARS_PER_TOKEN = 3.5


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

    def token_bytes_by_folder(self) -> dict[Path, int]:
        """Bytes of the token files that are still to be made, by the folder they go to."""
        missing = {}
        for name, (count, size) in self.tokens.items():
            made = sum(path.is_dir() for path in Path(name).glob("shard_*"))
            missing[Path(name)] = max(0, count - made) * size
        return missing


def fetch_plan(layout: Layout, folder: str) -> FetchPlan:
    """What a run takes from the source of a data folder, and makes of it; nothing for what is made here."""
    if folder != layout.data or layout.data == layout.world:
        return FetchPlan()
    config = layout.config
    texts = [text for text in layout.texts if text.folder == folder]
    stages = ("mid", "sft", *(["rl"] if config.rl.enabled else []), "chat_eval")
    files = {file for stage in stages for file in layout.task_files(stage) if file.startswith(f"{folder}/")}
    width = 2 if config.tokenizer.vocab_size <= 1 << 16 else 4
    return FetchPlan(
        files=tuple(file.removeprefix(f"{folder}/") for file in (*sorted(files), layout.bundle)),
        shards={text.name: (text.wanted, text.val) for text in texts},
        tokens={
            f"{layout.tokens_root}/{text.name}": (
                text.wanted + 1,
                round(text.entry.shard_chars / _LEAST_CHARS_PER_TOKEN * width),
            )
            for text in texts
        },
    )
