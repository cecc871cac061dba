"""The tokenizer against rustbpe (training) and tiktoken (encoding): time, compression, memory.

    python benchmarks/tokenizer.py                      # the texts of ../shared/hub, or a made world where it is absent
    python benchmarks/tokenizer.py --made-gigabytes 2   # and how training grows: 1/10 of a made text, all of it

Every measurement is a process of its own, in turns. All read the same shards, with the same split and vocabulary size;
ours is the whole stage, from the shards to a written artifact. Compression is measured on the validation shard.
"""

import argparse
import json
import random
import string
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from report import Sample, finish, machine, number, print_table, ratio

from nanochat.data.shards import documents
from nanochat.data.tokenizer import Tokenizer

HERE = Path(__file__).parent
HUB = HERE.parents[1] / "shared" / "hub" / "datasets" / "karpathy"
MAX_DIGITS = 2


def measure(what: str, shards: list[Path], threads: int, vocab_size: int, **job: Any) -> dict[str, Any]:
    """Run a worker.

    Raises:
        SystemExit: with its error output, if it fails.
    """
    job |= {"what": what, "shards": [str(shard) for shard in shards], "threads": threads}
    job |= {"vocab_size": vocab_size, "max_digits": MAX_DIGITS}
    command = [sys.executable, str(HERE / "worker_tokenizer.py"), json.dumps(job)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{what} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def texts_of_hub() -> dict[str, tuple[list[Path], Path]]:
    """Name → training shards and validation shard, of ../shared/hub or a made world."""
    found = {}
    for name in ("climbmix-400b-shuffle", "fineweb-edu-100b-shuffle"):
        shards = sorted((HUB / name).glob("shard_*.parquet"))
        if shards:
            found[name] = (shards[:-1], shards[-1])
    return found


def made_world(folder: Path) -> dict[str, tuple[list[Path], Path]]:
    """The embedded world, where there is nothing else."""
    from nanochat.config import WorldSettings
    from nanochat.data.world.generate import generate

    folder.mkdir()
    generate(WorldSettings(), out=folder)
    shards = sorted(folder.glob("datasets/world/text/shard_*.parquet"))
    return {"world": (shards[:-1], shards[-1])}


def enciphered(shards: list[Path], characters: int) -> Iterator[str]:
    """Text of any length from a smaller one.

    Of each pass over it, every eighth document has its letters exchanged, so that new words go on coming.
    """
    left = characters
    chance = random.Random(1)
    while left > 0:
        letters = string.ascii_lowercase
        cipher = str.maketrans(letters, "".join(chance.sample(letters, len(letters))))
        for shard in shards:
            for number_, text in enumerate(documents(shard)):
                yield text.translate(cipher) if number_ % 8 == 7 else text
                left -= len(text)
                if left <= 0:
                    return


def make_shards(shards: list[Path], characters: int, folder: Path) -> list[Path]:
    """Write `enciphered` text as shards of about 250 MB of text, as the public ones."""
    schema = pa.schema([("text", pa.string())])
    made: list[Path] = []
    texts = enciphered(shards, characters)
    while rows := list(islice(texts, 1024)):
        made.append(folder / f"shard_{len(made):05d}.parquet")
        with pq.ParquetWriter(made[-1], schema, compression="zstd") as writer:
            size = 0
            while rows and size < 250_000_000:
                writer.write_table(pa.table({"text": rows}, schema))
                size += sum(map(len, rows))
                rows = list(islice(texts, 1024)) if size < 250_000_000 else []
    return made


def compare(name: str, shards: list[Path], val: Path, given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Train and encode one text in turns; print a table; the figures."""
    trainers = ["train_ours", "train_tokenizers"] + ["train_rustbpe"] * (find_spec("rustbpe") is not None)
    encoders = ["encode_ours", "encode_tokenizers"] + ["encode_tiktoken"] * (find_spec("tiktoken") is not None)
    outs = {what: folder / f"{name}-{what}" / "tokenizer" for what in trainers}
    runs: dict[str, list[dict[str, Any]]] = {what: [] for what in trainers + encoders}
    for repeat in range(given.repeats):
        for what in trainers:
            out = outs[what].with_name(f"tokenizer{repeat}")
            out.parent.mkdir(exist_ok=True)
            runs[what].append(measure(what, shards, given.threads, given.vocab_size, out=str(out)))
    tokenizer = outs["train_ours"].with_name("tokenizer0")
    for _ in range(given.repeats):
        for what in encoders:
            runs[what].append(measure(what, shards, given.threads, given.vocab_size, tokenizer=str(tokenizer)))
    size = sum(len(text.encode()) for shard in shards for text in documents(shard))
    held_out = list(documents(val))
    held_out_bytes = sum(len(text.encode()) for text in held_out)
    ours = Tokenizer.load(tokenizer)
    bytes_per_token = {"train_ours": held_out_bytes / sum(map(len, ours.encode_batch(held_out)))}
    if "train_rustbpe" in runs:
        tokens = tokens_of_rustbpe(outs["train_rustbpe"].with_name("tokenizer0"), held_out)
        bytes_per_token["train_rustbpe"] = held_out_bytes / tokens
    seconds = {what: Sample.of([run["seconds"] for run in found]) for what, found in runs.items()}
    peak = {what: max(run["peak_bytes"] for run in found) / 1e6 for what, found in runs.items()}
    print_table(
        f"{name}: {size / 1e6:.1f} MB, vocabulary {given.vocab_size}, {given.threads} threads, {given.repeats} repeats",
        ["", "seconds", "spread", "MB/s", "peak MB", "bytes/token"],
        [
            [
                what.replace("_", " "),
                number(sample.median, 2),
                number(100 * sample.spread, 0, " %"),
                number(size / 1e6 / sample.median, 1),
                number(peak[what], 0),
                number(bytes_per_token.get(what), 4),
            ]
            for what, sample in seconds.items()
        ],
    )
    return {
        "bytes": size,
        "seconds": {what: sample.median for what, sample in seconds.items()},
        "train_time_vs_rustbpe": ratio(seconds["train_ours"], seconds.get("train_rustbpe")),
        "train_time_vs_tokenizers": ratio(seconds["train_ours"], seconds["train_tokenizers"]),
        "bytes_per_token": bytes_per_token["train_ours"],
        "bytes_per_token_vs_rustbpe": bytes_per_token["train_ours"] / bytes_per_token["train_rustbpe"]
        if "train_rustbpe" in bytes_per_token
        else None,
        "encode_vs_tiktoken": ratio(seconds.get("encode_tiktoken"), seconds["encode_ours"]),
        "encode_vs_tokenizers": ratio(seconds["encode_tokenizers"], seconds["encode_ours"]),
        "encode_mb_per_s": size / 1e6 / seconds["encode_ours"].median,
        "same_tokens": len({runs[what][0]["tokens"] for what in encoders}) == 1,
        "peak_mb": peak["train_ours"],
    }


def tokens_of_rustbpe(vocabulary: Path, texts: list[str]) -> int:
    """Tokens of texts with what rustbpe learned, through tiktoken as nanochat does, or merge by merge without it."""
    import tiktoken

    from nanochat.data.tokenizer import split_pattern

    ranks = {bytes.fromhex(token): rank for rank, token in enumerate(json.loads(vocabulary.read_text()))}
    encoder = tiktoken.Encoding("rustbpe", pat_str=split_pattern(MAX_DIGITS), mergeable_ranks=ranks, special_tokens={})
    return sum(map(len, encoder.encode_ordinary_batch(texts)))


def growth(shards: list[Path], given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Train on a tenth of a made text and on all of it: time and memory."""
    figures = {}
    for part, characters in (("tenth", given.made_gigabytes * 1e8), ("whole", given.made_gigabytes * 1e9)):
        place = folder / part
        place.mkdir()
        made = make_shards(shards, int(characters), place)
        size = sum(sum(len(text.encode()) for text in documents(shard)) for shard in made)
        run = measure("train_ours", made, given.threads, given.vocab_size, out=str(place / "run" / "tokenizer"))
        figures[part] = {"bytes": size, "seconds": run["seconds"], "peak_mb": run["peak_bytes"] / 1e6}
    tenth, whole = figures["tenth"], figures["whole"]
    per_byte = (whole["seconds"] / whole["bytes"]) / (tenth["seconds"] / tenth["bytes"])
    print_table(
        "training on a made text",
        ["", "MB", "seconds", "MB/s", "peak MB"],
        [
            [
                part,
                number(figure["bytes"] / 1e6, 0),
                number(figure["seconds"], 1),
                number(figure["bytes"] / 1e6 / figure["seconds"], 1),
                number(figure["peak_mb"], 0),
            ]
            for part, figure in figures.items()
        ],
    )
    print(f"seconds per byte, whole against tenth: {per_byte:.2f} (1 is linear)")
    return figures | {"seconds_per_byte_whole_vs_tenth": per_byte}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocab-size", type=int, default=32_768, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=2, help="for all of them (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each (default: %(default)s)")
    parser.add_argument("--made-gigabytes", type=float, default=0, help="size of a made text to train on as well")
    parser.add_argument("--shards", type=Path, nargs="+", help="a text of your own to measure on: training shards")
    parser.add_argument("--val", type=Path, help="… and its validation shard")
    parser.add_argument("--folder", type=Path, help="where artifacts go; default: the system's temporary folder")
    given = parser.parse_args()
    missing = [name for name in ("rustbpe", "tiktoken") if find_spec(name) is None]
    if missing:
        print(f"not compared: {' and '.join(missing)} (pip install {' '.join(missing)})")
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        own = {given.shards[0].parent.name: (given.shards, given.val or given.shards[-1])} if given.shards else {}
        texts = own or texts_of_hub() or made_world(folder / "world")
        figures = {text: compare(text, *parts, given, folder) for text, parts in texts.items()}
        made = {}
        if given.made_gigabytes:
            made = {"made": growth([shard for shards, _ in texts.values() for shard in shards], given, folder)}

    def worst(key: str, choose: Any) -> float | None:
        values = [figure[key] for figure in figures.values() if figure[key] is not None]
        return choose(values) if values else None

    finish(
        "tokenizer",
        {
            "train_time_vs_rustbpe": worst("train_time_vs_rustbpe", max),
            "bytes_per_token_vs_rustbpe": worst("bytes_per_token_vs_rustbpe", min),
            "encode_vs_tiktoken": worst("encode_vs_tiktoken", min),
            "peak_mb": worst("peak_mb", max),
            "texts": figures,
            **made,
        },
        machine(),
    )


if __name__ == "__main__":
    main()
