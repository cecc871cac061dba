"""Row sources: documents of token files and rendered conversations, packed into rows in a seeded order.

A position is one integer, so resuming is reading from that row on. Row n of a source depends on the data, the
sequence length and the seed only, never on ranks, batch sizes or what was read before.
"""

import logging
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Literal

import numpy as np

from nanochat.data.packing import IGNORED, Batch, Piece, best_fit_full, exact_fit, row_count
from nanochat.data.tokens import TokenFile
from nanochat.errors import DataError

log = logging.getLogger(__name__)

_WINDOW_ROWS = 1024  # a window wastes less than one row: less than 0.1 %
_PLANS_KEPT = 3  # two windows meet in a batch; validation may look elsewhere in between


class _Plan:
    """Rows of pieces in 24 bytes a piece; shuffled, with items translated from their packing order."""

    def __init__(self, rows: list[list[Piece]], order: np.ndarray, generator: np.random.Generator) -> None:
        shuffled = [rows[index] for index in generator.permutation(len(rows)).tolist()]
        self._pieces = np.array([piece for row in shuffled for piece in row], dtype=np.int64).reshape(-1, 3)
        self._pieces[:, 0] = order[self._pieces[:, 0]]
        self._first = np.cumsum([0, *map(len, shuffled)])

    def __len__(self) -> int:
        return len(self._first) - 1

    def __getitem__(self, row: int) -> list[Piece]:
        return self._pieces[self._first[row] : self._first[row + 1]].tolist()


class _Plans:
    """The last few packings, so that sequential reading packs each window once."""

    def __init__(self, make: Callable[[int, int], _Plan]) -> None:
        self._make = make
        self._kept: OrderedDict[tuple[int, int], _Plan] = OrderedDict()

    def get(self, epoch: int, window: int) -> _Plan:
        key = (epoch, window)
        if key not in self._kept:
            self._kept[key] = self._make(epoch, window)
            if len(self._kept) > _PLANS_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]


def _check_position(start: int, count: int) -> None:
    if start < 0 or count < 0:
        raise DataError(f"rows [{start}, {start + count}) were asked for; expected a start of at least 0")


class TokenRows:
    """Pretraining rows from token files.

    Files are grouped into windows of at least about a thousand rows, in the order given. Within a window documents
    are packed best-fit, and as few of them cut as it takes to waste less than one row, so that no token is lost and
    the number of rows follows from the token count alone. Each epoch shuffles windows, documents of equal length and
    rows anew.

    A document that is cut goes on in another row with the token that was the last target before, so that every
    (token, next token) pair appears exactly once per epoch.

    Args:
        files: token files; their order is part of the result.
        sequence_length: T, positions in a row.
        seed: seed of the order.
        bos: token that fills padding (its targets are ignored).

    Raises:
        DataError: if there is no file, or no document with two tokens.
    """

    def __init__(self, files: Sequence[TokenFile], sequence_length: int, seed: int, bos: int) -> None:
        self.sequence_length = sequence_length
        self._seed = seed
        self._bos = bos
        self._windows: list[list[TokenFile]] = []
        self._window_rows: list[int] = []
        self._group(files)
        self._first_documents = [list(accumulate((f.documents for f in w), initial=0)) for w in self._windows]
        self.rows_per_epoch = sum(self._window_rows)
        if not self.rows_per_epoch:
            raise DataError(f"{len(files)} token files hold no document of two tokens; expected text to train on")
        self._plans = _Plans(self._plan)
        self._order_of_epoch: tuple[int, list[int], list[int]] | None = None

    def _group(self, files: Sequence[TokenFile]) -> None:
        group: list[TokenFile] = []
        pairs = 0
        for number, file in enumerate(files):
            group.append(file)
            pairs += file.tokens - file.documents
            if pairs >= _WINDOW_ROWS * self.sequence_length or number == len(files) - 1:
                self._windows.append(group)
                self._window_rows.append(row_count(pairs, self.sequence_length))
                group, pairs = [], 0

    def _order(self, epoch: int) -> tuple[list[int], list[int]]:
        """Order of the windows in an epoch, and the row each starts at."""
        if self._order_of_epoch is None or self._order_of_epoch[0] != epoch:
            order = np.random.default_rng([self._seed, epoch]).permutation(len(self._windows)).tolist()
            starts = [0]
            for window in order[:-1]:
                starts.append(starts[-1] + self._window_rows[window])
            self._order_of_epoch = (epoch, order, starts)
        _, order, starts = self._order_of_epoch
        return order, starts

    def _plan(self, epoch: int, window: int) -> _Plan:
        generator = np.random.default_rng([self._seed, epoch, window])
        pairs = np.concatenate([np.diff(file.offsets) - 1 for file in self._windows[window]])
        documents = generator.permutation(len(pairs))
        return _Plan(best_fit_full(pairs[documents], self.sequence_length), documents, generator)

    def read(self, start: int, count: int) -> Batch:
        """Rows start … start + count - 1 of the global order, (count, T)."""
        _check_position(start, count)
        batch = Batch.padding(count, self.sequence_length, self._bos)
        for place in range(count):
            epoch, row = divmod(start + place, self.rows_per_epoch)
            order, starts = self._order(epoch)
            slot = bisect_right(starts, row) - 1
            window = order[slot]
            self._fill(batch, place, window, self._plans.get(epoch, window)[row - starts[slot]])
        return batch

    def _fill(self, batch: Batch, place: int, window: int, pieces: Sequence[Piece]) -> None:
        files = self._windows[window]
        first = self._first_documents[window]
        column = 0
        for segment, (document, start, length) in enumerate(pieces):
            number = bisect_right(first, document) - 1
            file = files[number]
            begin = int(file.offsets[document - first[number]]) + start
            ids = file.ids[begin : begin + length + 1]
            end = column + length
            batch.inputs[place, column:end] = ids[:-1]
            batch.targets[place, column:end] = ids[1:]
            batch.segments[place, column:end] = segment
            column = end
        batch.segments[place, column:] = len(pieces)


