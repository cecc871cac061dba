"""Who is told of what a scheduler does."""

from typing import Protocol


class Observer(Protocol):
    """Who wants to know what happens; called from any thread, and quick."""

    def submitted(self, model: str, prompt_tokens: int) -> None:
        """A choice was queued."""

    def rejected(self, model: str) -> None:
        """A request was turned away."""

    def started(self, model: str, waited_seconds: float) -> None:
        """A choice got its row."""

    def first_token(self, model: str, seconds: float) -> None:
        """A choice got its first token, so long after it was asked for."""

    def finished(self, model: str, finish: str, tokens: int, seconds: float) -> None:
        """A choice ended; `finish` may also be `error`."""
