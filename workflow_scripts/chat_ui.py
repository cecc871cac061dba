"""Open the chat window.

python -m workflow_scripts.chat_ui --run results/r --chat '{"port": 7861}'
"""

from pathlib import Path

from nanochat.config import ChatSettings
from workflow_scripts.command import parser, run


def main() -> None:
    """Parse and serve."""
    from nanochat.serve.ui import run as serve

    arguments = parser(__doc__)
    arguments.add_argument("--run", type=Path, required=True)
    arguments.add_argument("--chat", type=ChatSettings.model_validate_json, default=ChatSettings())
    arguments.add_argument("--log", type=Path, help="kept for snakemake; the server logs to the terminal")
    given = arguments.parse_args()
    serve(given.run, given.chat)


if __name__ == "__main__":
    run(main)