class ConversationRows:
    """Rows of rendered conversations; a conversation is never cut unless it is longer than a row.

    All conversations of an epoch are packed at once (`exact_fit`) and the rows shuffled, so every stretch of rows is a
    sample of the whole mixture. The number of rows is exact and the same in every epoch.

    Args:
        conversations: (ids, mask) as `conversation.render` gives them; ids beyond T + 1 are cut off.
        sequence_length: T, positions in a row.
        seed: seed of the order.
        train_on: `assistant`: targets are the tokens with mask 1; `everything`: all tokens.

    Raises:
        DataError: if no conversation has a token to learn.
    """

    def __init__(
        self,
        conversations: Sequence[tuple[Sequence[int], Sequence[int]]],
        sequence_length: int,
        seed: int,
        train_on: Literal["assistant", "everything"] = "assistant",
    ) -> None:
        self.sequence_length = sequence_length
        self._seed = seed
        self.cut = 0
        """Conversations longer than a row."""
        self.dropped = 0
        """Conversations left out because no token of them (in the row) is to be learned."""
        ids: list[np.ndarray] = []
        targets: list[np.ndarray] = []
        for tokens, mask in conversations:
            self.cut += len(tokens) > sequence_length + 1
            kept = np.array(tokens[: sequence_length + 1], dtype=np.int32)
            target = kept[1:].copy()
            if train_on == "assistant":
                target[np.array(mask[1 : sequence_length + 1]) == 0] = IGNORED
            if len(target) and (target != IGNORED).any():
                ids.append(kept[:-1])
                targets.append(target)
            else:
                self.dropped += 1
        if not ids:
            raise DataError(
                f"none of {len(conversations)} conversations has a token to learn within {sequence_length} tokens; "
                "expected assistant messages, or set train_on: everything or a longer model.sequence_length"
            )
        if self.dropped or self.cut:
            log.info(
                "%d conversations: %d cut to %d tokens, %d dropped (nothing to learn)",
                len(conversations),
                self.cut,
                sequence_length,
                self.dropped,
            )
        self.conversations = len(ids)
        """Conversations in use."""
        self._lengths = np.array([len(piece) for piece in ids], dtype=np.int64)
        self._begin = np.cumsum(self._lengths) - self._lengths
        self._ids = np.concatenate(ids)
        self._targets = np.concatenate(targets)
        self._filler = int(self._ids[0])
        self._plans = _Plans(self._plan)
        self.rows_per_epoch = len(self._plans.get(0, 0))

    @property
    def waste(self) -> float:
        """Share of positions that are padding."""
        return 1.0 - float(self._lengths.sum()) / (self.rows_per_epoch * self.sequence_length)

    def _plan(self, epoch: int, window: int) -> _Plan:
        generator = np.random.default_rng([self._seed, epoch])
        order = generator.permutation(len(self._lengths))
        return _Plan(exact_fit(self._lengths[order], self.sequence_length), order, generator)

    def read(self, start: int, count: int) -> Batch:
        """Rows start … start + count - 1 of the global order, (count, T)."""
        _check_position(start, count)
        batch = Batch.padding(count, self.sequence_length, self._filler)
        for place in range(count):
            epoch, row = divmod(start + place, self.rows_per_epoch)
            column = 0
            pieces = self._plans.get(epoch, 0)[row]
            for segment, (item, _, length) in enumerate(pieces):
                end = column + length
                begin = self._begin[item]
                batch.inputs[place, column:end] = self._ids[begin : begin + length]
                batch.targets[place, column:end] = self._targets[begin : begin + length]
                batch.segments[place, column:end] = segment
                column = end
            batch.segments[place, column:] = len(pieces)
        return batch
