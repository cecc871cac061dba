"""The same training in plain torch, as benchmarks/gpu.py compares against: what one would write without this library.

Dense attention masks and torch's fused attention, `F.rms_norm`, all logits at once in float32, and an optimizer that
updates one parameter after the other. Model and updates are the same up to rounding, which a test checks.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nanochat.model.config import GPTConfig
from nanochat.model.gpt import GPT, Attention, _Context
from nanochat.model.loss import IGNORED, soft_cap
from nanochat.model.pointwise import EPSILON
from nanochat.model.scaling import Plan
from nanochat.optim.adamw import adam_update
from nanochat.optim.muon import muon_update
from nanochat.optim.sharded import _BETAS, _EPSILON, _NOISE, _ROW_SHARE


def _norm(x: Tensor) -> Tensor:
    return F.rms_norm(x, (x.shape[-1],), eps=EPSILON)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    cos, sin = cos[..., :half], sin[..., :half]
    return torch.cat((first * cos + second * sin, second * cos - first * sin), dim=-1)


class PlainGPT(GPT):
    """`GPT` of the modern form with the same parameters, computed in plain torch."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__(config)
        self.attention_kind = "dense"
        self._losses_of = self._losses

    def _attend(self, attention: Attention, x: Tensor, context: _Context) -> Tensor:
        config = self.config
        q = attention.query(x).unflatten(-1, (config.heads, config.head_dim))
        k = attention.key(x).unflatten(-1, (config.kv_heads, config.head_dim))
        v = attention.value(x).unflatten(-1, (config.kv_heads, config.head_dim))
        if attention.layer in config.value_embedding_layers:
            extra = attention.value_embedding(context.tokens).to(x.dtype).view_as(v)
            gate = 2 * torch.sigmoid(attention.value_gate(x[..., : attention.value_gate.in_features]))
            v = v + gate.unsqueeze(-1) * extra
        q, k = _norm(_rotate(q, context.cos, context.sin)), _norm(_rotate(k, context.cos, context.sin))
        mask = context.masks[attention.window]
        assert mask is None or isinstance(mask, Tensor)
        mixed = F.scaled_dot_product_attention(
            q.transpose(1, 2),
            k.transpose(1, 2),
            v.transpose(1, 2),
            attn_mask=mask,
            is_causal=mask is None,
            scale=attention.scale,
            enable_gqa=config.kv_heads != config.heads,
        )
        return attention.output(mixed.transpose(1, 2).flatten(2))

    def _trunk(self, tokens: Tensor, segments: Tensor | None, context: _Context) -> Tensor:
        x = _norm(self.embedding(tokens).to(self.dtype))
        share = torch.sigmoid(self.smear_gate(x[:, 1:, : self.smear_gate.in_features]))
        share = share * self.smear_scale.to(x.dtype)
        if segments is not None:
            share = share * (segments[:, 1:] == segments[:, :-1]).unsqueeze(-1)
        x = x0 = middle = torch.cat((x[:, :1], x[:, 1:] + share * x[:, :-1]), dim=1)
        for layer, block in enumerate(self.blocks):
            x = self.residual_scales[layer].to(x.dtype) * x + self.x0_scales[layer].to(x.dtype) * x0
            x = x + self._attend(block.attention, _norm(x), context)
            x = x + block.mlp.down(F.relu(block.mlp.up(_norm(x))).square())
            if layer == (self.config.depth - 1) // 2:
                middle = x
        return _norm(x - self.backout_scale.to(x.dtype) * middle)

    def _losses(self, x: Tensor, targets: Tensor) -> Tensor:
        logits = soft_cap(self.head(x), self.config.softcap)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none")

    def compile_all(self) -> None:
        """Let torch.compile have both the trunk and the loss."""
        self.compile_training()
        self._losses_of = torch.compile(self._losses, dynamic=None)

    def weighted_loss(
        self, tokens: Tensor, targets: Tensor, weights: Tensor, segments: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """As in `GPT`, from all logits at once."""
        losses = self._losses_of(self.hidden(tokens, segments), targets)
        return (losses * weights.flatten()).sum(), losses.detach().view(targets.shape)


class PlainMuonAdamW:
    """The updates of `MuonAdamW` on one device, parameter by parameter, in plain torch."""

    def __init__(self, model: GPT, plan: Plan) -> None:
        """For all parameters of a model on its device."""
        self.plan = plan
        self.steps = 0
        self.dtype = model.dtype
        self._rates = {
            "matrix": plan.matrix_lr,
            "embedding": plan.embedding_lr,
            "head": plan.head_lr,
            "scalar": plan.scalar_lr,
        }
        self._entries: list[tuple[nn.Parameter, str, float, Tensor, Tensor]] = []
        for group in model.parameter_groups():
            for _, parameter in group.parameters:
                items = self._items(parameter.data, group.kind)
                square = torch.zeros_like(items[..., :1] if group.kind == "matrix" else items)
                self._entries.append((parameter, group.kind, group.lr_multiplier, torch.zeros_like(items), square))
        self._norm = torch.zeros(())

    @staticmethod
    def _items(tensor: Tensor, kind: str) -> Tensor:
        return tensor.unsqueeze(0) if kind == "matrix" else tensor.view(-1, tensor.shape[-1])

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for parameter, *_ in self._entries:
            parameter.grad = None

    def expect_last(self) -> None:
        """Nothing: no other device waits for the gradients."""

    @torch.no_grad()
    def reduce(self) -> Tensor:
        """Norm of the whole gradient, float64."""
        norms = [torch.linalg.vector_norm(parameter.grad) for parameter, *_ in self._entries]
        self._norm = torch.linalg.vector_norm(torch.stack(norms))
        return self._norm.double()

    @torch.no_grad()
    def step(self, lr_multiplier: float, momentum: float) -> None:
        """Update all parameters."""
        self.steps += 1
        for parameter, kind, multiplier, average, square in self._entries:
            assert parameter.grad is not None
            weights, gradients = self._items(parameter.data, kind), self._items(parameter.grad, kind)
            lr = self._rates[kind] * multiplier * lr_multiplier
            if kind == "matrix":
                muon_update(
                    weights,
                    gradients,
                    average,
                    square,
                    lr=lr,
                    momentum=momentum,
                    weight_decay=self.plan.weight_decay,
                    dtype=self.dtype,
                )
                continue
            adam_update(
                weights,
                gradients,
                average,
                square,
                step=self.steps,
                lr=lr,
                beta1=_BETAS[kind][0],
                beta2=_BETAS[kind][1],
                epsilon=_EPSILON[kind],
                row_share=_ROW_SHARE,
                floor=_NOISE * self._norm if kind == "scalar" else None,
            )
