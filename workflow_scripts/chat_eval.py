"""Evaluate a chat model.

python -m workflow_scripts.chat_eval --stage sft --out E --model results/r/sft --data data/hub
"""

from pathlib import Path

from nanochat.config import parse_pairs
from workflow_scripts.command import add_device, add_settings, parser, run


def main() -> None:
    """Parse and evaluate."""
    from nanochat.evaluate.chat_eval import run as evaluate
    from nanochat.evaluate.device_batch import evaluation_rows
    from nanochat.runtime import World

    arguments = parser(__doc__)
    arguments.add_argument("--stage", choices=("mid", "sft", "rl"), required=True)
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--model", type=Path, required=True)
    arguments.add_argument("--data", type=Path, required=True)
    add_device(arguments)
    add_settings(arguments)
    given = arguments.parse_args()
    settings = parse_pairs("chat_eval", given.settings)
    with World.open(given.device) as world:
        evaluate(
            settings,
            stage=given.stage,
            out=given.out,
            model=given.model,
            data=given.data,
            world=world,
            device_batch_size=evaluation_rows(given.device_batch_size, given.model, world),
        )


if __name__ == "__main__":
    run(main)
