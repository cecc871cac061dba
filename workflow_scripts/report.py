"""Write a run's report.

python -m workflow_scripts.report --out results/r/report.md --figures F --tokens …
"""

from pathlib import Path

from nanochat.config import parse_pairs
from workflow_scripts.command import add_settings, parser, run


def main() -> None:
    """Parse and write."""
    from nanochat.report.report import run as report

    arguments = parser(__doc__)
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--figures", type=Path, required=True)
    arguments.add_argument("--tokens", type=Path, nargs="*", default=[])
    arguments.add_argument("--command", default="snakemake report.md", help="command that reproduces the run")
    add_settings(arguments)
    given = arguments.parse_args()
    report(
        parse_pairs("report", given.settings),
        out=given.out,
        figures=given.figures,
        run_folder=given.out.parent,
        token_folders=given.tokens,
        command=given.command,
    )


if __name__ == "__main__":
    run(main)
