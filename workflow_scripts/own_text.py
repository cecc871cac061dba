"""Make shards of the user's own text.

python -m workflow_scripts.own_text --out D --files '["notes/", "book.txt"]' --settings own.text.shards=1
"""

import json
from pathlib import Path

from nanochat.config import parse_pairs
from nanochat.config.files import find_files
from workflow_scripts.command import add_settings, parser, run


def main() -> None:
    """Parse and make."""
    from nanochat.data.own.text import run as make_shards

    arguments = parser(__doc__)
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--files", type=json.loads, required=True, help="JSON list of files, folders, patterns")
    add_settings(arguments)
    given = arguments.parse_args()
    found = find_files(given.files, "own.text.files")
    make_shards(
        parse_pairs("own_text", given.settings),
        out=given.out,
        files=[Path(file) for file in found.files],
        others=found.others,
    )


if __name__ == "__main__":
    run(main)
