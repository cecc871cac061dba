"""Expand a persona to conversations.

python -m workflow_scripts.persona --out D --persona persona.yaml --settings own.persona.conversations=2000
"""

from pathlib import Path

from nanochat.config import parse_pairs
from workflow_scripts.command import add_settings, parser, run


def main() -> None:
    """Parse and expand."""
    from nanochat.data.own.persona import run as expand

    arguments = parser(__doc__)
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--persona", type=Path, required=True)
    add_settings(arguments)
    given = arguments.parse_args()
    expand(parse_pairs("persona", given.settings), out=given.out, persona=given.persona)


if __name__ == "__main__":
    run(main)
