"""Write a checkpoint as a Hugging Face folder.

python -m workflow_scripts.export --out results/r/export/sft --model results/r/sft --evaluations results/r/eval/sft
"""

from pathlib import Path

from nanochat.config import parse_pairs
from workflow_scripts.command import add_settings, parser, run


def main() -> None:
    """Parse and export."""
    from nanochat.export.export import run as export

    arguments = parser(__doc__)
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--model", type=Path, required=True)
    arguments.add_argument("--earlier", type=Path, nargs="*", default=[], help="checkpoints it was trained from")
    arguments.add_argument("--evaluations", type=Path, nargs="*", default=[], help="of it, or of those")
    add_settings(arguments)
    given = arguments.parse_args()
    export(
        parse_pairs("export", given.settings),
        out=given.out,
        model=given.model,
        earlier=given.earlier,
        evaluations=given.evaluations,
    )


if __name__ == "__main__":
    run(main)
