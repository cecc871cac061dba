"""The command line that mid, sft and rl share: a checkpoint to start from and a data folder."""

from pathlib import Path

from nanochat.config import parse_pairs
from workflow_scripts.command import add_training, execution, parser


def finetune(stage: str, description: str | None) -> None:
    """Parse and train `stage` (mid, sft or rl)."""
    from nanochat.runtime import World

    arguments = parser(description)
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--init", type=Path, required=True, help="checkpoint directory to start from")
    arguments.add_argument("--data", type=Path, required=True, help="data folder, laid out like the hub")
    arguments.add_argument("--own", type=Path, help="folder of the user's own conversations and persona")
    add_training(arguments)
    given = arguments.parse_args()
    settings = parse_pairs(stage, given.settings)
    with World.open(given.device) as world:
        shared = {"out": given.out, "init": given.init, "data": given.data, "world": world}
        shared["execution"] = execution(given)
        if stage == "rl":
            from nanochat.train.reinforce import run as reinforce

            reinforce(settings, **shared)
        else:
            from nanochat.train.finetune import run as train

            train(stage, settings, own_data=given.own, **shared)
