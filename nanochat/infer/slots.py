"""Bookkeeping of the rows in generation, as arrays: a step costs the same few calls for one row or a hundred."""

from collections.abc import Sequence
from typing import Any

import numpy as np


class Slots:
    """Rows in work, kept at the front: rows 0 … count-1 are live.

    Attributes:
        requests: what each live row belongs to.
        ids: (capacity, longest) tokens generated so far; sampled, logprobs: alike.
        produced, limit: (capacity,) tokens generated and allowed.
        next_token: (capacity,) last token of each row, which the model reads in the next step.
        was_sampled: (capacity,) whether the model chose that token.
        call_start: (capacity,) where an open tool call's expression begins, -1 outside of a call.
    """

    def __init__(self, capacity: int, longest: int, vocab_size: int, default_stop: frozenset[int]) -> None:
        self.capacity = capacity
        self.requests: list[Any] = []
        self.ids = np.zeros((capacity, longest), dtype=np.int32)
        self.sampled = np.zeros((capacity, longest), dtype=bool)
        self.logprobs = np.zeros((capacity, longest), dtype=np.float32)
        self.produced = np.zeros(capacity, dtype=np.int64)
        self.limit = np.zeros(capacity, dtype=np.int64)
        self.next_token = np.zeros(capacity, dtype=np.int64)
        self.was_sampled = np.zeros(capacity, dtype=bool)
        self.call_start = np.full(capacity, -1, dtype=np.int64)
        self._uniforms = np.zeros((capacity, longest))
        self._forced: list[list[int]] = [[] for _ in range(capacity)]
        self._has_forced = np.zeros(capacity, dtype=bool)
        self._default_stop = default_stop
        self._stop_sets: dict[frozenset[int], int] = {}
        self._stop_table = np.zeros((0, vocab_size), dtype=bool)
        self._stop = np.zeros(capacity, dtype=np.int64)
        self._rows = np.arange(capacity)

    @property
    def count(self) -> int:
        """Rows in work."""
        return len(self.requests)

    def add(
        self, request: object, last_token: int, limit: int, stop: frozenset[int] | None, uniforms: np.ndarray | None
    ) -> int:
        """Take a request into work; returns its row.

        Args:
            request: kept in `requests`.
            last_token: of the prompt.
            limit: tokens to generate at most.
            stop: tokens that end it; None takes the default.
            uniforms: (limit,) random numbers, None where it is greedy.
        """
        row = self.count
        self.requests.append(request)
        self.produced[row], self.limit[row], self.next_token[row] = 0, limit, last_token
        self.was_sampled[row], self.call_start[row], self._has_forced[row] = False, -1, False
        self._forced[row] = []
        self._stop[row] = self._stop_set(self._default_stop if stop is None else stop)
        self._uniforms[row, :limit] = 0.0 if uniforms is None else uniforms
        return row

    def _stop_set(self, stop: frozenset[int]) -> int:
        if stop not in self._stop_sets:
            row = np.zeros((1, self._stop_table.shape[1]), dtype=bool)
            row[0, list(stop)] = True
            self._stop_sets[stop] = len(self._stop_sets)
            self._stop_table = np.concatenate((self._stop_table, row))
        return self._stop_sets[stop]

    def next_uniform(self) -> np.ndarray:
        """(count,) the random number each row uses for its next token."""
        rows = self._rows[: self.count]
        return self._uniforms[rows, self.produced[rows]]

    def force(self, row: int, tokens: Sequence[int]) -> None:
        """Let these tokens come next in a row, whatever the model says."""
        self._forced[row] = list(tokens)[::-1]
        self._has_forced[row] = bool(tokens)

    def append(self, tokens: np.ndarray, logprobs: np.ndarray | None) -> np.ndarray:
        """Add one token to every row: the given one, or the row's next forced one.

        Args:
            tokens: (count,) sampled tokens.
            logprobs: (count,) of them; None where nobody asked.

        Returns:
            (count,) whether the model chose a stop token.
        """
        n = self.count
        rows, places = self._rows[:n], self.produced[:n]
        forced = self._has_forced[:n].copy()
        if forced.any():
            tokens = tokens.copy()
            for row in np.flatnonzero(forced):
                tokens[row] = self._forced[row].pop()
                self._has_forced[row] = bool(self._forced[row])
        self.ids[rows, places], self.sampled[rows, places] = tokens, ~forced
        if logprobs is not None:
            self.logprobs[rows, places] = np.where(forced, 0.0, logprobs)
        self.next_token[:n], self.was_sampled[:n] = tokens, ~forced
        self.produced[:n] += 1
        return self._stop_table[self._stop[:n], tokens] & ~forced

    def remove(self, row: int) -> None:
        """End a row; the last live row takes its place."""
        last = self.count - 1
        if row != last:
            self.requests[row] = self.requests[last]
            for column in (
                self.ids,
                self.sampled,
                self.logprobs,
                self.produced,
                self.limit,
                self.next_token,
                self.was_sampled,
                self.call_start,
                self._uniforms,
                self._has_forced,
                self._stop,
            ):
                column[row] = column[last]
            self._forced[row] = self._forced[last]
        self.requests.pop()
        self._forced[last] = []
