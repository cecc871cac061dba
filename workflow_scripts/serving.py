"""The command line that chat_ui and serve share: a run, settings, and secrets that come from the environment."""

import contextlib
import os
from pathlib import Path

from nanochat.config import ChatSettings
from nanochat.config.secrets import with_secrets
from workflow_scripts.command import parser


def serve(description: str | None, *, window: bool) -> None:
    """Parse and serve until Ctrl-C, with the chat window or the API alone."""
    from nanochat.serve.foreground import foreground
    from nanochat.serve.server import run

    arguments = parser(description)
    arguments.add_argument("--run", type=Path, required=True, help="run folder or checkpoint directory")
    arguments.add_argument("--chat", type=ChatSettings.model_validate_json, default=ChatSettings(), metavar="JSON")
    arguments.add_argument("--log", type=Path, help="kept for snakemake; the server logs to the terminal")
    given = arguments.parse_args()
    # A server is ended by Ctrl-C: that is no failure, not even before it is up, and not one of the workflow's.
    with foreground(0), contextlib.suppress(KeyboardInterrupt):
        run(given.run, with_secrets(given.chat, os.environ), window=window)
