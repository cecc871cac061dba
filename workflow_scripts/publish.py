"""Copy a run's report to another place, its links following.

python -m workflow_scripts.publish results/r/report.md --out F
"""

from pathlib import Path

from workflow_scripts.command import parser, run


def main() -> None:
    """Parse and publish."""
    from nanochat.report.report import publish

    arguments = parser(__doc__)
    arguments.add_argument("report", type=Path)
    arguments.add_argument("--out", type=Path, required=True)
    given = arguments.parse_args()
    publish(given.report, given.report.with_name("figures"), given.out)


if __name__ == "__main__":
    run(main)
