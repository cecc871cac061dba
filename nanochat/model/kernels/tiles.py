"""How much of a product one program of a kernel computes.

The choice depends on the device and the type alone, never on timing or shapes: the order of summation, and so the
result, is the same in every run, and what compiled once on a device compiles for all shapes.
"""

from typing import NamedTuple

import torch

_LARGE, _MEDIUM = 200 << 10, 96 << 10


class Tiles(NamedTuple):
    """Shape of one program's part of a product, and how the GPU works on it.

    Attributes:
        rows: of the result; a power of two, at least 16.
        columns: of the result, alike.
        depth: columns of the factors that are multiplied at a time, alike.
        warps: groups of 32 threads.
        stages: parts of the factors on their way from memory at once.
    """

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int


def shared_memory(device: torch.device) -> int:
    """Bytes of shared memory per multiprocessor: 228 KiB on H100 to B200, 164 on A100, 100 on GB10; 0 on CPUs."""
    if device.type != "cuda":
        return 0
    return torch.cuda.get_device_properties(device).shared_memory_per_multiprocessor


def _small(shared: int, dtype: torch.dtype) -> Tiles | None:
    if dtype == torch.float32:
        # Full float32 runs outside the tensor cores; small tiles keep the sums in registers.
        return Tiles(64, 64, 32, 8, 2)
    return Tiles(64, 64, 32, 4, 2) if shared < _MEDIUM else None


def square_tiles(shared: int, dtype: torch.dtype) -> Tiles:
    """Tiles as wide as they are high, for results of which only one side of the diagonal is computed.

    Args:
        shared: see `shared_memory`. Two programs share a multiprocessor where it is large.
        dtype: of the factors.
    """
    large = Tiles(128, 128, 64, 8, 3) if shared >= _LARGE else Tiles(128, 128, 32, 8, 4)
    return _small(shared, dtype) or large


def product_tiles(shared: int, dtype: torch.dtype) -> Tiles:
    """Tiles for a product of any two matrices; arguments as for `square_tiles`."""
    large = Tiles(128, 256, 64, 8, 3) if shared >= _LARGE else Tiles(128, 128, 32, 8, 4)
    return _small(shared, dtype) or large
