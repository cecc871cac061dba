"""What goes into generation and what comes out of it."""

from dataclasses import dataclass
from typing import Literal

from nanochat.infer.sampling import SamplingParams

Finish = Literal["stop", "length", "cancelled"]


@dataclass
class Completion:
    """What was generated for one request.

    Attributes:
        ids: generated tokens, the stop token included.
        sampled: per token: True where the model chose it, False where it is forced tool output.
        logprobs: per token: log-probability under the model at temperature 1, 0 where forced; empty unless asked for.
        finish: `stop` at a stop token, `length` at the length limit or the end of the context, `cancelled`.
    """

    ids: list[int]
    sampled: list[bool]
    logprobs: list[float]
    finish: Finish


@dataclass(frozen=True)
class Token:
    """One generated token of the request with this index; `finish` is set on its last one."""

    request: int
    id: int
    sampled: bool
    logprob: float
    """0 unless asked for."""
    finish: Finish | None
    top: tuple[tuple[int, float], ...] = ()
    """The most likely tokens in its place with their log-probabilities, best first, as many as were asked for."""


@dataclass(frozen=True)
class Request:
    """What is to be generated, in the queue and in work.

    Attributes:
        index: number of the request; its completion has the same.
        prompt: token ids.
        params: how to sample.
        limit: tokens to generate at most: what was asked for, or what the context leaves.
        group: number of the prefix it shares; -1 for none.
        shared: length of that prefix.
    """

    index: int
    prompt: tuple[int, ...]
    params: SamplingParams
    limit: int
    group: int = -1
    shared: int = 0
