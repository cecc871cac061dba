"""Parameters of one shape in one buffer, of which they are views, and so are their gradients.

A slab is cut into equal shares by rank. Where there are several ranks, it sums its gradients and spreads its updated
weights while other work goes on; on one rank nothing is copied or sent.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nanochat.optim.exchange import ReduceScatter, all_gather
from nanochat.runtime import World


class Slab:
    """Parameters as one buffer of items along the first dimension; an item is never cut.

    Each rank's share has room for equally many items; where they do not divide evenly, some shares end with padding.

    Attributes:
        places: parameter → first item, last item + 1, shape.
        weights: (items and padding, …) float32.
        gradients: alike.
        own: this rank's items, without padding.
        ready: whether an announced backward pass has completed every gradient.
    """

    def __init__(
        self, parameters: Sequence[tuple[str, nn.Parameter]], item: torch.Size, world: World, loads: list[int]
    ) -> None:
        """Move parameters of items of one shape into the slab.

        Args:
            parameters: by name, on one device.
            item: shape of an item; a parameter is one of them, or several.
            world: the ranks.
            loads: elements that each rank has to update already; the slab's are added. Where parameters are single
                items, those that are left over go to the ranks with the least.
        """
        self.world = world
        size = item.numel()
        items = [parameter.numel() // size for _, parameter in parameters]
        total = sum(items)
        self._share = -(-total // world.size)
        if max(items) == 1:
            least = sorted(range(world.size), key=lambda rank: loads[rank])[: total % world.size]
            counts = [total // world.size + (rank in least) for rank in range(world.size)]
        else:
            counts = [min(self._share, max(0, total - rank * self._share)) for rank in range(world.size)]
        for rank, count in enumerate(counts):
            loads[rank] += count * size
        free = [rank * self._share + index for rank, count in enumerate(counts) for index in range(count)]
        self.places: dict[str, tuple[int, int, torch.Size]] = {}
        filled = 0
        for (name, parameter), count in zip(parameters, items, strict=True):
            self.places[name] = (free[filled], free[filled] + count, parameter.shape)
            filled += count
        first = parameters[0][1]
        self.weights = torch.zeros((self._share * world.size, *item), device=first.device, dtype=torch.float32)
        self.gradients = torch.zeros_like(self.weights)
        start = world.rank * self._share
        self.own = slice(start, start + counts[world.rank])
        for name, parameter in parameters:
            view = self._view(self.weights, name)
            view.copy_(parameter.data)
            parameter.data = view
            parameter.grad = self._view(self.gradients, name)
        self.ready = False
        self._missing: set[str] = set()
        self._reducing: ReduceScatter | None = None
        self._reduced: Tensor | None = None
        self._gathering: Any = None

    def _view(self, buffer: Tensor, name: str) -> Tensor:
        start, end, shape = self.places[name]
        part = buffer[start:end]
        # Reduced state has one entry per row; it keeps its own shape.
        return part.view(shape) if part.numel() == shape.numel() else part

    def watch(self, parameters: Sequence[tuple[str, nn.Parameter]], on_ready: Callable[[], None]) -> None:
        """Call `on_ready` when a backward pass that `expect` announced has completed every gradient."""

        def hook(name: str) -> Callable[[Tensor], None]:
            def completed(_: Tensor) -> None:
                if name in self._missing:
                    self._missing.remove(name)
                    if not self._missing:
                        self.ready = True
                        on_ready()

            return completed

        for name, parameter in parameters:
            parameter.register_post_accumulate_grad_hook(hook(name))

    def expect(self) -> None:
        """Announce the last backward pass of a step."""
        self.ready, self._missing = False, set(self.places)

    def clear(self, new_step: bool) -> None:
        """Set the gradients to zero.

        Args:
            new_step: False where a step is repeated: a sum that the other ranks take part in already stays, and is
                this step's.
        """
        self.ready, self._missing = False, set()
        if self._reducing is not None:
            # Their memory is still being read.
            self._reduced, self._reducing = self._reducing.wait(), None
        if new_step:
            self._reduced = None
        self.gradients.zero_()

    @property
    def begun(self) -> bool:
        """Whether the sum over ranks has been begun in this step."""
        return self._reducing is not None or self._reduced is not None

    def launch(self) -> None:
        """Begin to sum the gradients over ranks; once per step."""
        if self.world.size > 1 and not self.begun:
            self._reducing = ReduceScatter(self.gradients, self.world)

    def summed(self) -> Tensor:
        """The own items' sum, once it is there."""
        if self._reducing is not None:
            self._reduced, self._reducing = self._reducing.wait(), None
        if self._reduced is None:
            return self.gradients[self.own]
        return self._reduced[: self.own.stop - self.own.start]

    def gather(self) -> None:
        """Begin to bring every rank's updated items here; the sum is given up."""
        self._reduced = None
        if self.world.size > 1:
            start = self.world.rank * self._share
            self._gathering = all_gather(self.weights, self.weights[start : start + self._share])

    def wait(self) -> None:
        """Let the weights arrive. On GPUs the stream waits, not the caller."""
        if self._gathering is not None:
            self._gathering.wait()
            self._gathering = None

    def zeros(self, *last: int) -> Tensor:
        """State for the own items: of the weights' shape, or with the last dimensions given."""
        shape = self.weights[self.own].shape
        return torch.zeros((*shape[: len(shape) - len(last)], *last), device=self.weights.device)

    def spread(self, state: Tensor) -> dict[str, Tensor]:
        """Whole state tensors by parameter name, from every rank's items."""
        whole = state
        if self.world.size > 1:
            share = state.new_zeros((self._share, *state.shape[1:]))
            share[: state.shape[0]] = state
            whole = state.new_empty((self.weights.shape[0], *state.shape[1:]))
            all_gather(whole, share).wait()
        return {name: self._view(whole, name) for name in self.places}

    def collect(self, state: Tensor, values: Mapping[str, Tensor]) -> None:
        """Fill the own items' state from whole tensors by parameter name."""
        whole = state.new_zeros((self.weights.shape[0], *state.shape[1:]))
        for name, (start, end, _) in self.places.items():
            whole[start:end] = values[name].to(state.device).view(whole[start:end].shape)
        state.copy_(whole[self.own])
