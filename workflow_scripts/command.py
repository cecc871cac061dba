"""What the command lines share: logging, flags of training stages, errors as one line, exit codes."""

import argparse
import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from nanochat.config import ExecutionSettings, WandbSettings, parse_device_batch_size
from nanochat.errors import NanochatError

if TYPE_CHECKING:
    from nanochat.train.execution import Execution


def parser(description: str | None) -> argparse.ArgumentParser:
    """An argument parser that shows the script's docstring."""
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def add_settings(arguments: argparse.ArgumentParser) -> None:
    """`--settings section.key=value …`: what Snakemake's params hold."""
    arguments.add_argument("--settings", nargs="*", default=[], metavar="KEY=VALUE", help="settings of the stage")


def _device_batch_size(text: str) -> int | Literal["auto"]:
    try:
        return parse_device_batch_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_device(arguments: argparse.ArgumentParser) -> None:
    """Flags that say on what a stage runs."""
    arguments.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    arguments.add_argument(
        "--device-batch-size",
        type=_device_batch_size,
        default="auto",
        metavar="ROWS",
        help="rows per device and micro-batch, or auto: as many as fit the memory",
    )


def folders(texts: Sequence[str]) -> list[Path]:
    """Folders by name; `shard_[00000-00239]` stands for all with numbers in that range."""
    found: list[Path] = []
    for text in texts:
        span = re.search(r"\[(\d+)-(\d+)\]", text)
        if span is None:
            found.append(Path(text))
            continue
        first, last = span[1], span[2]
        numbers = (f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1))
        found += [Path(text[: span.start()] + number + text[span.end() :]) for number in numbers]
    return found


def add_training(arguments: argparse.ArgumentParser) -> None:
    """Flags of the training stages that never change the result."""
    add_device(arguments)
    arguments.add_argument("--execution", type=ExecutionSettings.model_validate_json, default=ExecutionSettings())
    arguments.add_argument("--wandb", type=WandbSettings.model_validate_json, default=WandbSettings(mode="disabled"))
    add_settings(arguments)


def execution(given: argparse.Namespace) -> "Execution":
    """How a training stage runs here, from the flags of `add_training`; the run's name is its folder's."""
    from nanochat.runtime import wandb_mode
    from nanochat.train.execution import Execution

    return Execution(
        device_batch_size=given.device_batch_size,
        activation_checkpointing=given.execution.activation_checkpointing,
        checkpoint_steps=given.execution.checkpoint_steps,
        checkpoint_minutes=given.execution.checkpoint_minutes,
        keep_checkpoints=given.execution.keep_checkpoints,
        compile=given.execution.compile,
        wandb=given.wandb.model_copy(update={"mode": wandb_mode(given.wandb.mode)}),
        run=given.out.parent.name,
    )


def run(main: Callable[[], object]) -> None:
    """Run a script: log lines to standard error, a user's error as one line, exit code 1."""
    is_main = os.environ.get("RANK", "0") == "0"
    logging.basicConfig(
        level=logging.INFO if is_main else logging.WARNING,
        format="%(asctime)s %(message)s",
        datefmt="%H:%M:%S",
        stream=sys.stderr,
    )
    for chatty in ("matplotlib", "httpx", "asyncio", "fontTools"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    for chatty in ("httpx2", "huggingface_hub"):  # a line for every request; our retries have lines of their own
        logging.getLogger(chatty).setLevel(logging.ERROR)
    try:
        main()
    except NanochatError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        # A full disk or a folder without permission: the operating system's words and the file say it all.
        print(f"error: {error.strerror or error}: {error.filename or Path.cwd()}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
