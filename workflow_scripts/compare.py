"""Compare two checkpoints by the records of their evaluations.

python -m workflow_scripts.compare --out C --first results/a/sft --second results/b/sft
"""

from pathlib import Path

from nanochat.config import parse_pairs
from workflow_scripts.command import add_settings, parser, run


def main() -> None:
    """Parse and compare."""
    from nanochat.report.compare import run as compare

    arguments = parser(__doc__)
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--first", type=Path, required=True, metavar="CHECKPOINT")
    arguments.add_argument("--second", type=Path, required=True, metavar="CHECKPOINT")
    arguments.add_argument("--first-evaluation", type=Path, help="where not in <run>/eval/<stage>")
    arguments.add_argument("--second-evaluation", type=Path, help="where not in <run>/eval/<stage>")
    add_settings(arguments)
    given = arguments.parse_args()
    compare(
        parse_pairs("compare", given.settings),
        out=given.out,
        first=given.first,
        second=given.second,
        first_evaluation=given.first_evaluation or given.first.parent / "eval" / given.first.name,
        second_evaluation=given.second_evaluation or given.second.parent / "eval" / given.second.name,
    )


if __name__ == "__main__":
    run(main)
