"""Check that the disk holds everything the run will fetch and make of it, before the first byte.

python -m workflow_scripts.disk --paths datasets/… files/… eval_bundle --source hub --data data/hub --out F
"""

import json
import logging
from pathlib import Path

from workflow_scripts.command import parser, run


def main() -> None:
    """Parse, check, and write what was found."""
    from nanochat.artifact import write_atomically
    from nanochat.config import load_catalogue
    from nanochat.data.disk import check_disk
    from nanochat.data.source import parse_source

    arguments = parser(__doc__)
    arguments.add_argument("--paths", nargs="*", default=[], help="paths below the data folder, and eval_bundle")
    arguments.add_argument("--source", required=True, help="hub, the address of a mirror, or a folder laid out like it")
    arguments.add_argument("--data", type=Path, required=True, help="the data folder")
    arguments.add_argument("--more-bytes", type=int, default=0, help="what later stages write there")
    arguments.add_argument("--out", type=Path, required=True)
    given = arguments.parse_args()
    plan = check_disk(
        given.paths,
        source=parse_source(given.source),
        data=given.data,
        catalogue=load_catalogue(),
        more_bytes=given.more_bytes,
    )
    logging.getLogger(__name__).info(
        "%.1f GB needed in %s, %.1f GB free", plan["needed_bytes"] / 1e9, plan["folder"], plan["free_bytes"] / 1e9
    )
    write_atomically(given.out, json.dumps(plan, indent=2) + "\n")


if __name__ == "__main__":
    run(main)
