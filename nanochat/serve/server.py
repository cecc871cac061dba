"""The web server under the chat window: one socket, one FastAPI application, a clean end."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr
import uvicorn
from fastapi import FastAPI

from nanochat.config import ChatSettings
from nanochat.errors import ConfigError

log = logging.getLogger(__name__)

USER = "nanochat"
"""User name that goes with `chat.password`."""
_LOCAL = ("127.0.0.1", "localhost", "::1")


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
        try:
            listener.bind(address)
            listener.listen(128)
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {host} port {port}: {os.strerror(error.errno or 0)}. End what uses it, or choose "
                f"another: --config 'chat={{port: {port + 1 if port < 65535 else 0}}}' (chat.port, 0 takes a free one; "
                "chat.host for the address)"
            ) from None
        yield listener


def application(page: gr.Blocks, settings: ChatSettings, css: str = "") -> FastAPI:
    """The application with the page at `/`; an API can be added beside it."""
    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
    page.queue(max_size=64)
    return gr.mount_gradio_app(
        FastAPI(openapi_url=None),
        page,
        path="/",
        auth=(USER, settings.password) if settings.password is not None else None,
        theme=gr.themes.Default(**fonts),  # the machine's own fonts: nothing to download
        css=css,
        footer_links=[],
        run_history=False,
        show_error=False,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
    )


def serve(page: gr.Blocks, listener: socket.socket, settings: ChatSettings, css: str = "") -> None:
    """Serve a page on a bound socket until Ctrl-C or a termination signal; says where it listens."""
    server = uvicorn.Server(
        uvicorn.Config(
            application(page, settings, css),
            log_level="warning",
            # A browser keeps its connections open; do not wait for them at the end.
            timeout_graceful_shutdown=1,
        )
    )
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    log.info(
        "chat window: http://%s:%s  (user %s)" if settings.password else "chat window: http://%s:%s",
        *((shown, port, USER) if settings.password else (shown, port)),
    )
    if host not in _LOCAL and settings.password is None:
        log.warning("chat.host = %s is reachable from outside and chat.password is not set", host)
    log.info("Ctrl-C ends it")
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:
        log.info("chat window closed")
