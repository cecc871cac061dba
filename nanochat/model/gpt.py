"""The model, in two forms.

classic (nanochat of October 2025, transformers' `NanoChatForCausalLM`): untied embeddings, RMSNorm without weights
after the embedding, before each part of a block and before the head; rotary positions, then QK-norm; relu² MLP of
4 × width; no biases; softcapped logits.

modern adds: value embeddings mixed into every other layer's values through a gate; a scalar on the residual stream
and one on the first embedding x0 per layer; smear (a gated share of the previous token's embedding); backout (a
learned share of the residual stream at mid-depth taken away before the head); sliding windows; sharper attention.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nanochat.model.attention import BLOCK, AttentionKind, Masks, attend, training_masks, tree_masks
from nanochat.model.config import GPTConfig
from nanochat.model.fp8 import fits, fp8_linear
from nanochat.model.layout import TreeLayout
from nanochat.model.loss import soft_cap, token_losses, weighted_loss
from nanochat.model.pointwise import mix, norm, rotate, squared_relu

__all__ = ["GPT", "GPTConfig", "ParameterGroup"]

GATE_CHANNELS = 12
"""Channels of the hidden state that gates read: enough to tell tokens apart, too few to cost anything."""


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that one rule updates.

    Attributes:
        kind: which of the plan's learning rates applies: `matrix` (Muon), `embedding`, `head`, `scalar` (AdamW).
        lr_multiplier: factor on that rate.
    """

    kind: str
    parameters: tuple[tuple[str, nn.Parameter], ...]
    lr_multiplier: float = 1.0


class Linear(nn.Linear):
    """A bias-free product whose float32 master weight is cast to the type of its input.

    Attributes:
        fp8: whether its products are computed in 8-bit floats.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)
        self.fp8 = False

    def forward(self, x: Tensor) -> Tensor:
        if self.fp8:
            return fp8_linear(x, self.weight)
        return F.linear(x, self.weight.to(x.dtype))


@dataclass
class _Context:
    """What a forward pass shares between its layers."""

    tokens: Tensor
    cos: Tensor
    sin: Tensor
    masks: Masks


def _only(wanted: Tensor | None, x: Tensor) -> Tensor:
    """(m, width) states at flattened places of (B, T, width) ones, or all."""
    return x if wanted is None or x.dim() == 2 else x.flatten(0, 1)[wanted]


class Attention(nn.Module):
    """Causal self-attention of one layer, with an optional value embedding."""

    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.config = layer, config
        self.window = config.windows[layer]
        self.scale = config.attention_sharpness / math.sqrt(config.head_dim)
        self.attend = attend
        kv_width = config.kv_heads * config.head_dim
        self.query = Linear(config.width, config.heads * config.head_dim)
        self.key = Linear(config.width, kv_width)
        self.value = Linear(config.width, kv_width)
        self.output = Linear(config.heads * config.head_dim, config.width)
        self.mixes_value = layer in config.value_embedding_layers
        if self.mixes_value:
            self.value_embedding = nn.Embedding(config.vocab_size, kv_width)
            self.value_gate = Linear(min(GATE_CHANNELS, config.width), config.kv_heads)

    def forward(self, x: Tensor, context: _Context, wanted: Tensor | None = None) -> Tensor:
        config = self.config
        q = self.query(x).unflatten(-1, (config.heads, config.head_dim))
        k = self.key(x).unflatten(-1, (config.kv_heads, config.head_dim))
        v = self.value(x).unflatten(-1, (config.kv_heads, config.head_dim))
        if self.mixes_value:
            extra = F.embedding(context.tokens, self.value_embedding.weight).to(x.dtype).view_as(v)
            # A gate of zero weight lets the embedding through as it is.
            gate = 2 * torch.sigmoid(self.value_gate(x[..., : self.value_gate.in_features]))
            v = v + gate.unsqueeze(-1) * extra
        q, k = norm(rotate(q, context.cos, context.sin)), norm(rotate(k, context.cos, context.sin))
        return self.output(_only(wanted, self.attend(q, k, v, context.masks[self.window], self.scale)))


class MLP(nn.Module):
    """relu² between two products (Primer, arXiv 2109.08668)."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.up = Linear(config.width, 4 * config.width)
        self.down = Linear(4 * config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(squared_relu(self.up(x)))


class Block(nn.Module):
    """Attention and MLP, each on the normalised residual stream."""

    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        self.attention = Attention(config, layer)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, context: _Context, wanted: Tensor | None = None) -> Tensor:
        x = _only(wanted, x) + self.attention(norm(x), context, wanted)
        return x + self.mlp(norm(x))


