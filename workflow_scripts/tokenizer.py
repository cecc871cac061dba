"""Train the tokenizer.

python -m workflow_scripts.tokenizer --out results/r/tokenizer --shards S0 S1 --settings …
"""

from pathlib import Path

from nanochat.config import parse_pairs
from workflow_scripts.command import add_settings, parser, run


def main() -> None:
    """Parse and train."""
    from nanochat.data.tokenizer_training import run as train

    arguments = parser(__doc__)
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--shards", type=Path, nargs="+", required=True)
    arguments.add_argument("--threads", type=int, default=1)
    add_settings(arguments)
    given = arguments.parse_args()
    train(parse_pairs("tokenizer", given.settings), out=given.out, shards=given.shards, threads=given.threads)


if __name__ == "__main__":
    run(main)
