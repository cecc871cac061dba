"""Muon and AdamW over ranks: gradients are reduce-scattered, each rank updates its share, weights are all-gathered.

Optimizer state exists for the own share only, so that state per rank falls as 1 / ranks (ZeRO-1, arXiv 1910.02054).
A step of the training loop is

    optimizer.zero_grad()
    …                            # backward passes of all micro-batches but the last
    optimizer.expect_last()      # from now on sums over ranks begin as soon as a slab's gradients are complete
    …                            # the last backward pass
    norm = optimizer.reduce()    # on every rank, in every step, even if the step is then given up
    optimizer.step(…, wait=False)
    …                            # anything that does not read weights
    optimizer.wait()

Sums and gathers are begun in one order on all ranks, the expected order of the backward pass, whatever a rank has to
do: one without rows begins them all in `reduce`. Neither the cut into slabs nor the number of ranks changes the
update of a matrix or row.
"""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from nanochat.model.gpt import ParameterGroup
from nanochat.model.scaling import Plan
from nanochat.optim.adamw import adam_update
from nanochat.optim.muon import Products, best_products, muon_update
from nanochat.optim.slab import Slab
from nanochat.runtime import World

BUCKET_BYTES = 32 * 2**20
"""Where there are several ranks, a slab is closed from this size on: large enough for the full rate of a link, small
enough that the first sums begin early in the backward pass."""

_BETAS = {"embedding": (0.8, 0.995), "head": (0.8, 0.96), "scalar": (0.8, 0.95)}
"""Adam's decay rates: embeddings see a token rarely and keep its squares for longer."""
_EPSILON = {"embedding": 1e-10, "head": 1e-10, "scalar": 1e-6}
_ROW_SHARE = 0.03
"""Measured (d4, width 128, 200 steps of 2,048 tokens, two seeds, loss of the last 20 steps): 0: 1.174, 0.01: 1.148,
0.03: 1.137, 0.1: 1.161; seeds differ by more. With 0, rounding has grown ten times larger after 50 steps."""
_NOISE = 1e-7
"""Share of the whole gradient's norm below which a scalar's gradient is rounding. A norm follows the factors of the
residual stream, so that in a new model, whose blocks give zeros, their true gradient is zero; what is left of it in
float32 is 1e-9 of the norm, and 1e-3 a step later. Adam would make whole steps of either."""
_STEPS = "steps"

Named = tuple[str, nn.Parameter]


class _MuonPart:
    """Matrices of one shape."""

    def __init__(self, slab: Slab, lr: float, decay: float, dtype: torch.dtype, products: Products) -> None:
        self.slab, self.lr, self.decay, self.dtype, self.products = slab, lr, decay, dtype, products
        self.state = {"average": self.slab.zeros(), "variance": self.slab.zeros(1)}

    def step(self, gradient: Tensor, steps: int, lr_multiplier: float, momentum: float, norm: Tensor) -> None:
        muon_update(
            self.slab.weights[self.slab.own],
            gradient,
            self.state["average"],
            self.state["variance"],
            lr=self.lr * lr_multiplier,
            momentum=momentum,
            weight_decay=self.decay,
            dtype=self.dtype,
            products=self.products,
        )


class _AdamPart:
    """Rows of one length."""

    def __init__(self, slab: Slab, lr: float, kind: str) -> None:
        self.slab, self.lr, self.betas, self.epsilon = slab, lr, _BETAS[kind], _EPSILON[kind]
        self.noise = _NOISE if kind == "scalar" else None
        self.state = {"average": self.slab.zeros(), "square": self.slab.zeros()}

    def step(self, gradient: Tensor, steps: int, lr_multiplier: float, momentum: float, norm: Tensor) -> None:
        adam_update(
            self.slab.weights[self.slab.own],
            gradient,
            self.state["average"],
            self.state["square"],
            step=steps,
            lr=self.lr * lr_multiplier,
            beta1=self.betas[0],
            beta2=self.betas[1],
            epsilon=self.epsilon,
            row_share=_ROW_SHARE,
            floor=None if self.noise is None else self.noise * norm,
        )


def _slabs(parameters: Sequence[Named], item_dimensions: int, world: World, size: int) -> Iterator[list[Named]]:
    """Parameters by the shape of their items; over several ranks in slabs of about `size` bytes, last ones first."""
    by_item: dict[torch.Size, list[Named]] = {}
    for name, parameter in parameters:
        by_item.setdefault(parameter.shape[-item_dimensions:], []).append((name, parameter))
    for item, same in by_item.items():
        if world.size == 1:
            yield same
            continue
        slab: list[Named] = []
        items = 0
        for name, parameter in reversed(same):
            slab.append((name, parameter))
            items += parameter.numel() // item.numel()
            # Whole shares, since padding is sent as well.
            if 4 * items * item.numel() >= size and -items % world.size <= items // 64:
                yield slab
                slab, items = [], 0
        if slab:
            yield slab


