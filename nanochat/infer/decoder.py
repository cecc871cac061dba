"""A model prepared for generation: the same function as `GPT`, computed with a cache and with little overhead.

Training wants its products apart, for their gradients and optimizers, and its weights in float32. Generation reads
all weights for a handful of tokens, so what counts is how often something is launched and how much is read: weights
are cast once, those with the same input are joined, embeddings are normalised in advance.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nanochat.infer.kv_cache import KVCache
from nanochat.infer.products import attend_many, attend_one, lay_out, normalised, product
from nanochat.model.gpt import GPT, Block

CPU_CHUNK, GPU_CHUNK = 64, 1024
"""Tokens of each row that are read at a time. On CPUs always as many, so that all rows are computed in one way."""


@dataclass(frozen=True)
class _Layer:
    """The weights of a block, in the compute type.

    Attributes:
        joined: queries, keys, values and, where values are mixed, their gate, which reads the leading channels only.
        residual, x0: factors of the stream and of the first embedding; None in the classic form and the first layer.
    """

    joined: Tensor
    output: Tensor
    up: Tensor
    down: Tensor
    value_embedding: Tensor | None
    residual: Tensor | None
    x0: Tensor | None


Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""(layer, queries (N, heads, head_dim), keys (N, kv_heads, head_dim), values) → (N, heads * head_dim)."""


