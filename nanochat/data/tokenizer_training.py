"""The stage `tokenizer`: merges learned from a stream of training documents."""

import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nanochat.artifact import Manifest, Workspace
from nanochat.config import TokenizerSettings
from nanochat.config.stages import TokenizerStage
from nanochat.data.shards import ShardStats, text_batches
from nanochat.data.tokenizer import Tokenizer, splitter
from nanochat.data.words import WordCounter

log = logging.getLogger(__name__)

_BATCH_BYTES = 8 << 20


def training_batches(
    shards: Sequence[Path], settings: TokenizerSettings, stats: ShardStats
) -> Iterator[pa.LargeStringArray]:
    """Documents cut to `document_chars`, until `max_chars` characters are given out.

    Shards of one corpus (folder) are read in order. Of several corpora each gives an equal part, as far as it goes: a
    small one is not drowned, nor left out because the first fills `max_chars`.
    """
    folders: dict[Path, list[Path]] = {}
    for shard in shards:
        folders.setdefault(shard.parent, []).append(shard)
    # Batches small enough that the parts can be equal.
    size = _BATCH_BYTES if len(folders) == 1 else min(_BATCH_BYTES, settings.max_chars // (16 * len(folders)) + 1)
    readers = {folder: _cut_documents(own, settings, stats, size) for folder, own in folders.items()}
    given = dict.fromkeys(readers, 0)
    left = settings.max_chars
    while readers and left:
        folder = min(readers, key=lambda one: given[one])
        batch = next(readers[folder], None)
        if batch is None:
            del readers[folder]
            continue
        ends = np.cumsum(pc.utf8_length(batch).to_numpy())
        if ends[-1] > left:
            last = int(np.searchsorted(ends, left))
            rest = left - (int(ends[last - 1]) if last else 0)
            yield pa.concat_arrays([batch[:last], pc.utf8_slice_codeunits(batch[last : last + 1], 0, rest)])
            return
        left -= int(ends[-1])
        given[folder] += int(ends[-1])
        yield batch


def _cut_documents(
    shards: Sequence[Path], settings: TokenizerSettings, stats: ShardStats, batch_bytes: int
) -> Iterator[pa.LargeStringArray]:
    for shard in shards:
        for batch in text_batches(shard, stats=stats, batch_bytes=batch_bytes):
            yield pc.utf8_slice_codeunits(batch, 0, settings.document_chars)


def run(settings: TokenizerStage, *, out: Path, shards: Sequence[Path], threads: int = 1) -> Manifest:
    """Train a tokenizer and write it to `out` as {tokenizer.json, token_bytes.npy, manifest.json}.

    Memory holds the different words of the text (at most some million), not the text.

    Raises:
        DataError: if a shard is damaged or there is no text.
        ArtifactError: if a shard is missing.
    """
    with Workspace(out, "tokenizer", settings, {shard.name: shard for shard in shards}) as workspace:
        if workspace.finished():
            return workspace.promote()
        begin = time.perf_counter()
        stats = ShardStats()
        counter = WordCounter(splitter(settings.tokenizer))
        counter.count(training_batches(shards, settings.tokenizer, stats), threads)
        counted = time.perf_counter()
        tokenizer = Tokenizer.learn(counter, settings.tokenizer)
        log.info("counted words in %.1f s, learned merges in %.1f s", counted - begin, time.perf_counter() - counted)
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
                "documents": counter.documents,
                "characters": counter.characters,
                "forgotten": counter.forgotten,
                "skipped": stats.skipped,
                "mean_token_bytes": round(float(lengths.mean()), 3),
                "longest_token_bytes": int(lengths.max()),
            },
            wall_seconds=time.perf_counter() - begin,
        )
