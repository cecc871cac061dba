"""The stage `tokenizer`: merges learned from a stream of training documents."""

import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from nanochat.artifact import Manifest, Workspace
from nanochat.config import TokenizerSettings
from nanochat.config.stages import TokenizerStage
from nanochat.data.shards import ShardStats, documents
from nanochat.data.tokenizer import Tokenizer

log = logging.getLogger(__name__)


def training_texts(shards: Sequence[Path], settings: TokenizerSettings, stats: ShardStats) -> Iterator[str]:
    """Documents of the shards in order, cut to `document_chars`, until `max_chars` characters are given out."""
    left = settings.max_chars
    for shard in shards:
        for text in documents(shard, stats=stats):
            piece = text[: min(settings.document_chars, left)]
            left -= len(piece)
            yield piece
            if left <= 0:
                return


def run(settings: TokenizerStage, *, out: Path, shards: Sequence[Path]) -> Manifest:
    """Train a tokenizer and write it to `out` as {tokenizer.json, token_bytes.npy, manifest.json}.

    Memory holds the distinct words of the text, not the text.

    Raises:
        DataError: if a shard is damaged or there is no text.
        ArtifactError: if a shard is missing.
    """
    with Workspace(out, "tokenizer", settings, {shard.name: shard for shard in shards}) as workspace:
        if workspace.finished():
            return workspace.promote()
        begin = time.perf_counter()
        stats = ShardStats()
        used = 0

        def texts() -> Iterator[str]:
            nonlocal used
            for text in training_texts(shards, settings.tokenizer, stats):
                used += len(text)
                yield text

        tokenizer = Tokenizer.train(texts(), settings.tokenizer)
        if tokenizer.unused:
            log.warning(
                "the text has merges for %d of %d tokens only; %d stay unused (tokenizer.vocab_size may be lower)",
                tokenizer.vocab_size - tokenizer.unused,
                tokenizer.vocab_size,
                tokenizer.unused,
            )
        tokenizer.save(workspace.final)
        lengths = tokenizer.token_bytes[tokenizer.token_bytes > 0]
        return workspace.finish(
            metrics={
                "vocab_size": tokenizer.vocab_size,
                "unused_tokens": tokenizer.unused,
                "documents": stats.documents,
                "characters": used,
                "skipped": stats.skipped,
                "mean_token_bytes": round(float(lengths.mean()), 3),
                "longest_token_bytes": int(lengths.max()),
            },
            wall_seconds=time.perf_counter() - begin,
        )
