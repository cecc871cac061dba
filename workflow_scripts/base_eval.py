"""Evaluate a base model.

python -m workflow_scripts.base_eval --out E --model B --bundle D --train-tokens … --val-tokens V
"""

from pathlib import Path

from nanochat.config import parse_pairs
from workflow_scripts.command import add_device, add_settings, folders, parser, run


def main() -> None:
    """Parse and evaluate."""
    from nanochat.evaluate.base_eval import run as evaluate
    from nanochat.evaluate.device_batch import evaluation_rows
    from nanochat.runtime import World

    arguments = parser(__doc__)
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--model", type=Path, required=True)
    arguments.add_argument("--bundle", type=Path, required=True)
    arguments.add_argument("--train-tokens", nargs="+", required=True)
    arguments.add_argument("--val-tokens", nargs="+", required=True)
    add_device(arguments)
    add_settings(arguments)
    given = arguments.parse_args()
    settings = parse_pairs("base_eval", given.settings)
    with World.open(given.device) as world:
        evaluate(
            settings,
            out=given.out,
            model=given.model,
            bundle=given.bundle,
            train_tokens=folders(given.train_tokens),
            val_tokens=folders(given.val_tokens),
            world=world,
            device_batch_size=evaluation_rows(given.device_batch_size, given.model, world),
        )


if __name__ == "__main__":
    run(main)
