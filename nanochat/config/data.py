"""Settings of the data phase: where files come from, the embedded world, the tokenizer."""

from typing import Literal

from pydantic import Field

from nanochat.config.base import Named, Settings


class WorldSettings(Settings):
    """The embedded world: a generated hub folder for machines without a network."""

    seed: int = 1
    """Seed of everything generated; another seed is another world."""
    people: int = Field(default=96, ge=8, le=400)
    """Number of people in the world, each with about eight facts."""
    text_megabytes: float = Field(default=6.0, gt=0, le=100)
    """Size of the pretraining text, in millions of bytes, validation shard included."""
    train_shards: int = Field(default=4, ge=1, le=1000)
    """Number of training shards; one more holds the validation text."""
    items: float = Field(default=1.0, gt=0, le=20)
    """Scale of the task files: 1.0 gives about 6,000 word problems, 3,000 choices, 2,500 dialogues."""


class CorpusShare(Settings):
    """One corpus of the pretraining text."""

    weight: float = Field(default=1.0, gt=0)
    """Its share of the training tokens, against the weights of the others."""
    epochs: float | None = Field(default=None, gt=0)
    """How often it is read at most; what is left of its share then goes to the others. None is as often as needed."""


class DataSettings(Settings):
    """Where text and tasks come from, and how much of the text is used."""

    source: str = "world"
    """`world` (generated), `hub` (the public hubs), the address of a mirror of them (`http://…`), or the path of a
    local folder laid out like the hub."""
    corpus: str = "world"
    """Pretraining text: a corpus of the catalogue (`world`, `fineweb_edu`, `climbmix`), or `own` (see `own.text`)."""
    mixture: Named[CorpusShare] = Field(default={})
    """Pretraining text from several corpora, name → share; where given, it is used instead of `corpus`."""
    train_shards: int | Literal["auto"] = "auto"
    """Training shards to use of each corpus; `auto` takes what the training horizon needs, and all of `world` and
    `own`."""

    @property
    def shares(self) -> dict[str, CorpusShare]:
        """The corpora of the pretraining text."""
        return self.mixture or {self.corpus: CorpusShare()}


class TokenizerSettings(Settings):
    """Byte-level BPE with a GPT-4-style split and nine special tokens."""

    vocab_size: int = Field(default=32_768, ge=320, multiple_of=64)
    """Tokens in the vocabulary, the nine special ones included; a multiple of 64."""
    max_chars: int = Field(default=2_000_000_000, ge=1000)
    """Characters of training text the merges are learned from."""
    document_chars: int = Field(default=10_000, ge=100)
    """Characters taken of each document at most, so that long documents don't dominate."""
    max_digits: int = Field(default=2, ge=1, le=3)
    """Longest run of digits that may become one token; 1 spells every number out."""