class Decoder:
    """A model's weights when this was made, some of them copies; of no use after a training step, make another one.

    Attributes:
        config: shape of the model.
        dtype: compute type, of the cache too.
        device: where it is.
    """

    def __init__(self, model: GPT) -> None:
        self.config, self.dtype, self.device = model.config, model.dtype, model.device
        config, dtype = self.config, self.dtype
        modern = config.arch == "modern"
        self._scale = config.attention_sharpness / config.head_dim**0.5
        with torch.inference_mode():
            half = config.head_dim // 2
            self._turns = torch.complex(model.cos[:, :half], -model.sin[:, :half])[:, None]
            self._embedding = normalised(model.embedding.weight.to(dtype))
            self._head = lay_out(model.head.weight, dtype)
            self._share = self._backout = None
            if modern:
                gate = torch.sigmoid(model.smear_gate(self._embedding[:, : model.smear_gate.in_features]))
                self._share = gate * model.smear_scale.to(dtype)
                self._backout = model.backout_scale.to(dtype)
            # The stream is x0 itself before the first layer: one factor.
            self._first = (model.residual_scales[0] + model.x0_scales[0]).to(dtype) if modern else None
            scales: list[tuple[Tensor, Tensor] | tuple[None, None]] = [(None, None)] * config.depth
            if modern:
                scales[1:] = zip(model.residual_scales[1:], model.x0_scales[1:], strict=True)
            self._layers = [self._prepare(block, *scales[n]) for n, block in enumerate(model.blocks)]

    def _prepare(self, block: Block, residual: Tensor | None, x0: Tensor | None) -> _Layer:
        attention, dtype = block.attention, self.dtype
        size = self.config.head_dim
        # Both coordinates that are turned together stand side by side: a turn is then one complex product. Queries and
        # keys are only ever compared with each other.
        pairs = torch.arange(size, device=self.device).view(2, -1).t().flatten()
        parts = [
            part.weight.unflatten(0, (-1, size))[:, pairs].flatten(0, 1) for part in (attention.query, attention.key)
        ]
        parts.append(attention.value.weight)
        if attention.mixes_value:
            gate = attention.value_gate.weight
            # Rows of even length, as complex numbers need.
            parts.append(F.pad(gate, (0, self.config.width - gate.shape[1], 0, gate.shape[0] % 2)))
        return _Layer(
            joined=lay_out(torch.cat([part.detach() for part in parts]), dtype),
            output=lay_out(attention.output.weight, dtype),
            up=lay_out(block.mlp.up.weight, dtype),
            down=lay_out(block.mlp.down.weight, dtype),
            value_embedding=attention.value_embedding.weight.detach().to(dtype) if attention.mixes_value else None,
            residual=None if residual is None else residual.detach().to(dtype),
            x0=None if x0 is None else x0.detach().to(dtype),
        )

    def cache(self, rows: int, max_length: int) -> KVCache:
        """An empty cache for this model.

        Raises:
            ValueError: if `max_length` is more than the context.
        """
        return KVCache(self.config, rows, max_length, self.device, self.dtype)

    @torch.inference_mode()
    def step(self, tokens: Tensor, cache: KVCache, *, alone: bool = False) -> Tensor:
        """Append one token to each of the first rows.

        Args:
            tokens: (N,) int64, on the device.
            cache: of at least N rows, each with room for one more.
            alone: there is one row, and it need not equal to the bit what it would be beside others.

        Returns:
            (N, vocab_size) float32 logits of what comes next.

        Raises:
            ValueError: if a row is full.
        """
        rows = slice(0, tokens.shape[0])
        lengths = cache.lengths[rows]
        longest, shortest = int(lengths.max()), int(lengths.min())
        cache.check_room(longest + 1)
        positions = torch.from_numpy(lengths.copy()).to(self.device)
        before = cache.last[rows]
        if shortest == 0:
            before = torch.where(positions > 0, before, -1)
        ragged = longest != shortest
        logits = self.next_logits(tokens, positions, before, cache, longest + 1, ragged=ragged, alone=alone)
        cache.finish(rows, 1, tokens)
        return logits

    def next_logits(
        self,
        tokens: Tensor,
        positions: Tensor,
        before: Tensor,
        cache: KVCache,
        seen: int,
        *,
        ragged: bool,
        alone: bool = False,
    ) -> Tensor:
        """What `step` computes, from tensors alone, so that a GPU can record and replay it.

        Args:
            tokens: (N,) int64.
            positions: (N,) int64, of the tokens.
            before: (N,) int64, the token before each; -1 where there is none.
            cache: its rows' keys and values are written, its lengths are not read.
            seen: no row has more tokens than this, the new one counted.
            ragged: whether rows differ in length.
            alone: as in `step`.
        """
        places = cache.places(positions, seen, ragged=ragged)
        windows, scale = self.config.windows, self._scale

        def look(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            place = places[windows[layer]]
            keys, values = cache.append(layer, k, v, place)
            return attend_one(q, keys, values, place.mask, scale, alone=alone)

        x = self._hidden(tokens, before, self._turns[positions], look, alone=alone)
        return product(x, self._head, alone=alone).float().div_(self.config.softcap).tanh_().mul_(self.config.softcap)

    @property
    def chunk(self) -> int:
        """Tokens of a row that are read at a time."""
        return CPU_CHUNK if self.device.type == "cpu" else GPU_CHUNK

    @torch.inference_mode()
    def read(self, tokens: Tensor, counts: np.ndarray, cache: KVCache, first_row: int = 0) -> None:
        """Append prompts, or what follows of them, to rows of equal length; no logits are made.

        Args:
            tokens: (B, T) int64 on the host, padded on the right with any token; the longest first.
            counts: (B,) how many tokens of each row are real, at least 1; never rising.
            cache: its rows first_row, …, first_row + B - 1 are read into. On CPUs their length is best a multiple of
                `chunk`: then what is computed for a row does not depend on how it was read.
            first_row: see `cache`.

        Raises:
            ValueError: if a row would grow beyond the cache.
        """
        start = int(cache.lengths[first_row])
        cache.check_room(start + int(counts.max()))
        for begin in range(0, int(counts.max()), self.chunk):
            more = int(np.count_nonzero(counts > begin))
            part = tokens[:more, begin : begin + self.chunk]
            if self.device.type == "cpu":  # always the same shape
                part = F.pad(part, (0, self.chunk - part.shape[1]))
            self._read_chunk(
                part.to(self.device),
                np.minimum(counts[:more] - begin, self.chunk),
                cache,
                slice(first_row, first_row + more),
                start + begin,
            )

    def _read_chunk(self, ids: Tensor, counts: np.ndarray, cache: KVCache, rows: slice, start: int) -> None:
        batch, width = ids.shape
        # Padding may lie beyond the context; what it is does not matter.
        positions = torch.arange(start, start + width, device=self.device).clamp(max=self.config.sequence_length - 1)
        before = torch.cat((cache.last[rows, None], ids[:, :-1]), dim=1)
        if start == 0:
            before[:, 0] = -1
        masks = {window: self._mask(cache, layer, start, width) for layer, window in enumerate(cache.windows)}

        def look(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            q, k, v = (part.unflatten(0, (batch, width)) for part in (q, k, v))
            keys, values, _ = cache.earlier(layer, rows, start)
            keys, values = (torch.cat((old, new.transpose(1, 2)), dim=2) for old, new in ((keys, k), (values, v)))
            cache.fill(layer, k, v, rows, counts)
            return attend_many(q, keys, values, masks[cache.windows[layer]], self._scale).flatten(0, 1)

        self._hidden(ids.flatten(), before.flatten(), self._turns[positions].repeat(batch, 1, 1), look)
        last = torch.from_numpy(counts - 1).to(self.device)
        cache.finish(rows, counts, ids.gather(1, last[:, None])[:, 0])

    def _mask(self, cache: KVCache, layer: int, start: int, width: int) -> Tensor:
        """Mask (width, earlier + width) of tokens at `start` and after it, for the window of a layer."""
        earlier = cache.earlier(layer, slice(0, 1), start)[2]
        queries = np.arange(start, start + width)
        distance = queries[:, None] - np.concatenate((earlier, queries))
        hidden = torch.from_numpy((distance < 0) | (distance >= cache.windows[layer]))
        mask = torch.zeros(distance.shape, dtype=self.dtype).masked_fill_(hidden, float("-inf"))
        return mask.to(self.device)

    def _hidden(self, tokens: Tensor, before: Tensor, turns: Tensor, look: Attend, *, alone: bool = False) -> Tensor:
        """(N, width) last hidden states, normalised.

        Args:
            tokens: (N,).
            before: (N,) the token before each, -1 where there is none.
            turns: (N, 1, head_dim / 2) complex, of the tokens' positions.
            look: stores keys and values and attends.
            alone: as in `step`.
        """
        config = self.config
        heads, kv_heads, size = config.heads, config.kv_heads, config.head_dim
        turned, kept = heads + kv_heads, heads + 2 * kv_heads
        x = F.embedding(tokens, self._embedding)
        if self._share is not None:
            share = F.embedding(tokens, self._share) * (before >= 0).unsqueeze(-1)
            x = torch.addcmul(x, share, F.embedding(before.clamp(min=0), self._embedding))
        x0 = middle = x
        if self._first is not None:
            x = x * self._first
        halfway = (config.depth - 1) // 2
        for number, layer in enumerate(self._layers):
            if layer.residual is not None and layer.x0 is not None:
                x = torch.addcmul(x * layer.residual, x0, layer.x0)
            joined = product(normalised(x), layer.joined, alone=alone)
            parts = joined[:, : kept * size].unflatten(-1, (kept, size))
            qk, v = parts[:, :turned], parts[:, turned:]
            turned_qk = torch.view_as_complex(qk.float().unflatten(-1, (-1, 2))) * turns
            qk = normalised(torch.view_as_real(turned_qk).flatten(-2)).to(x.dtype)
            if layer.value_embedding is not None:
                extra = F.embedding(tokens, layer.value_embedding).view_as(v)
                gate = torch.sigmoid(joined[:, kept * size : kept * size + kv_heads])
                v = torch.addcmul(v, gate.unsqueeze(-1), extra, value=2)
            mixed = look(number, qk[:, :heads], qk[:, heads:], v)
            x = product(mixed, layer.output, x, alone=alone)
            inner = F.relu(product(normalised(x), layer.up, alone=alone)).square_()
            x = product(inner, layer.down, x, alone=alone)
            if number == halfway:
                middle = x
        if self._backout is not None:
            x = x - self._backout * middle
        return normalised(x)
