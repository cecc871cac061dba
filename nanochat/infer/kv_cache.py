"""Keys and values of rows in generation; every row may have a length of its own."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nanochat.model.config import GPTConfig

GRAIN, FEWEST = 16, 64
"""Places come in multiples of this, and not less than that: `products.attend_one` says why."""


@dataclass(frozen=True)
class Places:
    """Where one more token of each row belongs in the layers of one size, and what it then sees.

    Attributes:
        write: (rows * kv_heads,) int64, in the flattened keys of a layer.
        seen: leading places that any row looks at.
        mask: additive, (rows, 1, 1, seen) in the compute type; None where all rows see all of them.
    """

    write: Tensor
    seen: int
    mask: Tensor | None


class KVCache:
    """Memory of some rows of up to `max_length` tokens.

    A layer with a window keeps little more than the last `window` tokens: position p lies at place p modulo the
    layer's size. Rotary positions are in the keys, so their order in memory does not matter.

    Attributes:
        sizes: places of each layer.
        lengths: (rows,) tokens in each row; on the host, where the rows are managed.
        last: (rows,) int64, last token of each row; the modern form mixes its embedding into the next one's.
        keys, values: per layer (rows, kv_heads, size, head_dim): the order in which attention reads them.
    """

    def __init__(
        self,
        config: GPTConfig,
        rows: int,
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
        self.max_length = max_length
        self.sizes = tuple(min(_rounded(max_length), _rounded(window)) for window in config.windows)
        self.windows = config.windows
        shapes = [(rows, config.kv_heads, size, config.head_dim) for size in self.sizes]
        # Zeros, not empty: masked places still take part in a product with 0, and 0 · NaN is NaN.
        self.keys = [torch.zeros(shape, device=device, dtype=dtype) for shape in shapes]
        self.values = [torch.zeros(shape, device=device, dtype=dtype) for shape in shapes]
        self.lengths = np.zeros(rows, dtype=np.int64)
        self.last = torch.zeros(rows, dtype=torch.int64, device=device)
        self._heads = torch.arange(rows * config.kv_heads, device=device)
        self._counting = torch.arange(max(self.sizes), device=device)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.lengths)

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values."""
        return sum(tensor.nbytes for tensor in (*self.keys, *self.values))

    def places(self, positions: Tensor, seen: int, *, ragged: bool) -> dict[int, Places]:
        """Places of the next token of the first rows, for each window.

        Args:
            positions: (rows,) int64 on the device, of the tokens to be written.
            seen: no row then has more tokens than this.
            ragged: whether rows differ in length, so that they need masks.
        """
        rows = positions.shape[0]
        heads = self._heads.shape[0] // self.rows
        found = {}
        for size, window in set(zip(self.sizes, self.windows)):
            count = min(_rounded(seen), size)
            place = positions % size
            mask = None
            if ragged or seen < count or size > window:
                if seen <= min(size, window):  # nothing has been left behind yet: place and position are the same
                    hidden = self._counting[:count] > positions[:, None]
                else:
                    # At each place is the last position up to the row's that belongs there; before the first, none.
                    distance = (positions[:, None] - self._counting[:count]) % size
                    hidden = (distance > positions[:, None]) | (distance >= window)
                mask = torch.zeros(hidden.shape, dtype=self.keys[0].dtype, device=hidden.device)
                mask = mask.masked_fill_(hidden, float("-inf"))[:, None, None]
            write = self._heads[: rows * heads] * size
            found[window] = Places(write + (place.repeat_interleave(heads) if heads > 1 else place), count, mask)
        return found

    def append(self, layer: int, k: Tensor, v: Tensor, places: Places) -> tuple[Tensor, Tensor]:
        """Write one token of each of the first rows; returns all that they then see.

        Args:
            layer: which.
            k: (rows, kv_heads, head_dim).
            v: alike.
            places: of `places`, for this layer's window.

        Returns:
            Keys and values, (rows, kv_heads, seen, head_dim).
        """
        keys, values = self.keys[layer], self.values[layer]
        keys.view(-1, keys.shape[-1]).index_copy_(0, places.write, k.reshape(-1, keys.shape[-1]))
        values.view(-1, keys.shape[-1]).index_copy_(0, places.write, v.reshape(-1, keys.shape[-1]))
        return keys[: k.shape[0], :, : places.seen], values[: k.shape[0], :, : places.seen]

    def earlier(self, layer: int, rows: slice, length: int) -> tuple[Tensor, Tensor, np.ndarray]:
        """What some rows of equal length hold in a layer.

        Returns:
            Keys and values (rows, kv_heads, places, head_dim), and (places,) the positions they are of.
        """
        count = min(self.sizes[layer], length)
        positions = length - 1 - (length - 1 - np.arange(count)) % self.sizes[layer]
        return self.keys[layer][rows, :, :count], self.values[layer][rows, :, :count], positions

    def fill(self, layer: int, k: Tensor, v: Tensor, rows: slice, counts: np.ndarray) -> None:
        """Write several tokens of some rows, as far as the layer keeps them; `finish` then moves the rows on.

        Args:
            layer: which.
            k: (rows, T, kv_heads, head_dim).
            v: alike.
            rows: which rows.
            counts: (rows,) how many of the T tokens are real; the others are padding on the right.
        """
        size, start = self.sizes[layer], self.lengths[rows]
        kept = np.arange(k.shape[1])
        row, time = np.nonzero((kept < counts[:, None]) & (kept >= counts[:, None] - size))
        place = (start[row] + time) % size
        device = k.device
        source = (torch.from_numpy(row).to(device), torch.from_numpy(time).to(device))
        target = torch.from_numpy(row + (rows.start or 0)).to(device), torch.from_numpy(place).to(device)
        self.keys[layer][target[0], :, target[1]] = k[source]
        self.values[layer][target[0], :, target[1]] = v[source]

    def finish(self, rows: slice, counts: np.ndarray | int, last: Tensor) -> None:
        """Note that rows have grown by `counts` tokens, of which `last` (rows,) are the last ones."""
        self.lengths[rows] += counts
        self.last[rows] = last

    def check_room(self, longest: int) -> None:
        """Raise a ValueError where a row would hold more tokens than fit."""
        if longest > self.max_length:
            raise ValueError(f"a row would hold {longest} tokens, the cache holds {self.max_length}; end or reset it")

    def empty(self, row: int) -> None:
        """Take all tokens out of a row."""
        self.lengths[row] = 0

    def take(self, other: "KVCache", source: int, targets: Sequence[int]) -> None:
        """Make rows equal to one of another cache of the same model, whose tokens have to fit here."""
        length = int(other.lengths[source])
        for layer, size in enumerate(self.sizes):
            count = min(length, size)
            for target in targets:
                self.keys[layer][target, :, :count] = other.keys[layer][source, :, :count]
                self.values[layer][target, :, :count] = other.values[layer][source, :, :count]
        self.last[list(targets)] = other.last[source].clone()  # may be of this very cache
        self.lengths[list(targets)] = length


def _rounded(count: int) -> int:
    return max(FEWEST, -(-count // GRAIN) * GRAIN)
