"""The gate in front of everything a server answers: whose request this is, and how much of it is read."""

import asyncio
import ipaddress
import re
import secrets
import time
from urllib.parse import parse_qsl

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import cookie_parser
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nanochat.config import ChatSettings
from nanochat.serve.api.errors import ApiError
from nanochat.serve.credentials import SESSION_COOKIE, SESSION_SECONDS, Credentials, Found, is_api
from nanochat.serve.login import login_page

BROWSER_COOKIE = "nanochat_browser"
"""Tells the browsers of an open server apart, so that each has its own conversations."""
_BROWSER_SECONDS = 365 * 24 * 3600
_BROWSER = re.compile(r"[A-Za-z0-9_-]{43}")
_OPEN_TO_PAGES = ("/health", "/metrics", "/openapi.json")
"""Beside /v1, what pages of other servers may read where they are allowed to."""
_LOGIN_BYTES = 4096
_DRAIN_SECONDS = 2.0
_DRAIN_TIMES = 4


class Gate:
    """ASGI middleware: host, origin, credentials, size and time of bodies. Answers pass through as they come.

    Args:
        app: what is behind it.
        settings: who may come in.
        body_seconds: in which the body of a request must have arrived.
    """

    def __init__(self, app: ASGIApp, settings: ChatSettings, body_seconds: float = 30.0) -> None:
        self._app = app
        self._settings = settings
        self._local = is_loopback(settings.host)
        self._body_seconds = body_seconds
        self._credentials = Credentials(settings)
        self._shared = CORSMiddleware(
            self._enter,
            allow_origins=list(settings.origins),
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=["Retry-After"],
            allow_private_network=True,  # a page of the internet that is allowed to ask a server at home
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        try:
            foreign = self._check_names(scope)
        except ApiError as error:
            await _refuse(error.response(), scope, receive, send)
            return
        await (self._shared if foreign else self._enter)(scope, receive, send)

    def _check_names(self, scope: Scope) -> bool:
        """Whether a page of another server asks, one that is allowed to.

        Raises:
            ApiError: 403, if it is not allowed to, or the request is for another host (DNS rebinding).
        """
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        if self._local and not is_loopback(_without_port(host)):
            raise ApiError(
                403,
                f"Host is {host[:100]!r}, but this server is for its own machine only; expected localhost or 127.0.0.1",
                code="wrong_host",
            )
        if origin is None or _same_place(origin, host):
            return False
        allowed = self._settings.origins
        if (is_api(scope["path"]) or scope["path"] in _OPEN_TO_PAGES) and (origin in allowed or "*" in allowed):
            return True
        raise ApiError(403, f"Pages of {origin[:100]!r} may not ask this server (chat.origins)", code="wrong_origin")

    async def _enter(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check credentials and read the body."""
        headers = Headers(scope=scope)
        cookies = cookie_parser(headers.get("cookie", ""))
        try:
            refused = await self._check_credentials(scope, receive, headers, cookies)
            if refused is None and scope["type"] == "http" and _has_body(headers):
                body = await self._body(headers, receive, self._settings.request_bytes)
                receive = _replayed(body, receive)
        except ApiError as error:
            refused = error.response()
            if error.status in (401, 429) and scope["type"] == "http" and _has_body(headers):
                await self._drain(receive, self._settings.request_bytes)
        except ConnectionResetError:  # gone in the middle of its body
            return
        if refused is not None:
            await _refuse(refused, scope, receive, send)
            return
        if _is_page(scope, headers) and not _BROWSER.fullmatch(cookies.get(BROWSER_COOKIE, "")):
            send = _with_browser_cookie(scope, send)
        await self._app(scope, receive, send)

    async def _check_credentials(
        self, scope: Scope, receive: Receive, headers: Headers, cookies: dict[str, str]
    ) -> Response | None:
        """What to answer instead of passing a request on; None if it may pass."""
        credentials = self._credentials
        path = scope["path"]
        if not credentials.needed(path):
            return None
        if scope["type"] == "http" and credentials.has_password and path == "/login" and scope["method"] == "POST":
            return await self._login(scope, receive, headers)
        found = credentials.shown(headers, cookies, _address(scope))
        if found is Found.RIGHT:
            return RedirectResponse("/", 303) if path == "/login" and scope["type"] == "http" else None
        if found is Found.WRONG:
            await credentials.delay(_address(scope))
        elif _is_page(scope, headers) and credentials.has_password:
            return login_page()
        raise ApiError(
            401,
            "Incorrect API key" if found is Found.WRONG else "This server needs a key: Authorization: Bearer …",
            code="invalid_api_key",
            headers={"WWW-Authenticate": 'Bearer realm="nanochat"'},
        )

    async def _login(self, scope: Scope, receive: Receive, headers: Headers) -> Response:
        body = await self._body(headers, receive, _LOGIN_BYTES)
        fields = dict(parse_qsl(body.decode("utf-8", "replace")))
        token = self._credentials.login(fields.get("password", "").encode(), _address(scope))
        if token is None:
            await self._credentials.delay(_address(scope))
            return login_page(wrong=True)
        response = RedirectResponse("/", 303)
        secure = scope.get("scheme") == "https"
        response.set_cookie(
            SESSION_COOKIE, token, max_age=SESSION_SECONDS, httponly=True, samesite="strict", secure=secure
        )
        return response

    async def _body(self, headers: Headers, receive: Receive, limit: int) -> bytes:
        """The body of a request.

        Raises:
            ApiError: 413 if it is too large, 408 if it takes too long.
            ConnectionResetError: if the client goes.
        """
        declared = headers.get("content-length", "0")
        size = int(declared) if declared.isdecimal() else 0
        content = bytearray()
        try:
            async with asyncio.timeout(self._body_seconds):
                more = True
                while more and len(content) <= limit and size <= limit:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ConnectionResetError
                    content += message.get("body", b"")
                    more = message.get("more_body", False)
        except TimeoutError:
            message = f"The body did not arrive within {self._body_seconds:g} seconds"
            raise ApiError(408, message, code="request_timeout", headers={"Connection": "close"}) from None
        if len(content) <= limit and size <= limit:
            return bytes(content)
        await self._drain(receive, _DRAIN_TIMES * limit)
        raise ApiError(
            413,
            f"The body is larger than {limit} bytes (chat.request_bytes); send less at once",
            code="request_too_large",
            headers={"Connection": "close"},
        )

    async def _drain(self, receive: Receive, limit: int) -> None:
        """Read on for a little: most clients look for an answer only after they have sent everything."""
        end = time.monotonic() + min(_DRAIN_SECONDS, self._body_seconds)
        while limit > 0 and (left := end - time.monotonic()) > 0:
            try:
                async with asyncio.timeout(left):
                    message = await receive()
            except TimeoutError:
                return
            limit -= len(message.get("body", b""))
            if not message.get("more_body", False):
                return


def is_loopback(host: str) -> bool:
    """Whether a name or address means this machine, seen from itself."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _same_place(origin: str, host: str) -> bool:
    """Whether a page comes from where it asks: same name, same port."""
    scheme, _, place = origin.lower().partition("://")
    standard = {"http": ":80", "https": ":443"}.get(scheme, "")
    return bool(place) and place.removesuffix(standard) == host.lower().removesuffix(standard)


def _address(scope: Scope) -> str:
    return scope["client"][0] if scope.get("client") else ""


def _has_body(headers: Headers) -> bool:
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"


def _is_page(scope: Scope, headers: Headers) -> bool:
    """Whether a browser opens a page."""
    return scope["type"] == "http" and scope["method"] == "GET" and "text/html" in headers.get("accept", "")


def _replayed(body: bytes, receive: Receive) -> Receive:
    """The body as one message; after it what comes from the client, such as its going."""
    pending = [body]

    async def replay() -> Message:
        if pending:
            return {"type": "http.request", "body": pending.pop(), "more_body": False}
        return await receive()

    return replay


async def _refuse(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
    else:
        await response(scope, receive, send)


def _with_browser_cookie(scope: Scope, send: Send) -> Send:
    secure = "; Secure" if scope.get("scheme") == "https" else ""
    cookie = (
        f"{BROWSER_COOKIE}={secrets.token_urlsafe(32)}; Max-Age={_BROWSER_SECONDS}; Path=/; HttpOnly; "
        f"SameSite=Strict{secure}"
    )

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).append("Set-Cookie", cookie)
        await send(message)

    return sending
