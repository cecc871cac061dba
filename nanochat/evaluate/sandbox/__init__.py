"""Running model-written programs where they can do no harm, and testing them where they can not deceive."""

from nanochat.evaluate.sandbox.host import Outcome, check_function, probe

__all__ = ["Outcome", "check_function", "probe"]
