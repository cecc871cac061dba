"""What the browser asks for: read from JSON that anybody may have written."""

import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nanochat.config import ChatSettings
from nanochat.infer.sampling import SamplingParams

_LARGEST_SEED = 2**53 - 1  # what a browser counts exactly


def clean(text: Any, longest: int | None = None) -> str:
    """Text that can be written as UTF-8: half a surrogate pair becomes U+FFFD, and what is no text becomes none."""
    if not isinstance(text, str):
        return ""
    return text[:longest].encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def number(value: Any, lowest: float, highest: float, otherwise: float | None) -> float | None:
    """A number within bounds, or `otherwise` where there is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return otherwise
    if isinstance(value, float) and not math.isfinite(value):  # an int may be too large to ask
        return otherwise
    return min(max(value, lowest), highest)


def params_from(knobs: Any, settings: ChatSettings) -> SamplingParams:
    """How to sample, from the settings panel.

    Args:
        knobs: `temperature`, `top_k` (0 is all), `top_p` (1 is all), `max_tokens`, `seed` (none: a new one). What is
            missing or no number is as in the configuration.
        settings: the configuration.
    """
    knobs = knobs if isinstance(knobs, Mapping) else {}
    temperature = number(knobs.get("temperature"), 0, 2, None)
    top_k = number(knobs.get("top_k"), 0, 2**31, settings.top_k)
    top_p = number(knobs.get("top_p"), 0, 1, settings.top_p)
    seed = number(knobs.get("seed"), 0, _LARGEST_SEED, None)
    return SamplingParams(
        max_tokens=int(number(knobs.get("max_tokens"), 1, 2**31, None) or settings.max_new_tokens),
        temperature=settings.temperature if temperature is None else float(temperature),
        top_k=int(top_k or 0) or None,  # 0.5 is none too
        top_p=top_p if top_p and top_p < 1 else None,
        seed=secrets.randbelow(1 << 31) if seed is None else int(seed),
    )


def defaults(settings: ChatSettings) -> dict[str, Any]:
    """What the settings panel shows before anybody touched it."""
    return {
        "temperature": settings.temperature,
        "top_k": settings.top_k or 0,
        "top_p": settings.top_p or 1,
        "max_tokens": settings.max_new_tokens,
        "seed": None,
        "system": settings.system,
    }


@dataclass(frozen=True)
class Asked:
    """One thing that was done in the window.

    Attributes:
        id: the conversation it is about; empty: a new one.
        text: a message, or a title.
        turn: number of the user message (from 0) it is about.
        column: the side it is about; None for all.
        models: the checkpoints picked, one or two.
        system: the system prompt.
        knobs: the settings panel.
        nonce: repeated in the answer, so that the page knows that its message has arrived.
    """

    id: str
    text: str
    turn: int
    column: int | None
    models: tuple[str, ...]
    system: str
    knobs: Any
    nonce: str

    @classmethod
    def read(cls, data: Any) -> "Asked":
        """From the JSON of an event; what is missing or of a wrong type is as if it were not there."""
        data = data if isinstance(data, Mapping) else {}
        models = data.get("models")
        column = number(data.get("column"), 0, 1, None)
        return cls(
            id=clean(data.get("id"), 32),
            text=clean(data.get("text")),
            turn=int(number(data.get("turn"), -1, 2**31, -1) or 0),
            column=None if column is None else int(column),
            models=tuple(clean(name, 300) for name in models[:2]) if isinstance(models, list) else (),
            system=clean(data.get("system")),
            knobs=data.get("knobs"),
            nonce=clean(data.get("nonce"), 64),
        )
