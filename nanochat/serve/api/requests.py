"""The two requests, and how the body of one is read."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, PlainValidator, ValidationError, WithJsonSchema
from pydantic_core import ErrorDetails, from_json
from starlette.requests import Request

from nanochat.serve.api.errors import ApiError
from nanochat.serve.api.fields import (
    MOST_CHOICES,
    Asked,
    Body,
    Content,
    OptionalContent,
    VisibleContent,
    neutral,
    whole,
    wrong,
)

MOST_LOGPROBS = 20
MOST_PROMPTS = 256
"""Prompts of one completion request."""
_LARGE = 65536
"""Bytes of a body that takes so long to be read that others should go on meanwhile."""


class SystemMessage(Body):
    """Instructions; only at the beginning of a conversation."""

    role: Literal["system", "developer"]
    content: Content
    name: str | None = None


class UserMessage(Body):
    """What the user says."""

    role: Literal["user"]
    content: VisibleContent
    name: str | None = None


class AssistantMessage(Body):
    """What the model said before; `<<12+30=42>>` in it is a tool call."""

    role: Literal["assistant"]
    content: OptionalContent = ""
    name: str | None = None
    refusal: str | None = None
    annotations: list[Any] | None = None
    audio: neutral() = None
    function_call: neutral() = None
    tool_calls: neutral([]) = None


Message = Annotated[SystemMessage | UserMessage | AssistantMessage, Field(discriminator="role")]


class ChatRequest(Asked):
    """A conversation to be answered; its last message is the user's."""

    messages: list[Message] = Field(min_length=1)
    max_tokens: whole(1) = None
    max_completion_tokens: whole(1) = None
    logprobs: bool | None = None
    top_logprobs: whole(0, MOST_LOGPROBS) = None
    parallel_tool_calls: bool | None = None
    prompt_cache_options: dict[str, Any] | None = None
    prompt_cache_retention: str | None = None
    audio: neutral() = None
    function_call: neutral("none", "auto") = None
    functions: neutral([]) = None
    modalities: neutral([], ["text"]) = None
    moderation: neutral() = None
    prediction: neutral() = None
    reasoning_effort: neutral("none") = None
    response_format: neutral({"type": "text"}) = None
    tool_choice: neutral("none", "auto") = None
    tools: neutral([]) = None
    verbosity: neutral("medium") = None
    web_search_options: neutral() = None

    @property
    def longest(self) -> int | None:
        """Length limit in tokens; None for the rest of the context."""
        given = [limit for limit in (self.max_tokens, self.max_completion_tokens) if limit is not None]
        return min(given, default=None)


Prompt = str | list[int]


def _prompts(value: Any) -> list[Prompt]:
    expected = "expected a string, a list of strings, a list of token ids, or a list of such lists"

    def ids(one: Any) -> list[int]:
        if not isinstance(one, list) or not one:
            raise wrong(expected)
        numbers = [int(n) if type(n) is float and n.is_integer() else n for n in one]
        if not all(type(n) is int and n >= 0 for n in numbers):
            raise wrong(expected)
        return numbers

    if value is None:
        return [""]
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list) or not value:
        raise wrong(expected)
    if not isinstance(value[0], str | list):
        return [ids(value)]
    if len(value) > MOST_PROMPTS:
        raise wrong(f"{len(value)} prompts; expected at most {MOST_PROMPTS}")
    if isinstance(value[0], list):
        return [ids(one) for one in value]
    if not all(isinstance(text, str) for text in value):
        raise wrong(expected)
    return list(value)


_IDS_SCHEMA = {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0}}
_MANY = {"type": "array", "minItems": 1, "maxItems": MOST_PROMPTS}
Prompts = Annotated[
    Any,
    PlainValidator(_prompts),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                _MANY | {"items": {"type": "string"}},
                _IDS_SCHEMA,
                _MANY | {"items": _IDS_SCHEMA},
                {"type": "null"},
            ]
        }
    ),
]


class CompletionRequest(Asked):
    """Texts or token ids to be continued."""

    prompt: Prompts = [""]  # noqa: RUF012  # pydantic copies it
    max_tokens: whole(0) = None
    best_of: whole(1, MOST_CHOICES) = None
    echo: bool | None = None
    logprobs: whole(0, MOST_LOGPROBS) = None
    suffix: neutral("") = None


R = TypeVar("R", bound=Asked)


async def asked_for(kind: type[R], request: Request) -> R:
    """What an HTTP request asks for.

    Raises:
        ApiError: as `read` does.
    """
    content_type, body = request.headers.get("content-type", ""), await request.body()
    if len(body) < _LARGE:
        return read(kind, content_type, body)
    return await asyncio.to_thread(read, kind, content_type, body)


def read(kind: type[R], content_type: str, body: bytes) -> R:
    """The request that a body holds.

    Raises:
        ApiError: 400 that names the first parameter that is wrong.
    """
    media = content_type.partition(";")[0].strip().lower()
    if media != "application/json":
        raise ApiError(400, f"Content-Type is {media[:80]!r}, expected application/json", code="invalid_content_type")
    try:
        data = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise ApiError(400, f"The body is no JSON: {error}", code="invalid_json") from None
    if not isinstance(data, dict):
        raise ApiError(400, "The body is no JSON object; expected {…}", code="invalid_json")
    try:
        request = kind.model_validate(data)
    except ValidationError as error:
        raise _told(error.errors(include_url=False)[0], data) from None
    _check_together(request)
    return request


def _check_together(request: Asked) -> None:
    """What no single parameter shows."""
    if isinstance(request, ChatRequest) and request.top_logprobs and not request.logprobs:
        raise ApiError(400, "top_logprobs is given, but logprobs is not true", param="top_logprobs")
    if isinstance(request, CompletionRequest):
        if request.best_of not in (None, request.choices):
            message = f"best_of = {request.best_of} is not n = {request.choices}: choosing the best is not supported"
            raise ApiError(400, message, param="best_of", code="unsupported_parameter")
        if len(request.prompt) * request.choices > MOST_PROMPTS:
            message = f"{len(request.prompt)} prompts, {request.choices} answers each; expected {MOST_PROMPTS} at most"
            raise ApiError(400, message, param="n")


def _told(error: ErrorDetails, data: Mapping[str, Any]) -> ApiError:
    param = _param(error["loc"], data)
    if error["type"] == "extra_forbidden":
        return ApiError(400, f"Unrecognized argument: {param}", param=param, code="unknown_parameter")
    if error["type"] in ("union_tag_invalid", "union_tag_not_found"):
        message = f"{param}.role: expected system, developer, user or assistant"
        return ApiError(400, message, param=f"{param}.role", code="invalid_value")
    if error["type"] == "missing":
        return ApiError(400, f"{param} is missing", param=param, code="missing_required_parameter")
    if error["type"] == "unsupported":
        message = f"{param} is not supported by this server; leave it out"
        return ApiError(400, message, param=param, code="unsupported_parameter")
    return ApiError(400, f"{param}: {error['msg']}", param=param, code="invalid_value")


def _param(place: Sequence[str | int], data: Any) -> str:
    """`messages[0].content` of the place of an error; branches of unions are no part of the request."""
    name = ""
    for number, key in enumerate(place):
        if isinstance(data, dict) and isinstance(key, str) and (key in data or number == len(place) - 1):
            name += f".{key}" if name else key
            data = data.get(key)
        elif isinstance(data, list) and isinstance(key, int) and key < len(data):
            name += f"[{key}]"
            data = data[key]
    return name[:200]
