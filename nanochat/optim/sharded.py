"""Muon and AdamW over ranks: gradients are reduce-scattered, each rank updates its share, weights are all-gathered.

Parameters of one rule and shape live in one buffer (a slab), of which they are views, and so do their gradients.
A slab is cut into equal shares by rank; its optimizer state exists for the own share only, so that state per rank
falls as 1 / ranks (ZeRO-1, arXiv 1910.02054). On one rank nothing is copied or sent.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nanochat.model.gpt import ParameterGroup
from nanochat.model.scaling import Plan
from nanochat.optim.adamw import adam_update
from nanochat.optim.muon import muon_update
from nanochat.runtime import World

_BETAS = {"embedding": (0.8, 0.995), "head": (0.8, 0.96), "scalar": (0.8, 0.95)}
"""Adam's decay rates: embeddings see a token rarely and keep its squares for longer."""
_EPSILON = {"embedding": 1e-10, "head": 1e-10, "scalar": 1e-6}
"""Scalars start with gradients that are zero but for rounding (a norm follows them), which Adam would blow up to whole
steps in a direction of their own on every number of ranks; their real gradients are above 1e-4."""
_STEPS = "steps"


def _collective(new: str, old: str) -> Callable[..., Any]:
    # torch 2.13 renamed the single-tensor collectives and warns about their former names.
    return getattr(torch.distributed, new, None) or getattr(torch.distributed, old)


