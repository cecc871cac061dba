"""Measure compression.

python -m workflow_scripts.tokenizer_eval --out E --tokenizer T --shard S
"""

from pathlib import Path

from nanochat.config import parse_pairs
from workflow_scripts.command import parser, run


def main() -> None:
    """Parse and measure."""
    from nanochat.data.tokenizer_eval import run as evaluate

    arguments = parser(__doc__)
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--tokenizer", type=Path, required=True)
    arguments.add_argument("--shard", type=Path, required=True)
    given = arguments.parse_args()
    evaluate(parse_pairs("tokenizer_eval", []), out=given.out, tokenizer=given.tokenizer, shard=given.shard)


if __name__ == "__main__":
    run(main)
