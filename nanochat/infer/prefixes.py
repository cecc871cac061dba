"""Which prompts begin alike, so that what they share is read once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Shared:
    """Prompts that begin with the same tokens.

    Attributes:
        members: their places in the list.
        length: tokens to be read once; 0 where there is only one member.
    """

    members: tuple[int, ...]
    length: int


def shared_prefixes(prompts: Sequence[Sequence[int]], chunk: int) -> list[Shared]:
    """Group prompts so that much is shared.

    The last token of a prompt is never shared: reading it gives the first logits. Different prompts share multiples of
    `chunk`, the grain in which prompts are read; equal ones (samples of one prompt) all but the last token.

    Args:
        prompts: at least one token each.
        chunk: tokens read at a time.

    Returns:
        Groups in which each prompt occurs once.
    """
    arrays = [np.asarray(prompt) for prompt in prompts]
    order = sorted(range(len(prompts)), key=lambda place: tuple(prompts[place]))
    groups: list[Shared] = []
    members: list[int] = []
    length = 0

    def usable(common: int, shortest: int, equal: bool) -> int:
        return shortest - 1 if equal else min(common, shortest - 1) // chunk * chunk

    def close() -> None:
        if members:
            groups.append(Shared(tuple(members), length if len(members) > 1 else 0))

    common = 0
    for place in order:
        if members:
            # Sorted, the prefix of a whole group is that of its first and its last one.
            first, new = arrays[members[0]], arrays[place]
            shortest = min(len(first), len(new))
            apart = np.flatnonzero(first[:shortest] != new[:shortest])
            common = int(apart[0]) if len(apart) else shortest
            more = usable(common, shortest, common == len(first) == len(new))
            # Tokens that need not be read: another member is worth a shorter prefix, or it is not.
            if more and more * len(members) >= length * (len(members) - 1):
                members.append(place)
                length = more
                continue
            close()
        members, length = [place], 0
    close()
    return groups
