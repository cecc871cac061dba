"""What the server answers besides the chat window."""

import asyncio
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from nanochat.serve.api.chat import ChatCompletions
from nanochat.serve.api.completions import Completions
from nanochat.serve.api.description import description
from nanochat.serve.api.errors import ApiError, as_api_error, unknown_path
from nanochat.serve.errors import UnknownModelError
from nanochat.serve.registry import Checkpoint
from nanochat.serve.serving import Serving
from nanochat.serve.telemetry import CONTENT_TYPE, Telemetry


def routes(serving: Serving, telemetry: Telemetry) -> list[BaseRoute]:
    """The routes of the API, and of everything below /v1 that is none.

    Args:
        serving: who answers.
        telemetry: what /metrics tells.
    """
    about = _About(serving, telemetry)
    known: tuple[tuple[str, str, Callable[[Request], Awaitable[Response]]], ...] = (
        ("GET", "/v1/models", about.models),
        ("GET", "/v1/models/{id:path}", about.model),
        ("POST", "/v1/chat/completions", ChatCompletions(serving).post),
        ("POST", "/v1/completions", Completions(serving).post),
        ("GET", "/health", about.health),
        ("GET", "/metrics", about.metrics),
        ("GET", "/openapi.json", about.openapi),
    )
    found: list[BaseRoute] = []
    for method, path, endpoint in known:
        found.append(_only(method, path, endpoint))
        # A window that is mounted at / would otherwise be asked.
        found.append(Route(path, _WrongMethod(method)))
    return [*found, Route("/v1/{rest:path}", _Nowhere()), Route("/v1", _Nowhere())]


def _only(method: str, path: str, endpoint: Callable[[Request], Awaitable[Response]]) -> Route:
    route = Route(path, endpoint, methods=[method])
    route.methods = {method}  # without the HEAD that comes with GET
    return route


class _WrongMethod:
    """Answers what is asked in another way than there is."""

    def __init__(self, allowed: str) -> None:
        self._allowed = allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = f"{scope['method'][:20]} is not possible here; expected {self._allowed}"
        error = ApiError(405, message, code="method_not_allowed", headers={"Allow": self._allowed})
        await error.response()(scope, receive, send)


class _Nowhere:
    """Answers for paths where nothing is."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await unknown_path(scope["method"][:20], scope["path"][:200]).response()(scope, receive, send)


class _About:
    """Says what there is and how it goes."""

    def __init__(self, serving: Serving, telemetry: Telemetry) -> None:
        self._serving = serving
        self._telemetry = telemetry
        settings = serving.settings
        self._openapi = description(
            key_for_api=settings.api_key is not None or settings.password is not None,
            key_for_all=settings.password is not None,
        )

    async def models(self, request: Request) -> Response:
        """GET /v1/models."""
        checkpoints = await asyncio.to_thread(lambda: self._serving.registry.checkpoints)
        return JSONResponse({"object": "list", "data": [_model(checkpoint) for checkpoint in checkpoints]})

    async def model(self, request: Request) -> Response:
        """GET /v1/models/{id}.

        Raises:
            ApiError: 404 if there is none of this name.
        """
        try:
            name = request.path_params["id"]
            return JSONResponse(_model(await asyncio.to_thread(self._serving.registry.resolve, name)))
        except UnknownModelError as error:
            raise as_api_error(error) from None

    async def health(self, request: Request) -> Response:
        """GET /health."""
        names = await asyncio.to_thread(lambda: self._serving.registry.names)
        scheduler = self._serving.scheduler
        return JSONResponse(
            {"status": "ok", "models": list(names), "running": scheduler.running, "waiting": scheduler.waiting}
        )

    async def metrics(self, request: Request) -> Response:
        """GET /metrics."""
        content = await asyncio.to_thread(self._telemetry.exposition, self._serving.scheduler)
        return Response(content, headers={"Content-Type": CONTENT_TYPE})

    async def openapi(self, request: Request) -> Response:
        """GET /openapi.json."""
        return JSONResponse(self._openapi)


def _model(checkpoint: Checkpoint) -> dict[str, object]:
    return {
        "id": checkpoint.name,
        "object": "model",
        "created": checkpoint.created,
        "owned_by": checkpoint.run,
    }
