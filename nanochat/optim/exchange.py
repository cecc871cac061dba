"""Asynchronous reduce-scatter and all-gather of one buffer that is cut into equal shares by rank.

On gloo the shares are sent as they are and summed here, in pairs of neighbouring ranks: gloo's own reduce-scatter
reduces the whole buffer on every rank, and in an order that differs from share to share.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor, distributed

from nanochat.runtime import World


def _collective(new: str, old: str) -> Callable[..., Any]:
    # torch 2.13 renamed the single-tensor collectives and warns about their former names.
    return getattr(distributed, new, None) or getattr(distributed, old)


def _sum_in_pairs(parts: Tensor) -> Tensor:
    """Sum over the first dimension, in place, neighbours first; returns the sum, which lies in the first part."""
    count, distance = parts.shape[0], 1
    while distance < count:
        for index in range(0, count - distance, 2 * distance):
            parts[index].add_(parts[index + distance])
        distance *= 2
    return parts[0]


class ReduceScatter:
    """Sums a buffer over ranks, each keeping its share: begun when made, ended by `wait`."""

    def __init__(self, buffer: Tensor, world: World) -> None:
        """Begin.

        Args:
            buffer: (ranks · n, …) contiguous, of one shape on all ranks; to be left alone until `wait`.
            world: the ranks, more than one.
        """
        # NCCL sums on the way; elsewhere all shares come here first.
        self._direct = buffer.is_cuda
        share = (buffer.shape[0] // world.size, *buffer.shape[1:])
        if self._direct:
            self._received = buffer.new_empty(share)
            reduce_scatter = _collective("reduce_scatter_single", "reduce_scatter_tensor")
            self._work = reduce_scatter(self._received, buffer, async_op=True)
        else:
            self._received = buffer.new_empty((world.size, *share))
            self._work = distributed.all_to_all_single(self._received.flatten(0, 1), buffer, async_op=True)

    def wait(self) -> Tensor:
        """The own share of the sum. On GPUs the stream waits, not the caller."""
        self._work.wait()
        # A copy lets go of what the other ranks sent.
        return self._received if self._direct else _sum_in_pairs(self._received).clone()


def all_gather(whole: Tensor, share: Tensor) -> Any:
    """Begin to bring every rank's share into the whole buffer of all ranks.

    Args:
        whole: (ranks · n, …) contiguous.
        share: (n, …) contiguous; may be the own part of `whole`.

    Returns:
        A handle to wait for.
    """
    return _collective("all_gather_single", "all_gather_into_tensor")(whole, share, async_op=True)
