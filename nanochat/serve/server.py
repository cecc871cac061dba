"""The web server: one socket, one application with the API and, where it is wanted, the chat window, a clean end."""

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
from fastapi import FastAPI
from starlette.exceptions import HTTPException

from nanochat.config import ChatSettings
from nanochat.errors import ConfigError
from nanochat.serve.api.errors import ApiError, on_api_error, on_http_error, on_unforeseen
from nanochat.serve.api.routes import routes
from nanochat.serve.api.sse import GRACE_SECONDS
from nanochat.serve.gate import Gate, is_loopback
from nanochat.serve.serving import Serving
from nanochat.serve.telemetry import Counted, Telemetry

if TYPE_CHECKING:
    import gradio as gr

log = logging.getLogger(__name__)

_SWITCH_SECONDS = 0.0005
_LOOK_SECONDS = 0.02
_BACKLOG = 1024
"""Connections that wait to be accepted: as many may come at once as there are slots and places in the queue."""


@contextmanager
def listen(settings: ChatSettings) -> Iterator[socket.socket]:
    """Bind the configured host and port, before anything slow is done.

    Raises:
        ConfigError: naming the port or host that cannot be had, and its key.
    """
    host, port = settings.host, settings.port
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise ConfigError(f"chat.host = {host}: {error.strerror}; expected an address of this machine") from None
    with socket.socket(family, kind, protocol) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            # Connections inherit it: one whose client takes nothing for so long is dropped, with what it holds.
            longest = int((settings.request_seconds + GRACE_SECONDS) * 1000)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, min(longest, 2**31 - 1))
        try:
            listener.bind(address)
            listener.listen(_BACKLOG)
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {host} port {port}: {os.strerror(error.errno or 0)}. End what uses it, or choose "
                f"another: --config 'chat={{port: {port + 1 if port < 65535 else 0}}}' (chat.port, 0 takes a free one; "
                "chat.host for the address)"
            ) from None
        yield listener


def application(
    serving: Serving,
    page: "gr.Blocks | None" = None,
    css: str = "",
    head: str = "",
    *,
    telemetry: Telemetry | None = None,
) -> FastAPI:
    """The API, the window at `/` where there is one, and the gate in front of both.

    Args:
        serving: who answers; it is not closed here.
        page: the window.
        css: style of the window.
        head: what goes into the window's head.
        telemetry: the observer that `serving` was opened with; without it /metrics only knows of HTTP requests.
    """
    telemetry = telemetry or Telemetry()
    # FastAPI's own pages of documentation load scripts from elsewhere; the description is served by our routes.
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.router.routes.extend(routes(serving, telemetry))
    app.add_exception_handler(ApiError, on_api_error)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(Exception, on_unforeseen)
    app.add_middleware(Gate, settings=serving.settings)
    app.add_middleware(Counted, telemetry=telemetry)
    return app if page is None else _with_window(app, page, css, head)


def _with_window(app: FastAPI, page: "gr.Blocks", css: str, head: str) -> FastAPI:
    import gradio as gr

    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
    page.queue(max_size=64)
    # Gradio looks for work a thousand times a second, which takes 5 % of a core while nobody asks for anything.
    page._queue.sleep_when_free = _LOOK_SECONDS
    return gr.mount_gradio_app(
        app,
        page,
        path="/",
        auth=None,  # the gate asks
        theme=gr.themes.Default(**fonts),  # the machine's own fonts: nothing to download
        css=css,
        head=head,
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=1,  # nobody has anything to upload
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
    )


class Server(uvicorn.Server):
    """A server that ends the answers in work before it ends, and leaves signals to its caller.

    Args:
        config: of the server.
        serving: who answers; closed at the end.
    """

    def __init__(self, config: uvicorn.Config, serving: Serving) -> None:
        super().__init__(config)
        self._serving = serving

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take none."""
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End all answers, so that their readers are told, then all connections."""
        await asyncio.to_thread(self._serving.close)
        told = logging.getLogger("uvicorn.error")
        before = told.level
        told.setLevel(logging.CRITICAL)  # that open connections are cut is what is wanted, no error to be traced
        try:
            await super().shutdown(sockets)
        finally:
            told.setLevel(before)


def server_of(app: FastAPI, serving: Serving) -> Server:
    """A server that ends within two seconds of `should_exit`, whatever is going on.

    Args:
        app: what it serves.
        serving: who answers; closed at the end.
    """
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        # A browser keeps its connections open; do not wait for them at the end.
        timeout_graceful_shutdown=1,
        backlog=_BACKLOG,
    )
    return Server(config, serving)


def run(run_folder: Path, settings: ChatSettings, *, window: bool) -> None:
    """Serve the checkpoints below `run_folder` until Ctrl-C or a termination signal.

    Args:
        run_folder: a run folder, or a single checkpoint directory.
        settings: of the chat.
        window: whether the chat window is served beside the API.

    Raises:
        ArtifactError: if there is no checkpoint, or the one to begin with is damaged.
        ConfigError: if the host or port cannot be listened on.
    """
    # The thread that generates and the loop that serves share the interpreter: whoever wants it should not wait for
    # the usual 5 ms, in which a small model makes several tokens.
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_SECONDS)
    telemetry = Telemetry()
    try:
        with listen(settings) as listener:
            serving = Serving.open(run_folder, settings, telemetry)
            try:
                serving.registry.get("auto")  # a damaged checkpoint is told here, not to the first visitor
                server = server_of(build(serving, telemetry, window=window), serving)
                with _ended_by_signals(server):
                    _tell(settings, listener, window=window)
                    server.run(sockets=[listener])
                log.info("the server has ended")
            finally:
                serving.close()
    finally:
        sys.setswitchinterval(before)


def build(serving: Serving, telemetry: Telemetry, *, window: bool) -> FastAPI:
    """The application of a server: the API, and the window with its conversations where it is wanted."""
    if not window:
        return application(serving, telemetry=telemetry)
    from nanochat.serve import ui
    from nanochat.serve.conversations import Store

    page = ui.ChatWindow(serving, Store(Path(serving.settings.conversations))).build()
    return application(serving, page, ui.CSS, ui.HEAD, telemetry=telemetry)


@contextmanager
def _ended_by_signals(server: Server) -> Iterator[None]:
    """Ctrl-C and a termination signal end the server while inside, and nothing else: a second one does no harm."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(*_: object) -> None:
        server.should_exit = True

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tell(settings: ChatSettings, listener: socket.socket, *, window: bool) -> None:
    """Say where it listens and who may come in."""
    host, port = listener.getsockname()[:2]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    secret = settings.password is not None
    if window:
        log.info("chat window: %s%s", url, "  (asks for chat.password)" if secret else "")
    key = secret or settings.api_key is not None
    log.info("API: %s/v1  (%s)", url, "needs a key: Authorization: Bearer …" if key else "needs no key")
    if not is_loopback(str(host)) and not secret:
        log.warning("chat.host = %s is reachable from outside and chat.password is not set", settings.host)
    log.info("Ctrl-C ends it")
