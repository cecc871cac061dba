"""Chat in the terminal.

python -m workflow_scripts.chat_cli --run results/r "Where does Anna live?"
"""

import sys
from pathlib import Path

from nanochat.config import ChatSettings
from workflow_scripts.command import parser, run


def main() -> None:
    """Parse and chat."""
    from nanochat.serve.cli import run as chat

    arguments = parser(__doc__)
    arguments.add_argument("prompt", nargs="?", help="answer this and exit")
    arguments.add_argument("--run", type=Path, required=True)
    arguments.add_argument("--chat", type=ChatSettings.model_validate_json, default=ChatSettings())
    arguments.add_argument("--log", type=Path, help="kept for snakemake; the chat writes to the terminal")
    given = arguments.parse_args()
    sys.exit(chat(given.run, given.chat, given.prompt))


if __name__ == "__main__":
    run(main)
