"""HumanEval (arXiv 2107.03374): Python functions, judged by running their tests in the sandbox."""

import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from nanochat.config import TaskEntry
from nanochat.data.conversation import Conversation
from nanochat.evaluate.sandbox import run_program
from nanochat.evaluate.tasks.base import Rows, Split, Task, conversation_of

_BLOCK = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL)


def program_of(prompt: str, reply: str, test: str, entry_point: str) -> str:
    """The program that tests a reply.

    The reply is a code block or bare code; either the whole function, which then replaces the prompt's (imports and
    helpers before it stay), or the rest of it, which then follows the prompt.
    """
    block = _BLOCK.search(reply)
    code = block.group(1) if block else reply
    definition = re.compile(rf"^def\s+{re.escape(entry_point)}\s*\(", re.MULTILINE)
    if definition.search(code):
        start = definition.search(prompt)
        code = f"{prompt[: start.start()] if start else prompt}\n{code}"
    else:
        code = prompt + code
    return f"{code}\n\n{test}\n\ncheck({entry_point})\n"


class HumanEval(Task):
    r"""Functions to write from signature and docstring.

    A row: `{"task_id": "HumanEval/53", "prompt": "def add(x: int, y: int):\n    \"\"\"Add two numbers x and y\n
    …\"\"\"\n", "entry_point": "add", "canonical_solution": "    return x + y\n",
    "test": "def check(candidate):\n    …\n    assert candidate(0, 1) == 1\n …"}`.
    """

    def __init__(self, name: str, entry: TaskEntry, split: Split, paths: Sequence[Path]) -> None:
        super().__init__(name, entry, split, paths)
        self._rows = Rows(paths, ("task_id", "prompt", "canonical_solution", "test", "entry_point"))

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

    def program(self, index: int, text: str) -> str:
        """The program that tests a reply to an item."""
        row = self._rows[index]
        return program_of(row["prompt"], text, row["test"], row["entry_point"])

    def reward(self, index: int, text: str) -> float:
        """Whether the program of the reply passes its tests in the sandbox."""
        return float(run_program(self.program(index, text)).passed)

    def rewards(self, indices: Sequence[int], texts: Sequence[str]) -> list[float]:
        """`reward` of many replies, as many at a time as there are cores."""
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            return list(pool.map(self.reward, indices, texts))