class _Slab:
    """Parameters in one buffer of `items` along the first dimension, cut into equal shares by rank."""

    def __init__(self, parameters: Sequence[tuple[str, nn.Parameter]], item: torch.Size, world: World) -> None:
        self.world = world
        self.places: dict[str, tuple[int, int, torch.Size]] = {}
        position = 0
        size = item.numel()
        for name, parameter in parameters:
            end = position + parameter.numel() // size
            self.places[name] = (position, end, parameter.shape)
            position = end
        padded = -(-position // world.size) * world.size
        first = parameters[0][1]
        self.weights = torch.zeros((padded, *item), device=first.device, dtype=torch.float32)
        self.gradients = torch.zeros_like(self.weights)
        share = padded // world.size
        self.own = slice(world.rank * share, (world.rank + 1) * share)
        for name, parameter in parameters:
            view = self._view(self.weights, name)
            view.copy_(parameter.data)
            parameter.data = view
            parameter.grad = self._view(self.gradients, name)
        # The own share of the gradients needs memory of its own only where it is a sum over ranks.
        self.gradient = self.gradients if world.size == 1 else torch.zeros_like(self.weights[self.own])

    def _view(self, buffer: Tensor, name: str) -> Tensor:
        start, end, shape = self.places[name]
        part = buffer[start:end]
        # Reduced state has one entry per row; it keeps its own shape.
        return part.view(shape) if part.numel() == shape.numel() else part

    def zeros(self, *last: int) -> Tensor:
        """State for the own share: of the weights' shape, or with the last dimensions given."""
        shape = self.weights[self.own].shape
        return torch.zeros((*shape[: len(shape) - len(last)], *last), device=self.weights.device)

    def reduce(self) -> Tensor:
        """Sum the gradients over ranks into the own share; returns the squared norm of that share."""
        if self.world.size > 1:
            _collective("reduce_scatter_single", "reduce_scatter_tensor")(self.gradient, self.gradients)
        return torch.linalg.vector_norm(self.gradient) ** 2

    def gather(self) -> None:
        """Bring every rank's updated share of the weights here."""
        if self.world.size > 1:
            _collective("all_gather_single", "all_gather_into_tensor")(self.weights, self.weights[self.own].clone())

    def spread(self, state: Tensor) -> dict[str, Tensor]:
        """Whole state tensors by parameter name, from every rank's share."""
        whole = state
        if self.world.size > 1:
            whole = state.new_empty((self.weights.shape[0], *state.shape[1:]))
            _collective("all_gather_single", "all_gather_into_tensor")(whole, state.contiguous())
        return {name: self._view(whole, name) for name in self.places}

    def collect(self, state: Tensor, values: Mapping[str, Tensor]) -> None:
        """Fill the own share of a state tensor from whole tensors by parameter name."""
        whole = state.new_zeros((self.weights.shape[0], *state.shape[1:]))
        for name, (start, end, _) in self.places.items():
            whole[start:end] = values[name].to(state.device).view(whole[start:end].shape)
        state.copy_(whole[self.own])


class _MuonSlab:
    """Matrices of one shape."""

    def __init__(self, parameters: Sequence[tuple[str, nn.Parameter]], lr: float, decay: float, world: World) -> None:
        shape = parameters[0][1].shape
        self.slab = _Slab(parameters, shape, world)
        self.lr, self.decay = lr, decay
        self.state = {"average": self.slab.zeros(), "variance": self.slab.zeros(1)}

    def step(self, steps: int, lr_multiplier: float, momentum: float) -> None:
        muon_update(
            self.slab.weights[self.slab.own],
            self.slab.gradient,
            self.state["average"],
            self.state["variance"],
            lr=self.lr * lr_multiplier,
            momentum=momentum,
            weight_decay=self.decay,
        )


class _AdamSlab:
    """Tensors of any shape, flat and one after the other."""

    def __init__(self, parameters: Sequence[tuple[str, nn.Parameter]], lr: float, kind: str, world: World) -> None:
        self.slab = _Slab(parameters, torch.Size(()), world)
        self.lr, self.betas, self.epsilon = lr, _BETAS[kind], _EPSILON[kind]
        self.state = {"average": self.slab.zeros(), "square": self.slab.zeros()}

    def step(self, steps: int, lr_multiplier: float, momentum: float) -> None:
        adam_update(
            self.slab.weights[self.slab.own],
            self.slab.gradient,
            self.state["average"],
            self.state["square"],
            step=steps,
            lr=self.lr * lr_multiplier,
            beta1=self.betas[0],
            beta2=self.betas[1],
            epsilon=self.epsilon,
        )


class MuonAdamW:
    """The optimizer of all stages.

    It moves the parameters into buffers of its own: create it after the model is on its device, and keep `.grad`
    as it is (`zero_grad` of this class clears it).
    """

    def __init__(self, groups: Sequence[ParameterGroup], plan: Plan, world: World) -> None:
        rates = {
            "matrix": plan.matrix_lr,
            "embedding": plan.embedding_lr,
            "head": plan.head_lr,
            "scalar": plan.scalar_lr,
        }
        self.steps = 0
        self.world = world
        self._parts: list[_MuonSlab | _AdamSlab] = []
        for group in groups:
            lr = rates[group.kind] * group.lr_multiplier
            if group.kind != "matrix":
                self._parts.append(_AdamSlab(group.parameters, lr, group.kind, world))
                continue
            by_shape: dict[torch.Size, list[tuple[str, nn.Parameter]]] = {}
            for name, parameter in group.parameters:
                by_shape.setdefault(parameter.shape, []).append((name, parameter))
            self._parts += [_MuonSlab(same, lr, plan.weight_decay, world) for same in by_shape.values()]

    def zero_grad(self) -> None:
        """Clear all gradients."""
        for part in self._parts:
            part.slab.gradients.zero_()

    @torch.no_grad()
    def reduce(self) -> Tensor:
        """Sum gradients over ranks; returns the norm of the whole gradient, the same on every rank."""
        return self.world.sum_(torch.stack([part.slab.reduce() for part in self._parts]).sum()).sqrt()

    @torch.no_grad()
    def step(self, lr_multiplier: float, momentum: float, gradient_scale: float = 1.0) -> None:
        """Update the weights from the gradients that `reduce` summed.

        Args:
            lr_multiplier: factor on the plan's learning rates.
            momentum: Muon's.
            gradient_scale: factor on the gradients, for clipping.
        """
        self.steps += 1
        for part in self._parts:
            if gradient_scale != 1.0:
                part.slab.gradient.mul_(gradient_scale)
            part.step(self.steps, lr_multiplier, momentum)
            part.slab.gather()

    @property
    def state_bytes(self) -> int:
        """Optimizer state held by this rank."""
        return sum(tensor.nbytes for part in self._parts for tensor in part.state.values())

    @torch.no_grad()
    def state_dict(self) -> dict[str, Tensor]:
        """The whole state by parameter name, on every rank; loadable on another number of ranks."""
        state = {_STEPS: torch.tensor(self.steps)}
        for part in self._parts:
            for kind, tensor in part.state.items():
                state |= {f"{name}.{kind}": value for name, value in part.slab.spread(tensor).items()}
        return state

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state_dict` of a model of the same shape returned.

        Raises:
            KeyError: if a parameter's state is missing.
        """
        self.steps = int(state[_STEPS])
        for part in self._parts:
            for kind, tensor in part.state.items():
                part.slab.collect(tensor, {name: state[f"{name}.{kind}"] for name in part.slab.places})
