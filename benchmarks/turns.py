"""Programs that are measured in turns: each prepares once, then works when asked and sleeps in between.

What is compared may need another environment, or a package of the same name, so that each has a process of its own;
taking turns lets a noisy machine hit all of them alike. Standard library only: a worker may measure foreign code.
"""

import contextlib
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

Message = dict[str, Any]


class WorkerError(RuntimeError):
    """A worker could not do what it was asked for; the text says why."""


class Worker:
    """A program that answers; `ask` waits for it."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """Start it.

        Args:
            command: of a program that calls `serve`.
            environment: variables set on top of this process's.
        """
        self._process = subprocess.Popen(
            [sys.executable, *command],
            env=os.environ | dict(environment or {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, **message: Any) -> Message:
        """Send a message and return the answer.

        Raises:
            WorkerError: if the worker failed or ended.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # one that failed to prepare has said so and is gone
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise WorkerError(f"the worker ended with code {self._process.wait()}")
        answer: Message = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    def close(self) -> None:
        """End it: a worker stops when its input ends."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._process.terminate()
        self.close()


def serve(prepare: Callable[[], Callable[[Message], Message]]) -> None:
    """Be a worker: prepare, then answer each line of the input until it ends.

    Whatever is printed meanwhile goes to the error stream. An error is the answer to the next message, and the end.
    """
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        answer = prepare()
        for line in sys.stdin:
            answers.write(json.dumps(answer(json.loads(line))) + "\n")
            answers.flush()
    except Exception as error:
        traceback.print_exc()
        answers.write(json.dumps({"error": f"{type(error).__name__}: {error}"}) + "\n")
        answers.flush()
        sys.exit(1)
