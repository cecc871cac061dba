"""Check the user's own conversations.

python -m workflow_scripts.own_conversations --out D --files '["support.jsonl"]' --settings own.on_damage=skip
"""

import json
from pathlib import Path

from nanochat.config import parse_pairs
from nanochat.config.files import find_files
from workflow_scripts.command import add_settings, parser, run


def main() -> None:
    """Parse and check."""
    from nanochat.data.own.conversations import run as check

    arguments = parser(__doc__)
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--files", type=json.loads, required=True, help="JSON list of files, folders, patterns")
    add_settings(arguments)
    given = arguments.parse_args()
    found = find_files(given.files, "own.conversations")
    check(parse_pairs("own_conversations", given.settings), out=given.out, files=[Path(file) for file in found.files])


if __name__ == "__main__":
    run(main)
