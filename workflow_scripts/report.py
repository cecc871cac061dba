"""Write a run's report.

python -m workflow_scripts.report --out results/r/report.md --figures F --tokens …
"""

import json
from pathlib import Path

import yaml

from nanochat.config import parse_pairs
from workflow_scripts.command import add_settings, folders, parser, run


def main() -> None:
    """Parse and write."""
    from nanochat.artifact import write_atomically
    from nanochat.report.report import run as report

    arguments = parser(__doc__)
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--figures", type=Path, required=True)
    arguments.add_argument("--tokens", nargs="*", default=[])
    arguments.add_argument("--sources", type=Path, nargs="*", default=[], help="what was made of the user's own data")
    arguments.add_argument("--config", type=json.loads, default={}, help="configuration of the run, as JSON")
    add_settings(arguments)
    given = arguments.parse_args()
    # The run's own record of what it was made from, and a configuration file to make it again with.
    configuration = given.out.parent / "config.yaml"
    write_atomically(configuration, yaml.safe_dump(given.config, sort_keys=False, allow_unicode=True))
    report(
        parse_pairs("report", given.settings),
        out=given.out,
        figures=given.figures,
        run_folder=given.out.parent,
        token_folders=folders(given.tokens),
        sources=given.sources,
        command=f"snakemake report.md --configfile {configuration}",
    )


if __name__ == "__main__":
    run(main)
