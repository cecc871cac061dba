"""One generated world for all tests of this folder, and what was read from it."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from nanochat.config.data import WorldSettings
from nanochat.data.world.facts import build_world
from nanochat.data.world.generate import generate

SETTINGS = WorldSettings(text_megabytes=4.0)


class Made:
    """A generated folder, its counts, and readers for it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.counts = generate(SETTINGS, root)
        self.world = build_world(SETTINGS.seed, SETTINGS.people)

    def rows(self, name: str) -> list[dict]:
        """Rows of the task file `name`, such as `facts/main/test`."""
        return pq.read_table(self.root / f"datasets/world/{name}-00000-of-00001.parquet").to_pylist()

    def texts(self) -> list[str]:
        """All documents, the validation shard's too."""
        shards = sorted((self.root / "datasets/world/text").glob("*.parquet"))
        return [text for shard in shards for text in pq.read_table(shard)["text"].to_pylist()]

    def training_texts(self) -> list[str]:
        """Everything a model may see in training: text, and all strings of the train files."""
        names = (
            "word_problems/main/train",
            "facts/main/train",
            "choice/choice/train",
            "choice/choice/validation",
            "subjects/all/auxiliary_train",
            "subjects/all/dev",
            "functions/openai_humaneval/train",
            "dialogue/data/train",
        )
        texts = self.texts()
        for name in names:
            for row in self.rows(name):
                texts += strings(row)
        texts.append((self.root / "files/identity_conversations.jsonl").read_text())
        return texts


def strings(value: object) -> list[str]:
    """All strings inside nested lists and dictionaries."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [text for part in value for text in strings(part)] if isinstance(value, list) else []


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Made:
    return Made(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def training_text(made) -> str:
    return "\n".join(made.training_texts())
