"""Keys, values and tokens of rows in generation; every row may have a length of its own."""

from typing import Self

import torch
from torch import Tensor

from nanochat.model.config import GPTConfig


class KVCache:
    """Memory of `batch` rows of up to `max_length` tokens.

    A forward pass appends its T tokens to every row at `lengths` and moves `lengths` on. To take tokens back (the
    padding of a prompt, say), lower `lengths`: what lies beyond it is never looked at and is overwritten.

    Attributes:
        lengths: (batch,) int64, tokens in each row.
        tokens: (batch, max_length) int64; the modern form mixes the previous token's embedding into the next one.
        keys, values: (layers, batch, max_length, kv_heads, head_dim).
    """

    def __init__(
        self,
        config: GPTConfig,
        batch: int,
        max_length: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Allocate empty rows.

        Raises:
            ValueError: if `max_length` is more than the context the model was trained with.
        """
        if max_length > config.sequence_length:
            raise ValueError(f"max_length {max_length} is more than the model's context of {config.sequence_length}")
        shape = (config.depth, batch, max_length, config.kv_heads, config.head_dim)
        # Zeros, not empty: masked positions still take part in a product with 0, and 0 · NaN is NaN.
        self.keys = torch.zeros(shape, device=device, dtype=dtype)
        self.values = torch.zeros(shape, device=device, dtype=dtype)
        self.tokens = torch.zeros((batch, max_length), device=device, dtype=torch.int64)
        self.lengths = torch.zeros(batch, device=device, dtype=torch.int64)
        self._rows = torch.arange(batch, device=device)[:, None]

    @property
    def batch(self) -> int:
        """Number of rows."""
        return self.lengths.shape[0]

    @property
    def max_length(self) -> int:
        """Tokens a row can hold."""
        return self.tokens.shape[1]

    def first(self, rows: int) -> Self:
        """A view of the first `rows` rows that shares this cache's memory, `lengths` included."""
        view = object.__new__(type(self))
        view.keys, view.values = self.keys[:, :rows], self.values[:, :rows]
        view.tokens, view.lengths, view._rows = self.tokens[:rows], self.lengths[:rows], self._rows[:rows]
        return view

    def reset(self, rows: Tensor | list[int] | None = None) -> None:
        """Empty the given rows, or all."""
        if rows is None:
            self.lengths.zero_()
        else:
            self.lengths[rows] = 0

    def copy_row(self, source: int, target: int) -> None:
        """Make row `target` equal to row `source`."""
        length = int(self.lengths[source])
        self.keys[:, target, :length] = self.keys[:, source, :length]
        self.values[:, target, :length] = self.values[:, source, :length]
        self.tokens[target, :length] = self.tokens[source, :length]
        self.lengths[target] = length

    def start(self, tokens: Tensor) -> tuple[Tensor, int]:
        """Note the tokens of a forward pass.

        Args:
            tokens: (batch, T).

        Returns:
            (batch, T) positions of the tokens, and how many cached positions the longest row then has.

        Raises:
            ValueError: if a row would grow beyond `max_length`.
        """
        positions = self.lengths[:, None] + torch.arange(tokens.shape[1], device=tokens.device)
        longest = int(self.lengths.max()) + tokens.shape[1]
        if longest > self.max_length:
            raise ValueError(f"a row would hold {longest} tokens, the cache holds {self.max_length}; end or reset it")
        self.tokens[self._rows, positions] = tokens
        return positions, longest

    def previous_tokens(self) -> tuple[Tensor, Tensor]:
        """(batch, 1) last token of each row, and (batch, 1) whether there is one."""
        last = (self.lengths - 1).clamp(min=0)[:, None]
        return self.tokens.gather(1, last), self.lengths[:, None] > 0

    def extend(self, layer: int, k: Tensor, v: Tensor, positions: Tensor, longest: int) -> tuple[Tensor, Tensor]:
        """Store a layer's new keys and values; returns all of its keys and values up to the longest row.

        Args:
            layer: which.
            k: new keys, (batch, T, kv_heads, head_dim).
            v: new values, alike.
            positions: of `start`.
            longest: of `start`.
        """
        keys, values = self.keys[layer], self.values[layer]
        keys[self._rows, positions] = k.to(keys.dtype)
        values[self._rows, positions] = v.to(values.dtype)
        return keys[:, :longest], values[:, :longest]

    def finish(self, count: int) -> None:
        """Move every row on by the `count` tokens of a forward pass."""
        self.lengths += count
