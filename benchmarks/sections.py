"""What a section of gpu.py tells, and how it goes on after an error."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

Emit = Callable[..., None]
"""Takes figures by name."""


@contextmanager
def guarded(emit: Emit, what: str) -> Iterator[None]:
    """Report an error as something not measured, and go on."""
    try:
        yield
    except Exception as error:  # whatever a compiler, a driver or a full memory raises
        logging.exception("%s", what)
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        emit(failed={what: f"{type(error).__name__}: {reason}"})
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
