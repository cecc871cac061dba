"""Figures of a server in the format of Prometheus: who asked for what, how long it took, what goes on now."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nanochat.serve.scheduler import Scheduler

CONTENT_TYPE = CONTENT_TYPE_LATEST
_ENDPOINTS = ("/v1/chat/completions", "/v1/completions", "/v1/models", "/health", "/metrics", "/openapi.json", "/login")
_NOBODY = 499
"""Status of a request whose client was gone before it could be answered."""
_FIRST = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_WHOLE = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)


class Telemetry:
    """Counts what happens; told by the scheduler (as its observer) and by `Counted`.

    Labels are paths from a fixed list, statuses and the names of checkpoints, never what a client wrote.
    """

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        ProcessCollector(registry=registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"nanochat_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"nanochat_{name}_seconds", text, ["model"], buckets=buckets, registry=registry)

        self._requests = counter("requests", "HTTP requests answered.", "endpoint", "status")
        self._prompt = counter("prompt_tokens", "Tokens of prompts.", "model")
        self._generated = counter("generated_tokens", "Tokens generated.", "model")
        self._finished = counter("finished", "Answers that ended, by why.", "model", "finish")
        self._cancelled = counter("cancelled", "Answers that were given up before their end.", "model")
        self._rejected = counter("rejected", "Requests turned away because too much was asked for.", "model")
        self._waited = histogram("queue", "From the request to a free row.", _FIRST)
        self._first = histogram("time_to_first_token", "From the request to the first token.", _FIRST)
        self._duration = histogram("duration", "From the request to the end of an answer.", _WHOLE)
        self._running = Gauge("nanochat_running", "Answers being generated.", registry=registry)
        self._waiting = Gauge("nanochat_waiting", "Answers that wait for a free row.", registry=registry)

    def submitted(self, model: str, prompt_tokens: int) -> None:
        """A choice was queued."""
        self._prompt.labels(model).inc(prompt_tokens)

    def rejected(self, model: str) -> None:
        """A request was turned away."""
        self._rejected.labels(model).inc()

    def started(self, model: str, waited_seconds: float) -> None:
        """A choice got its row."""
        self._waited.labels(model).observe(waited_seconds)

    def first_token(self, model: str, seconds: float) -> None:
        """A choice got its first token."""
        self._first.labels(model).observe(seconds)

    def finished(self, model: str, finish: str, tokens: int, seconds: float) -> None:
        """A choice ended."""
        self._generated.labels(model).inc(tokens)
        self._finished.labels(model, finish).inc()
        self._duration.labels(model).observe(seconds)
        if finish == "cancelled":
            self._cancelled.labels(model).inc()

    def answered(self, path: str, status: int) -> None:
        """An HTTP request was answered."""
        path = "/v1/models" if path.startswith("/v1/models/") else path
        self._requests.labels(path if path in _ENDPOINTS else "other", str(status)).inc()

    def exposition(self, scheduler: Scheduler) -> bytes:
        """All figures as text.

        Args:
            scheduler: what goes on now.
        """
        self._running.set(scheduler.running)
        self._waiting.set(scheduler.waiting)
        return generate_latest(self._registry)


class Counted:
    """ASGI middleware that tells of every answered request."""

    def __init__(self, app: ASGIApp, telemetry: Telemetry) -> None:
        self._app, self._telemetry = app, telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on untouched."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = _NOBODY

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except Exception:
            status = 500
            raise
        finally:
            self._telemetry.answered(scope["path"], status)
