"""Running model-written programs where they can do no harm."""

from nanochat.evaluate.sandbox.host import Outcome, run_program

__all__ = ["Outcome", "run_program"]
