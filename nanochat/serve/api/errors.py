"""Errors as clients of the OpenAI API expect them: a status and `{"error": {message, type, param, code}}`."""

import logging
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from nanochat.errors import DataError, NanochatError
from nanochat.serve.errors import BusyError, ContextFullError, EndingError, UnknownModelError

log = logging.getLogger(__name__)

RETRY_SECONDS = 1
"""What a client that was turned away should wait at least."""


class ApiError(Exception):
    """What a client is told instead of an answer.

    Args:
        status: of HTTP.
        message: for people.
        param: name of the request's parameter that is wrong.
        code: for programs.
        headers: that go with it.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        """The JSON object that is sent."""
        return {"error": {"message": str(self), "type": self.type, "param": self.param, "code": self.code}}

    @property
    def type(self) -> str:
        """The kind of error, as the OpenAI API names it."""
        if self.status >= 500:
            return "server_error"
        return "rate_limit_error" if self.status == 429 else "invalid_request_error"

    def response(self) -> JSONResponse:
        """The response that tells of it."""
        return JSONResponse(self.body, self.status, self.headers)


def as_api_error(error: Exception, param: str | None = None) -> ApiError:
    """What a client is told of an error; one that is not the client's is logged and told without details.

    Args:
        error: any.
        param: that holds the prompt.
    """
    if isinstance(error, ApiError):
        return error
    if isinstance(error, UnknownModelError):
        return ApiError(404, str(error), param="model", code="model_not_found")
    if isinstance(error, BusyError):
        return ApiError(429, str(error), code="server_busy", headers={"Retry-After": str(RETRY_SECONDS)})
    if isinstance(error, EndingError):
        return ending()
    if isinstance(error, ContextFullError):
        message = (
            f"This model's context is {error.context_size} tokens, but the prompt alone has {error.tokens}; "
            "expected one that leaves room for an answer. Shorten it"
        )
        return ApiError(400, message, param=param, code="context_length_exceeded")
    if isinstance(error, DataError):
        return ApiError(400, str(error), param=param, code="invalid_value")
    if isinstance(error, NanochatError):
        log.error("%s", error)
        return ApiError(500, "The model cannot be used; the server's log says why", code="model_unusable")
    log.error("a request could not be answered", exc_info=error)
    return unforeseen()


def ending() -> ApiError:
    """What a client is told of an answer that the end of the server cuts off."""
    return ApiError(503, "The server is ending; the answer is not complete", code="server_ending")


def unforeseen() -> ApiError:
    """What a client is told of an error that nobody thought of."""
    return ApiError(500, "The server had an error; its log says which", code="internal_error")


async def on_api_error(request: Request, error: Exception) -> JSONResponse:
    """Exception handler of the application: what is wrong with a request, in the API's shape."""
    return as_api_error(error).response()


async def on_unforeseen(request: Request, error: Exception) -> JSONResponse:
    """Exception handler for everything else; whoever runs the application logs it."""
    return unforeseen().response()


async def on_http_error(request: Request, error: Exception) -> JSONResponse:
    """Exception handler for what the framework itself refuses."""
    status = int(getattr(error, "status_code", 500))
    if status == 404:
        return unknown_path(request.method[:20], request.url.path[:200]).response()
    return ApiError(status, str(getattr(error, "detail", "")), headers=getattr(error, "headers", None)).response()


def unknown_path(method: str, path: str) -> ApiError:
    """There is nothing at this path."""
    return ApiError(404, f"Unknown request: {method} {path}; /openapi.json lists what there is", code="unknown_url")
