"""The pieces of requests: strict types, bounds, and values that are accepted because they ask for nothing.

Each has its JSON schema beside it, so that the served description says exactly what is accepted.
"""

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

MOST_CHOICES = 16
"""Answers to one prompt in one request."""
_STOPS, _STOP_LENGTH = 4, 64

# What both Python and JavaScript hold for blank, so that the pattern means the same to every client.
_VISIBLE = r"[^\s\x1c-\x1f\x85\ufeff]"
_visible = re.compile(_VISIBLE)


class Body(BaseModel):
    """A JSON object whose names and types are all known."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


def wrong(message: str) -> PydanticCustomError:
    """A value that is not accepted, and why."""
    return PydanticCustomError("wrong_value", "{why}", {"why": message})


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def whole(least: int, most: int | None = None, description: str | None = None) -> Any:
    """The type of a whole number within bounds; in JSON 1.0 is one, too. Null where nothing is said."""
    number = Annotated[int, Field(ge=least, le=most, description=description), BeforeValidator(_whole)]
    return number | None


def neutral(*values: Any) -> Any:
    """The type of a parameter that this server does not have: null, or another value that asks for nothing."""

    def check(value: Any) -> None:
        # In Python, but not in JSON, False is 0.
        if value is not None and not any(value == other and isinstance(value, bool) is False for other in values):
            raise PydanticCustomError("unsupported", "not supported by this server")

    return Annotated[Any, PlainValidator(check), WithJsonSchema({"enum": [None, *values]})]


def _stop(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    strings = [value] if isinstance(value, str) else value
    if not isinstance(strings, list) or len(strings) > _STOPS:
        raise wrong(f"expected a string or a list of up to {_STOPS} strings")
    if not all(isinstance(text, str) and 1 <= len(text) <= _STOP_LENGTH for text in strings):
        raise wrong(f"expected strings of 1 to {_STOP_LENGTH} characters")
    return tuple(strings)


_STOP_SCHEMA = {"type": "string", "minLength": 1, "maxLength": _STOP_LENGTH}
Stop = Annotated[
    Any,
    PlainValidator(_stop),
    WithJsonSchema(
        {"anyOf": [_STOP_SCHEMA, {"type": "array", "items": _STOP_SCHEMA, "maxItems": _STOPS}, {"type": "null"}]}
    ),
]
"""Strings that end an answer, as a tuple."""


def _content(visible: bool, nullable: bool = False) -> Any:
    """The type of a message's content, as a string.

    Args:
        visible: whether there must be more than blanks.
        nullable: whether it may be null, which is nothing.
    """

    def text_of(value: Any) -> str:
        if not isinstance(value, str):
            raise wrong("expected text")
        if visible and not _visible.search(value):
            raise wrong("expected text, found nothing but blanks")
        return value

    def part(value: Any) -> str:
        if not isinstance(value, dict) or set(value) != {"type", "text"} or value["type"] != "text":
            kind = value.get("type") if isinstance(value, dict) else None
            if kind != "text" and isinstance(kind, str):
                raise wrong(f"a part of type {kind[:40]!r} is not supported; expected {{'type': 'text', 'text': …}}")
            raise wrong("expected parts {'type': 'text', 'text': …}")
        return text_of(value["text"])

    def check(value: Any) -> str:
        if nullable and value is None:
            return ""
        if isinstance(value, list):
            if visible and not value:
                raise wrong("expected at least one part")
            return "".join(map(part, value))
        return text_of(value)

    text = {"type": "string", "pattern": _VISIBLE} if visible else {"type": "string"}
    parts = {
        "type": "array",
        "minItems": int(visible),
        "items": {
            "type": "object",
            "properties": {"type": {"const": "text"}, "text": text},
            "required": ["type", "text"],
            "additionalProperties": False,
        },
    }
    choices = [text, parts, *([{"type": "null"}] if nullable else [])]
    return Annotated[Any, PlainValidator(check), WithJsonSchema({"anyOf": choices})]


VisibleContent = _content(visible=True)
Content = _content(visible=False)
OptionalContent = _content(visible=False, nullable=True)


class StreamOptions(Body):
    """How an answer is streamed."""

    include_usage: bool | None = None
    """A last chunk tells how many tokens were used."""
    include_obfuscation: bool | None = None
    """Accepted and of no effect: chunks are not padded."""


class Asked(Body):
    """What both kinds of request have in common."""

    model: str = Field(min_length=1, description="Name of a model as /v1/models lists it, or a stage such as sft.")
    n: whole(1, MOST_CHOICES) = None
    seed: whole(-(2**63), 2**63 - 1) = None
    stop: Stop = ()
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: whole(0, description="0: of all tokens. Not in the OpenAI API.") = None
    min_p: Annotated[float, Field(ge=0, le=1, description="Not in the OpenAI API.")] | None = None
    # Says who asks, or how it is billed: without meaning here.
    user: str | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    # Would change the answer, and is not there.
    frequency_penalty: neutral(0) = None
    presence_penalty: neutral(0) = None
    logit_bias: neutral({}) = None

    @property
    def choices(self) -> int:
        """Answers to each prompt."""
        return self.n or 1

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with the number of tokens."""
        return bool(self.stream_options and self.stream_options.include_usage)
