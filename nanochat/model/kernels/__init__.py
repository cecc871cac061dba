"""Triton kernels, each beside a twin in plain torch that computes the same.

Importing this package, or a module with a kernel's functions, does not import Triton; the first call of a kernel does.
Ask `probe` which kernels may be used on a device: where Triton is missing or a kernel fails, the twin is the way.
"""

from nanochat.model.kernels.availability import available, probe

__all__ = ["available", "probe"]