class GPT(nn.Module):
    """The transformer; see the module docstring. Call `init_weights` or load a checkpoint before use.

    Attributes:
        dtype: compute type; the weights stay float32.
        attention_kind: how training computes attention.
        kernels: names of the Triton kernels in use.
        compiled: whether what training computes is compiled; see `compile_training`.
        recompute: keep the input of each block only and compute the rest again in the backward pass.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.dtype = torch.float32
        self.attention_kind: AttentionKind = "auto"
        self.kernels: frozenset[str] = frozenset()
        self.compiled = False
        self.recompute = False
        self._training_trunk: Callable[[Tensor, Tensor | None, _Context], Tensor] = self._trunk
        self.embedding = nn.Embedding(config.vocab_size, config.width)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.depth))
        self.head = Linear(config.width, config.vocab_size)
        if config.arch == "modern":
            self.residual_scales = nn.Parameter(torch.ones(config.depth))
            self.x0_scales = nn.Parameter(torch.zeros(config.depth))
            self.smear_gate = Linear(min(2 * GATE_CHANNELS, config.width), 1)
            self.smear_scale = nn.Parameter(torch.zeros(1))
            self.backout_scale = nn.Parameter(torch.zeros(1))
        half = config.head_dim // 2
        frequencies = config.rope_theta ** (-torch.arange(half, dtype=torch.float64) / half)
        angles = torch.arange(config.sequence_length, dtype=torch.float64)[:, None] * frequencies
        cos, sin = angles.cos().float(), angles.sin().float()
        self.register_buffer("cos", torch.cat((cos, cos), dim=-1), persistent=False)
        self.register_buffer("sin", torch.cat((sin, -sin), dim=-1), persistent=False)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.embedding.weight.device

    @torch.no_grad()
    def init_weights(self, seed: int) -> None:
        """Fill the weights, equally on every device and rank.

        Projections into the residual stream start at zero, so that a new model is its embeddings and head; the
        others are uniform with deviation 1/√width (classic: normal, as nanochat of 2025).
        """
        generator = torch.Generator().manual_seed(seed)
        config = self.config
        modern = config.arch == "modern"

        def fill(parameter: nn.Parameter, deviation: float, uniform: bool = False) -> None:
            values = torch.empty(parameter.shape)
            if uniform:
                bound = math.sqrt(3) * deviation
                values.uniform_(-bound, bound, generator=generator)
            else:
                values.normal_(0.0, deviation, generator=generator)
            parameter.copy_(values)

        fill(self.embedding.weight, 0.8 if modern else 1.0)
        # Logits near zero: the first loss is ln(vocab_size), but the head's gradient still reaches the body.
        fill(self.head.weight, 0.001)
        deviation = config.width**-0.5
        for block in self.blocks:
            attention, mlp = block.attention, block.mlp
            for part in (attention.query, attention.key, attention.value):
                fill(part.weight, deviation, uniform=modern)
            # A relu² MLP with a zero output learns faster from a smaller input side.
            fill(mlp.up.weight, 0.4 * deviation if modern else deviation, uniform=modern)
            attention.output.weight.zero_()
            mlp.down.weight.zero_()
            if attention.mixes_value:
                fill(attention.value_embedding.weight, deviation, uniform=True)
                attention.value_gate.weight.zero_()
        if modern:
            steps = torch.linspace(0, 1, config.depth)
            self.residual_scales.copy_(1.15 - 0.1 * steps)
            self.x0_scales.copy_(0.2 - 0.15 * steps)
            fill(self.smear_gate.weight, self.smear_gate.in_features**-0.5, uniform=True)
            self.smear_scale.zero_()
            self.backout_scale.fill_(0.2)

    def parameter_groups(self) -> list[ParameterGroup]:
        """All parameters, by the rule that updates them."""
        named = dict(self.named_parameters())

        def group(kind: str, names: list[str], lr_multiplier: float = 1.0) -> ParameterGroup:
            return ParameterGroup(kind, tuple((name, named.pop(name)) for name in names), lr_multiplier)

        def ending(*suffixes: str) -> list[str]:
            return [name for name in named if name.endswith(suffixes)]

        groups = [group("embedding", ["embedding.weight"]), group("head", ["head.weight"])]
        if self.config.arch == "modern":
            groups += [
                # Value embeddings are read by one layer each, with half the rate of the token embedding.
                group("embedding", ending("value_embedding.weight"), 0.5),
                # Factors of the whole stream: a hundredth of the rate of the factors of x0.
                group("scalar", ["residual_scales"], 0.01),
                group("scalar", ["x0_scales"]),
                group("scalar", ["smear_scale", "backout_scale"], 0.4),
                group("scalar", ending("value_gate.weight", "smear_gate.weight"), 0.04),
            ]
        groups.append(group("matrix", list(named)))
        return [entry for entry in groups if entry.parameters]

    def _embed(self, tokens: Tensor, segments: Tensor | TreeLayout | None) -> Tensor:
        """(B, T, width) normalised embeddings, with smear; the previous token counts only in the same document."""
        x = norm(F.embedding(tokens, self.embedding.weight).to(self.dtype))
        if self.config.arch == "classic":
            return x
        if isinstance(segments, TreeLayout):
            rows = torch.arange(len(x), device=x.device)[:, None] * x.shape[1]
            before = F.embedding(rows + segments.previous.clamp(min=0), x.flatten(0, 1))
            present, head, tail = segments.previous >= 0, x[:, :0], x
        else:
            before, present = x[:, :-1], None if segments is None else segments[:, 1:] == segments[:, :-1]
            head, tail = x[:, :1], x[:, 1:]
        share = torch.sigmoid(self.smear_gate(tail[..., : self.smear_gate.in_features]))
        share = share * self.smear_scale.to(x.dtype)
        if present is not None:
            share = share * present.unsqueeze(-1)
        return torch.cat((head, tail + share * before), dim=1)

    def hidden(self, tokens: Tensor, segments: Tensor | TreeLayout | None = None) -> Tensor:
        """Last hidden states, normalised; arguments as in `forward`.

        Returns:
            (B, T, width) in the compute type; where a layout names the positions that are wanted, (m, width) of these.
        """
        if isinstance(segments, TreeLayout):
            return self._tree_hidden(tokens, segments)
        length = tokens.shape[1]
        if length > self.cos.shape[0]:
            raise ValueError(f"rows of {length} tokens do not fit the model's context of {self.cos.shape[0]}")
        # Shapes vary outside of training, and each would be compiled anew.
        training = torch.is_grad_enabled()
        trunk, kind = (self._training_trunk, self.attention_kind) if training else (self._trunk, "auto")
        masks = training_masks(self.config.windows, length, segments, tokens.device, self.dtype, kind)
        cos, sin = self.cos[None, :length, None], self.sin[None, :length, None]
        return trunk(tokens, segments, _Context(tokens, cos.to(self.dtype), sin.to(self.dtype), masks))

    def _tree_hidden(self, tokens: Tensor, layout: TreeLayout) -> Tensor:
        longest = int(layout.positions.max()) + 1
        if longest > self.cos.shape[0]:
            raise ValueError(f"sequences of {longest} tokens do not fit the model's context of {self.cos.shape[0]}")
        masks = tree_masks(self.config.windows, layout, self.dtype)
        cos, sin = (table[layout.positions].unsqueeze(2).to(self.dtype) for table in (self.cos, self.sin))
        return self._trunk(tokens, layout, _Context(tokens, cos, sin, masks))

    def _trunk(self, tokens: Tensor, segments: Tensor | TreeLayout | None, context: _Context) -> Tensor:
        """Embeddings and blocks: what is worth compiling."""
        x = self._embed(tokens, segments)
        modern = self.config.arch == "modern"
        x0 = middle = x
        halfway = (self.config.depth - 1) // 2
        wanted = segments.wanted if isinstance(segments, TreeLayout) else None
        for layer, block in enumerate(self.blocks):
            if modern and layer:
                x = mix(x, self.residual_scales[layer], x0, self.x0_scales[layer])
            elif modern:  # x is x0
                x = x * (self.residual_scales[0] + self.x0_scales[0]).to(x.dtype)
            if self.recompute and torch.is_grad_enabled():
                x = checkpoint(block, x, context, use_reentrant=False)
            else:
                x = block(x, context, wanted if layer + 1 == self.config.depth else None)
            if layer == halfway:
                middle = x
        return norm(x - self.backout_scale.to(x.dtype) * _only(wanted, middle) if modern else x)

    def compile_training(self) -> None:
        """Compile what training computes: on GPUs as one graph without breaks, on CPUs around the attention.

        Each shape gets a program of its own: one for all would depend on which shapes came first, and a resumed run
        would not compute what an uninterrupted one does.
        """
        self.compiled = True
        if self.device.type == "cpu":
            # Tiles differ from batch to batch: compiled, each set of them would be a program of its own.
            for block in self.blocks:
                block.attention.attend = torch.compiler.disable(attend)
        elif self.config.sequence_length % BLOCK == 0:
            self.attention_kind = "flex"
        self._training_trunk = torch.compile(self._trunk, fullgraph=self.device.type != "cpu", dynamic=False)

    @contextmanager
    def computing_in(self, dtype: torch.dtype) -> Iterator[None]:
        """Compute in another type for a while."""
        before, self.dtype = self.dtype, dtype
        try:
            yield
        finally:
            self.dtype = before

    def use_fp8(self) -> None:
        """Compute the products of the blocks in 8-bit floats where their shapes allow it."""
        for block in self.blocks:
            for module in block.modules():
                if isinstance(module, Linear) and fits(module.weight):
                    module.fp8 = True

    def forward(
        self,
        tokens: Tensor,
        segments: Tensor | TreeLayout | None = None,
        last_only: bool = False,
    ) -> Tensor:
        """Logits of the next token.

        Args:
            tokens: (B, T) int64.
            segments: (B, T) document of each position; attention and smear stay inside. None: one document per row.
                Or the layout of rows of trees, which may be longer than the context as long as no sequence is.
            last_only: only the last position's logits.

        Returns:
            (B, T, vocab_size) float32, or (B, 1, vocab_size).

        Raises:
            ValueError: if a row does not fit the context.
        """
        x = self.hidden(tokens, segments)
        return soft_cap(self.head(x[:, -1:] if last_only else x), self.config.softcap)

    def token_losses(
        self, tokens: Tensor, targets: Tensor, segments: Tensor | None = None, *, with_correct: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Cross-entropy of each target in nats, 0 where it is -1; the logits never exist as a whole.

        Args:
            tokens: (B, T) int64.
            targets: (B, T) int64, -1 where ignored.
            segments: as in `forward`.
            with_correct: also return whether the most likely token is the target.

        Returns:
            (B, T) float32, and with `with_correct` (B, T) bool.
        """
        x = self.hidden(tokens, segments)
        losses, correct = token_losses(x.flatten(0, 1), self.head.weight, targets.flatten(), self.config.softcap)
        losses = losses.view(targets.shape)
        return (losses, correct.view(targets.shape)) if with_correct else losses

    def weighted_loss(
        self, tokens: Tensor, targets: Tensor, weights: Tensor, segments: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """What training minimises: Σ weight · cross-entropy, one scalar, and the (B, T) unweighted losses, detached."""
        x = self.hidden(tokens, segments)
        total, losses = weighted_loss(
            x.flatten(0, 1),
            self.head.weight,
            targets.flatten(),
            weights.flatten(),
            self.config.softcap,
            kernel="cross_entropy" in self.kernels,
        )
        return total, losses.view(targets.shape)
