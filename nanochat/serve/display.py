"""Lines about a reply that the window and the terminal share."""

from nanochat.serve.events import Done

_WHY = {
    "stop": "",
    "length": "length limit reached",
    "context": "context full",
    "cancelled": "stopped",
    "timeout": "time limit reached",
}


def as_lines(expression: str, result: str | None) -> str:
    """A tool call on one line."""
    return f"{expression} = {result}" if result is not None else f"{expression} (cannot be calculated)"


def status(stage: str, done: Done, seed: int, *, why: str | None = None, context: bool = True) -> str:
    """One line of text about a finished reply.

    Args:
        stage: the model's name.
        done: how it ended.
        seed: it was sampled with.
        why: why it ended; None: as `done` says.
        context: whether it tells how much of the context is used.
    """
    pieces = [
        stage,
        f"{done.tokens} token{'s' * (done.tokens != 1)}",
        f"{done.tokens_per_second:.0f} tokens/s",
        f"context {done.context_used} of {done.context_size}" if context else "",
        f"seed {seed}",
        _WHY[done.finish] if why is None else why,
    ]
    return " · ".join(filter(None, pieces))
