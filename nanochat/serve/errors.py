"""What can keep a model from answering, beyond damaged checkpoints."""

from nanochat.errors import NanochatError


class UnknownModelError(NanochatError):
    """No checkpoint has this name."""


class BusyError(NanochatError):
    """More is asked for at once than the settings allow; the same request may succeed a little later."""


class EndingError(NanochatError):
    """The server is ending and takes nothing more."""


class ContextFullError(NanochatError):
    """The conversation leaves the model no room for an answer.

    Attributes:
        tokens: of the prompt.
        context_size: tokens the model sees.
    """

    def __init__(self, message: str, tokens: int, context_size: int) -> None:
        super().__init__(message)
        self.tokens = tokens
        self.context_size = context_size