class MuonAdamW:
    """The optimizer of all stages; see the module for the order of its calls.

    It moves the parameters into buffers of its own: create it after the model is on its device, and keep `.grad`
    as it is (`zero_grad` of this class clears it).
    """

    def __init__(
        self,
        groups: Sequence[ParameterGroup],
        plan: Plan,
        world: World,
        *,
        dtype: torch.dtype,
        bucket_bytes: int = BUCKET_BYTES,
    ) -> None:
        """Take over the parameters.

        Args:
            groups: of all parameters, each in the order of the forward pass.
            plan: peak learning rates and weight decay.
            world: the ranks that share the work.
            dtype: of the products of orthogonalisation: the model's compute type.
            bucket_bytes: size of what is sent at once; changes no result.
        """
        rates = {
            "matrix": plan.matrix_lr,
            "embedding": plan.embedding_lr,
            "head": plan.head_lr,
            "scalar": plan.scalar_lr,
        }
        device = groups[0].parameters[0][1].device
        products = best_products(device)
        self.steps = 0
        self.world = world
        self._norm = torch.zeros((), device=device)
        self._reduced = True
        self._launched = 0
        loads = [0] * world.size
        placed: list[tuple[float, bool, _MuonPart | _AdamPart]] = []
        for group in groups:
            lr = rates[group.kind] * group.lr_multiplier
            place = {name: index / len(group.parameters) for index, (name, _) in enumerate(group.parameters)}
            dimensions = 2 if group.kind == "matrix" else 1
            for named in _slabs(group.parameters, dimensions, world, bucket_bytes):
                slab = Slab(named, named[0][1].shape[-dimensions:], world, loads)
                part: _MuonPart | _AdamPart
                if group.kind == "matrix":
                    part = _MuonPart(slab, lr, plan.weight_decay, dtype, products)
                else:
                    part = _AdamPart(slab, lr, group.kind)
                if world.size > 1:
                    slab.watch(named, self._launch_ready)
                # The head's gradient comes first, then those of the layers, last to first; scalars act on all layers.
                first = min(place[name] for name, _ in named)
                first = {"head": 2.0, "scalar": -1.0}.get(group.kind, first)
                placed.append((first, group.kind == "matrix", part))
        self._parts = [part for *_, part in sorted(placed, key=lambda entry: entry[:2], reverse=True)]

    def zero_grad(self) -> None:
        """Clear all gradients, at the beginning of a step or to repeat its backward passes.

        Sums that were begun before a repetition stay, as other ranks take part in them.
        """
        self.wait()
        for part in self._parts:
            part.slab.clear(new_step=self._reduced)
        if self._reduced:
            self._launched = 0
        self._reduced = False

    def expect_last(self) -> None:
        """Announce the last backward pass of the step on this rank: sums begin while it runs."""
        if self.world.size > 1:
            for part in self._parts:
                part.slab.expect()

    @torch.no_grad()
    def _launch_ready(self) -> None:
        while self._launched < len(self._parts) and self._parts[self._launched].slab.ready:
            self._parts[self._launched].slab.launch()
            self._launched += 1

    @torch.no_grad()
    def reduce(self) -> Tensor:
        """Sum gradients over ranks; returns the norm of the whole gradient, float64, the same on every rank."""
        for part in self._parts[self._launched :]:
            part.slab.launch()
        self._launched = len(self._parts)
        # By row, and from there in float64: a row is never cut, so that the number of ranks does not show.
        rows = [torch.linalg.vector_norm(part.slab.summed(), dim=-1).double() for part in self._parts]
        self._reduced = True
        norm = self.world.sum_(torch.stack([row.square_().sum() for row in rows]).sum()).sqrt()
        self._norm = norm.float()
        return norm

    @torch.no_grad()
    def step(self, lr_multiplier: float, momentum: float, gradient_scale: float = 1.0, *, wait: bool = True) -> None:
        """Update the weights from the gradients that `reduce` summed.

        Args:
            lr_multiplier: factor on the plan's learning rates.
            momentum: Muon's.
            gradient_scale: factor on the gradients, for clipping.
            wait: False leaves the exchange of the updated weights running; call `wait` before any are read.
        """
        self.steps += 1
        # What is sent for longest and computed fastest first: Muon's products then hide the exchange of embeddings.
        for part in sorted(self._parts, key=lambda part: isinstance(part, _MuonPart)):
            gradient = part.slab.summed()
            if gradient_scale != 1.0:
                gradient.mul_(gradient_scale)
            if gradient.shape[0]:
                part.step(gradient, self.steps, lr_multiplier, momentum, self._norm * gradient_scale)
            part.slab.gather()
        if wait:
            self.wait()

    @torch.no_grad()
    def wait(self) -> None:
        """Let the weights of all ranks arrive; nothing to do on one rank."""
        for part in self._parts:
            part.slab.wait()

    @property
    def state_bytes(self) -> int:
        """Optimizer state held by this rank."""
        return sum(tensor.nbytes for part in self._parts for tensor in part.state.values())

    @torch.no_grad()
    def state_dict(self) -> dict[str, Tensor]:
        """The whole state by parameter name, on every rank; loadable on another number of ranks."""
        return dict(self.state_items())

    @torch.no_grad()
    def state_items(self) -> Iterator[tuple[str, Tensor]]:
        """What `state_dict` holds, gathered slab by slab: every rank must go through all of it."""
        yield _STEPS, torch.tensor(self.steps)
        for part in self._parts:
            for kind, tensor in part.state.items():
                for name, value in part.slab.spread(tensor).items():
                    yield f"{name}.{kind}", value

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
