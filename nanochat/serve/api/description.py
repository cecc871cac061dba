"""The served OpenAPI description: every path with all that it takes and all that it answers."""

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from nanochat.serve.api.requests import ChatRequest, CompletionRequest
from nanochat.serve.api.shapes import (
    ChatChunk,
    ChatCompletion,
    Completion,
    CompletionChunk,
    ErrorBody,
    Health,
    ModelList,
    ModelObject,
)

_ANSWERS = (ChatCompletion, ChatChunk, Completion, CompletionChunk, ModelList, ModelObject, Health, ErrorBody)
_REF = "#/components/schemas/{model}"
_ERRORS = {
    400: "A parameter is wrong or not supported, or the prompt is too long.",
    401: "A key is needed.",
    403: "Asked under the name of another host, or by a page of one that is not allowed.",
    404: "There is no such model.",
    408: "The body did not arrive in time.",
    413: "The body is too large.",
    429: "Too much is asked for at once; try again.",
    500: "The server had an error.",
    503: "The server is ending.",
}
_HEADERS: dict[int, dict[str, str]] = {
    401: {"WWW-Authenticate": "string"},
    429: {"Retry-After": "integer"},
}
_READING, _ASKING = (401, 403, 500), (400, 401, 403, 404, 408, 413, 429, 500, 503)
_EVENTS = (
    "With `stream`: server-sent events, described one by one. The last is [DONE]; "
    "after an error in between nothing more comes."
)


def description(*, key_for_api: bool, key_for_all: bool) -> dict[str, Any]:
    """The OpenAPI document.

    Args:
        key_for_api: whether what is below /v1 needs a key.
        key_for_all: whether everything does.
    """
    paths: dict[str, dict[str, Any]] = {
        "/v1/models": {"get": _get("list_models", "The models there are.", ModelList)},
        "/v1/models/{id}": {
            "get": _get("retrieve_model", "One of them; its id holds a slash.", ModelObject, 404)
            | {"parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}]}
        },
        "/v1/chat/completions": {
            "post": _post("chat", "Answer a conversation.", ChatRequest, ChatCompletion, ChatChunk)
        },
        "/v1/completions": {
            "post": _post("complete", "Continue texts.", CompletionRequest, Completion, CompletionChunk)
        },
        "/health": {"get": _get("health", "Whether the server lives, and what it is doing.", Health)},
        "/metrics": {"get": _get("metrics", "Figures for Prometheus.", None)},
        "/openapi.json": {"get": _get("openapi", "This description.", None)},
    }
    paths["/metrics"]["get"]["responses"]["200"]["content"] = {"text/plain": {"schema": {"type": "string"}}}
    paths["/openapi.json"]["get"]["responses"]["200"]["content"] = {"application/json": {"schema": {"type": "object"}}}
    for path, operations in paths.items():
        if key_for_all or (key_for_api and path.startswith("/v1/")):
            for operation in operations.values():
                operation["security"] = [{"key": []}]
    requests = [(kind, "validation") for kind in (ChatRequest, CompletionRequest)]
    _, schemas = models_json_schema([*requests, *((kind, "serialization") for kind in _ANSWERS)], ref_template=_REF)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "nanochat",
            "version": "1",
            "description": "The OpenAI API, as far as the models of this server can do what it asks for.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _reference(kind: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REF.format(model=kind.__name__)}


def _responses(answer: type[BaseModel] | None, statuses: tuple[int, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {"200": {"description": "The answer."}}
    if answer is not None:
        found["200"]["content"] = {"application/json": {"schema": _reference(answer)}}
    for status in statuses:
        told: dict[str, Any] = {
            "description": _ERRORS[status],
            "content": {"application/json": {"schema": _reference(ErrorBody)}},
        }
        if status in _HEADERS:
            told["headers"] = {
                name: {"schema": {"type": kind}, "required": True} for name, kind in _HEADERS[status].items()
            }
        found[str(status)] = told
    return found


def _get(name: str, summary: str, answer: type[BaseModel] | None, *more: int) -> dict[str, Any]:
    return {"operationId": name, "summary": summary, "responses": _responses(answer, (*_READING, *more))}


def _post(
    name: str, summary: str, asked: type[BaseModel], answer: type[BaseModel], chunk: type[BaseModel]
) -> dict[str, Any]:
    responses = _responses(answer, _ASKING)
    told = {
        "type": "string",
        "contentMediaType": "application/json",
        "contentSchema": {"anyOf": [_reference(chunk), _reference(ErrorBody)]},
    }
    responses["200"]["content"]["text/event-stream"] = {
        "schema": {
            "type": "object",
            "description": _EVENTS,
            "properties": {"data": {"anyOf": [{"const": "[DONE]"}, told]}},
            "required": ["data"],
        }
    }
    return {
        "operationId": name,
        "summary": summary,
        "requestBody": {"required": True, "content": {"application/json": {"schema": _reference(asked)}}},
        "responses": responses,
    }
