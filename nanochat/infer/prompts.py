"""Reading prompts into rows: what several of them share once, and many of them at a time."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import torch

from nanochat.infer.decoder import Decoder
from nanochat.infer.kv_cache import KVCache
from nanochat.infer.prefixes import shared_prefixes
from nanochat.infer.requests import Request

PREFILL_TOKENS = 16_384
"""Prompt tokens, padding included, in one forward pass."""


@dataclass
class _Prefix:
    """What requests share.

    Attributes:
        cache: one row that holds it, once it was read and while requests that share it are waiting.
        users: how many are waiting.
    """

    cache: KVCache | None
    users: int


class PromptReader:
    """Reads all but the last token of prompts; the last one is a row's first decoding step, which makes logits."""

    def __init__(self, decoder: Decoder, cache: KVCache) -> None:
        self._decoder, self._cache = decoder, cache
        self._prefixes: dict[int, _Prefix] = {}
        self._next_group = 0

    def arrange(self, requests: Sequence[Request]) -> list[Request]:
        """Find out what requests share, and put them into the order in which they are best taken, from the end."""
        arranged = []
        for shared in shared_prefixes([request.prompt for request in requests], self._decoder.chunk):
            members = [requests[place] for place in shared.members]
            if shared.length:
                group, self._next_group = self._next_group, self._next_group + 1
                self._prefixes[group] = _Prefix(None, len(members))
                members = [replace(member, group=group, shared=shared.length) for member in members]
            members.sort(key=lambda request: (len(request.prompt), request.prompt, -request.index))
            arranged.append(members)
        # Longest first: rows in work are of like length, and prompts that begin alike stand side by side.
        arranged.sort(key=lambda members: (len(members[-1].prompt), members[-1].prompt))
        return [request for members in arranged for request in members]

    def read(self, requests: Sequence[Request], place: Callable[[Request], int]) -> None:
        """Read the prompts of requests.

        Args:
            requests: taken from the queue.
            place: gives each request a row, the next free one.
        """
        first_of: dict[tuple[int, ...], Request] = {}
        for request in requests:
            first_of.setdefault(request.prompt, request)
        begun = {request.index: self._shared_with_earlier(request) for request in first_of.values()}
        # Those that begin alike far are read together, the longest first; then come copies of rows that were read.
        readers = sorted(first_of.values(), key=lambda request: (begun[request.index], -len(request.prompt)))
        copies = [request for request in requests if first_of[request.prompt] is not request]
        rows = {request.index: place(request) for request in (*readers, *copies)}
        for start, group in groupby(readers, key=lambda request: begun[request.index]):
            together = list(group)
            for request in together:
                self._begin(request, rows[request.index], start)
            most = max(1, PREFILL_TOKENS // self._decoder.chunk)
            for begin in range(0, len(together), most):
                part = together[begin : begin + most]
                self._read_rest(part, start, rows[part[0].index])
        taken = Counter(request.group for request in requests)
        for request in readers:
            self._keep(request, rows[request.index], taken[request.group])
        for request in copies:
            self._cache.take(self._cache, rows[first_of[request.prompt].index], [rows[request.index]])
        for request in requests:
            self.release(request)

    def release(self, request: Request) -> None:
        """Forget what a request shares when nobody waits for it any more."""
        if request.group >= 0:
            prefix = self._prefixes[request.group]
            prefix.users -= 1
            if prefix.users == 0:
                del self._prefixes[request.group]

    def _shared_with_earlier(self, request: Request) -> int:
        """Tokens that a request takes from what is shared; the first of equal prompts reads all by itself."""
        if request.group < 0:
            return 0
        all_but_last = request.shared == len(request.prompt) - 1
        return 0 if all_but_last and self._prefixes[request.group].cache is None else request.shared

    def _begin(self, request: Request, row: int, start: int) -> None:
        """Put the shared beginning into a row, reading it where this is the first one to ask."""
        self._cache.empty(row)
        if start == 0:
            return
        prefix = self._prefixes[request.group]
        if prefix.cache is None:
            prefix.cache = self._decoder.cache(1, start)
            self._decoder.read(torch.tensor([request.prompt[:start]]), np.array([start]), prefix.cache)
        self._cache.take(prefix.cache, 0, [row])

    def _read_rest(self, requests: Sequence[Request], start: int, first_row: int) -> None:
        """Read what is left of prompts that start alike, into consecutive rows."""
        counts = np.array([len(request.prompt) - 1 - start for request in requests])
        counts = counts[counts > 0]
        if not len(counts):
            return
        tokens = torch.zeros((len(counts), int(counts.max())), dtype=torch.int64)
        for row, (request, count) in enumerate(zip(requests, counts)):
            tokens[row, :count] = torch.tensor(request.prompt[start:-1])
        self._decoder.read(tokens, counts, self._cache, first_row)

    def _keep(self, request: Request, row: int, taken: int) -> None:
        """Keep what the first of equal prompts has read, where more of them are still waiting."""
        if request.group < 0:
            return
        prefix = self._prefixes[request.group]
        if prefix.cache is None and prefix.users > taken:
            prefix.cache = self._decoder.cache(1, request.shared)
            prefix.cache.take(self._cache, row, [0])
