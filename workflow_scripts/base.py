"""Pretrain.

torchrun --standalone --nproc_per_node=8 -m workflow_scripts.base --out B --tokenizer T --train-tokens …
"""

import json
from pathlib import Path

from nanochat.config import parse_pairs
from workflow_scripts.command import add_training, execution, folders, parser, run


def main() -> None:
    """Parse and train."""
    from nanochat.runtime import World
    from nanochat.train.pretrain import run as pretrain

    arguments = parser(__doc__)
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--tokenizer", type=Path, required=True)
    arguments.add_argument("--train-tokens", nargs="+", required=True)
    arguments.add_argument("--val-tokens", nargs="+", required=True)
    arguments.add_argument("--prompts", type=json.loads, default=[], help="JSON list of prompts for samples.md")
    add_training(arguments)
    given = arguments.parse_args()
    settings = parse_pairs("base", given.settings)
    with World.open(given.device) as world:
        pretrain(
            settings,
            out=given.out,
            tokenizer=given.tokenizer,
            train_tokens=folders(given.train_tokens),
            val_tokens=folders(given.val_tokens),
            execution=execution(given),
            world=world,
            sample_prompts=given.prompts,
        )


if __name__ == "__main__":
    run(main)
