"""Chat in the terminal.

python -m workflow_scripts.chat_cli --run results/r                             # a conversation
python -m workflow_scripts.chat_cli --run results/r "Where does Anna live?"     # one answer, and nothing else
python -m workflow_scripts.chat_cli --run results/r < question.txt
"""

import argparse
import os
import sys
from pathlib import Path

from nanochat.config import ChatSettings
from workflow_scripts.command import parser, run


def _seed(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{number}: expected 0 or more")
    return number


def main() -> None:
    """Parse and chat."""
    from nanochat.serve.cli import INTERRUPTED
    from nanochat.serve.cli import run as chat

    arguments = parser(__doc__)
    arguments.add_argument("prompt", nargs="?", help="answer this and exit")
    arguments.add_argument("--run", type=Path, required=True, help="run folder or checkpoint directory")
    arguments.add_argument("--stage", default="auto", metavar="NAME", help="checkpoint that answers, as sft or r/sft")
    arguments.add_argument("--seed", type=_seed, help="of every answer; else a new one each time")
    arguments.add_argument("--chat", type=ChatSettings.model_validate_json, default=ChatSettings(), metavar="JSON")
    arguments.add_argument("--log", type=Path, help="kept for snakemake; the chat writes to the terminal")
    given = arguments.parse_args()
    if sys.stdin is None:  # closed by who started this: nothing is piped
        sys.stdin = open(os.devnull)  # noqa: SIM115
    # What is typed or piped may be no UTF-8, and a terminal may not know every character.
    sys.stdin.reconfigure(errors="replace")
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")
    color = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    prompt = given.chat.prompt if given.prompt is None else given.prompt
    try:
        code = chat(given.run, given.chat, prompt, model=given.stage, seed=given.seed, color=color)
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:
        # Who reads has enough, as `| head -1` does. What Python still holds back must not be written at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)


if __name__ == "__main__":
    run(main)
