"""How a request wants to be sampled."""

import secrets

from nanochat.infer.sampling import SamplingParams
from nanochat.serve.api.fields import Asked

_LEAST = 1e-9
"""Stands for a top_p of 0: the most likely token alone."""


def choices(asked: Asked, *, longest: int, logprobs: bool = False, top: int = 0) -> list[SamplingParams]:
    """The parameters of each answer to one prompt.

    What is not given means what it means in the OpenAI API, whatever the settings of this server's window are: the
    same request asks for the same everywhere.

    Args:
        asked: the request.
        longest: tokens at most.
        logprobs: whether log-probabilities are wanted.
        top: how many of the most likely tokens are wanted beside each.
    """
    first = secrets.randbits(63) if asked.seed is None else asked.seed
    top_p = 1.0 if asked.top_p is None else max(asked.top_p, _LEAST)
    return [
        SamplingParams(
            max_tokens=longest,
            temperature=1.0 if asked.temperature is None else asked.temperature,
            top_k=asked.top_k or None,
            top_p=None if top_p == 1 else top_p,
            min_p=asked.min_p or None,
            seed=(first + number) % 2**64,
            logprobs=logprobs,
            top_logprobs=top,
        )
        for number in range(asked.choices)
    ]
