"""Tokenize one shard.

python -m workflow_scripts.tokens --out D --shard S --tokenizer T
"""

from pathlib import Path

from nanochat.config import parse_pairs
from workflow_scripts.command import parser, run


def main() -> None:
    """Parse and tokenize."""
    from nanochat.data.tokens import run as tokenize

    arguments = parser(__doc__)
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--shard", type=Path, required=True)
    arguments.add_argument("--tokenizer", type=Path, required=True)
    arguments.add_argument("--threads", type=int, default=1)
    given = arguments.parse_args()
    tokenize(
        parse_pairs("tokens", []), out=given.out, shard=given.shard, tokenizer=given.tokenizer, threads=given.threads
    )


if __name__ == "__main__":
    run(main)
