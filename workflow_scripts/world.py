"""Make the embedded world.

python -m workflow_scripts.world --out data/world/made --settings world.seed=1
"""

import shutil
from pathlib import Path

from nanochat.config import parse_pairs
from workflow_scripts.command import add_settings, parser, run


def main() -> None:
    """Parse and make; the folder appears under its name only when it is complete."""
    from nanochat.data.world.generate import generate

    arguments = parser(__doc__)
    arguments.add_argument("--out", type=Path, required=True)
    add_settings(arguments)
    given = arguments.parse_args()
    temporary = given.out.with_name(f".{given.out.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    generate(parse_pairs("world", given.settings).world, temporary)
    shutil.rmtree(given.out, ignore_errors=True)
    temporary.replace(given.out)


if __name__ == "__main__":
    run(main)
