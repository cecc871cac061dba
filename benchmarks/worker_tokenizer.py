"""One measurement of benchmarks/tokenizer.py in a process of its own: seconds without start-up, and peak memory.

python worker_tokenizer.py JOB: a line of JSON in, a line of JSON out.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tokenizers
from tokenizers import Regex, models, pre_tokenizers, trainers

from nanochat.config import TokenizerSettings
from nanochat.config.stages import TokenizerStage
from nanochat.data import tokenizer_training
from nanochat.data.encoding import BulkEncoder
from nanochat.data.shards import ShardStats, text_batches
from nanochat.data.tokenizer import SPECIAL_TOKENS, TOKENIZER_FILE, Tokenizer, split_pattern
from nanochat.data.tokens import id_type

Job = dict[str, Any]
_BATCH = 1024


def texts(shards: list[str]) -> Iterator[str]:
    """Documents as nanochat reads them."""
    for shard in shards:
        with pq.ParquetFile(shard) as file:
            for group in range(file.num_row_groups):
                yield from file.read_row_group(group, columns=["text"]).column(0).to_pylist()


def train_ours(job: Job) -> float:
    """The stage `tokenizer`, artifact and all."""
    settings = TokenizerStage(tokenizer=TokenizerSettings(vocab_size=job["vocab_size"], document_chars=10**9))
    begin = time.perf_counter()
    tokenizer_training.run(
        settings, out=Path(job["out"]), shards=[Path(shard) for shard in job["shards"]], threads=job["threads"]
    )
    return time.perf_counter() - begin


def train_rustbpe(job: Job) -> float:
    """Nanochat's trainer, with our split."""
    import rustbpe

    begin = time.perf_counter()
    trained = rustbpe.Tokenizer()
    learned = job["vocab_size"] - len(SPECIAL_TOKENS)
    trained.train_from_iterator(texts(job["shards"]), learned, pattern=split_pattern(job["max_digits"]))
    seconds = time.perf_counter() - begin
    ranks = {bytes(token): rank for token, rank in trained.get_mergeable_ranks()}
    Path(job["out"]).write_text(json.dumps([token.hex() for token, _ in sorted(ranks.items(), key=lambda e: e[1])]))
    return seconds


def train_tokenizers(job: Job) -> float:
    """The trainer of `tokenizers`, with our split."""
    begin = time.perf_counter()
    core = tokenizers.Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(split_pattern(job["max_digits"])), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=job["vocab_size"] - len(SPECIAL_TOKENS),
        min_frequency=2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts(job["shards"]), trainer)
    seconds = time.perf_counter() - begin
    core.save(job["out"])
    return seconds


def encode_ours(job: Job) -> float:
    """What the stage `tokens` does: from the shard to an array of ids."""
    tokenizer = Tokenizer.load(Path(job["tokenizer"]))
    batches = [batch for shard in job["shards"] for batch in text_batches(Path(shard), stats=ShardStats())]
    begin = time.perf_counter()
    found = [ids for ids, _ in BulkEncoder(tokenizer, id_type(tokenizer.vocab_size), job["threads"]).encode(batches)]
    seconds = time.perf_counter() - begin
    job["tokens"] = sum(map(len, found)) - sum(map(len, batches))
    return seconds


def encode_tiktoken(job: Job) -> float:
    """Tiktoken with the same vocabulary and split, in large batches, to an array of ids."""
    import tiktoken

    content = json.loads((Path(job["tokenizer"]) / TOKENIZER_FILE).read_text())
    tokenizer = Tokenizer.load(Path(job["tokenizer"]))
    size = len(content["model"]["merges"]) + 256
    encoder = tiktoken.Encoding(
        "ours",
        pat_str=split_pattern(job["max_digits"]),
        mergeable_ranks={tokenizer.decode_bytes([number]): number for number in range(size)},
        special_tokens={},
    )
    return _encode_lists(job, lambda batch: encoder.encode_ordinary_batch(batch, num_threads=job["threads"]))


def encode_tokenizers(job: Job) -> float:
    """The tokenizer itself, in large batches, to an array of ids."""
    tokenizer = Tokenizer.load(Path(job["tokenizer"]))
    return _encode_lists(job, tokenizer.encode_batch)


def _encode_lists(job: Job, encode: Callable[[list[str]], list[list[int]]]) -> float:
    documents = list(texts(job["shards"]))
    begin = time.perf_counter()
    tokens = 0
    for start in range(0, len(documents), _BATCH):
        for ids in encode(documents[start : start + _BATCH]):
            tokens += len(np.array(ids, dtype=np.uint16))
    seconds = time.perf_counter() - begin
    job["tokens"] = tokens
    return seconds


def main() -> None:
    """Do one job."""
    job: Job = json.loads(sys.argv[1])
    os.environ["RAYON_NUM_THREADS"] = str(job["threads"])
    pa.set_cpu_count(job["threads"])
    seconds = globals()[job["what"]](job)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "peak_bytes": peak, "tokens": job.get("tokens")}))


if __name__ == "__main__":
    main()
