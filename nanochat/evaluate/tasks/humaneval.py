"""HumanEval (arXiv 2107.03374): Python functions, judged by running their tests in the sandbox."""

import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

from nanochat.config import TaskEntry
from nanochat.data.conversation import Conversation
from nanochat.evaluate.sandbox import check_function, probe
from nanochat.evaluate.tasks.base import Rows, Split, Task, conversation_of

_BLOCK = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL)


def definition_of(prompt: str, reply: str, entry_point: str) -> str:
    """The program a reply makes.

    The reply is a code block or bare code; either the whole function, which then replaces the prompt's (imports and
    helpers before it stay), or the rest of it, which then follows the prompt.
    """
    block = _BLOCK.search(reply)
    code = block.group(1) if block else reply
    if _definition(entry_point).search(code):
        return f"{support_of(prompt, entry_point)}\n{code}"
    return prompt + code


def support_of(prompt: str, entry_point: str) -> str:
    """What a prompt holds before the function that is asked for: imports, and helpers that tests may use as well."""
    start = _definition(entry_point).search(prompt)
    return prompt[: start.start()] if start else prompt


def _definition(name: str) -> re.Pattern[str]:
    return re.compile(rf"^def\s+{re.escape(name)}\s*\(", re.MULTILINE)


class HumanEval(Task):
    r"""Functions to write from signature and docstring.

    A row: `{"task_id": "HumanEval/53", "prompt": "def add(x: int, y: int):\n    \"\"\"Add two numbers x and y\n
    …\"\"\"\n", "entry_point": "add", "canonical_solution": "    return x + y\n",
    "test": "def check(candidate):\n    …\n    assert candidate(0, 1) == 1\n …"}`.
    """

    def __init__(self, name: str, entry: TaskEntry, split: Split, paths: Sequence[Path]) -> None:
        super().__init__(name, entry, split, paths)
        self._rows = Rows(paths, ("task_id", "prompt", "canonical_solution", "test", "entry_point"))
        self._judged = False
        self._isolation: tuple[str, ...] | None = None
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._rows)

    def conversation(self, index: int) -> Conversation:
        """The prompt, and the whole function in a code block."""
        row = self._rows[index]
        function = f"{row['prompt']}{row['canonical_solution']}".rstrip()
        return conversation_of(row["prompt"].rstrip(), f"```python\n{function}\n```")

    def key(self, index: int) -> str:
        """The prompt."""
        return self._rows[index]["prompt"]

    def gold(self, index: int) -> str:
        """The rest of the function as its author wrote it."""
        return self._rows[index]["canonical_solution"]

    def reward(self, index: int, text: str) -> float:
        """Whether the function of the reply passes the item's tests in the sandbox."""
        row = self._rows[index]
        outcome = check_function(
            definition_of(row["prompt"], text, row["entry_point"]),
            support=support_of(row["prompt"], row["entry_point"]),
            tests=row["test"],
            entry_point=row["entry_point"],
        )
        with self._lock:
            self._judged = True
            if outcome.isolation:  # none: it was ended before it began
                met = self._isolation
                self._isolation = outcome.isolation if met is None else tuple(i for i in met if i in outcome.isolation)
        return float(outcome.passed)

    def rewards(self, indices: Sequence[int], texts: Sequence[str]) -> list[float]:
        """`reward` of many replies, as many at a time as there are cores."""
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            return list(pool.map(self.reward, indices, texts))

    def isolation(self) -> tuple[str, ...]:
        """The sandbox's layers that were in force in every reward so far; none before the first.

        Where all programs so far were ended before they began, none has told: those that this machine grants.
        """
        with self._lock:
            if self._judged and self._isolation is None:
                self._isolation = probe()
            return self._isolation or ()
