"""Who may come in: the password, the key, and the sessions of browsers that gave the password."""

import asyncio
import base64
import binascii
import hashlib
import hmac
import secrets
import time
from collections import Counter
from collections.abc import Mapping
from enum import Enum

from nanochat.config import ChatSettings
from nanochat.serve.api.errors import ApiError

USER = "nanochat"
"""User name that goes with `chat.password`, where one is asked for."""
SESSION_COOKIE = "nanochat_session"
SESSION_SECONDS = 30 * 24 * 3600
_MOST_SESSIONS = 1000
_GUESS_SECONDS = 0.25
_MOST_GUESSES = 16
"""Wrong guesses from one address that wait for their answer at the same time."""


class Found(Enum):
    """What a request shows."""

    RIGHT = "right"
    WRONG = "wrong"
    NOTHING = "nothing"


class Credentials:
    """Compares what visitors show with what is asked for, in a time that does not depend on how alike they are.

    Args:
        settings: `password` and `api_key`; None where nothing is asked for.
    """

    def __init__(self, settings: ChatSettings) -> None:
        self._password, self._key = settings.password, settings.api_key
        self._sessions: dict[bytes, float] = {}
        """Digest of the cookie, and when it ends."""
        self._slow = asyncio.Lock()
        self._guesses: Counter[str] = Counter()

    @property
    def has_password(self) -> bool:
        """Whether nothing at all is served without credentials."""
        return self._password is not None

    def needed(self, path: str) -> bool:
        """Whether a path is only for those who have credentials."""
        return self.has_password or (self._key is not None and is_api(path))

    def shown(self, headers: Mapping[str, str], cookies: Mapping[str, str], address: str) -> Found:
        """What a request shows: a session, the password (Basic), the key or the password (Bearer).

        Raises:
            ApiError: 429, if too many wrong ones from this address wait for their answer.
        """
        if self._has_session(cookies.get(SESSION_COOKIE, "")):
            return Found.RIGHT
        scheme, _, given = headers.get("authorization", "").partition(" ")
        given = given.strip(" \t")  # and nothing else: in UTF-8, other blanks of Latin-1 are halves of letters
        if not given:
            return Found.NOTHING
        self._check_patience(address)
        if scheme.lower() == "bearer":
            content = given.encode("latin-1", "replace")
            right = _same(content, self._key) | _same(content, self._password)
            return Found.RIGHT if right else Found.WRONG
        if scheme.lower() == "basic":
            try:
                user, _, password = base64.b64decode(given, validate=True).partition(b":")
            except (binascii.Error, ValueError):
                return Found.WRONG
            right = _same(password, self._password) & _same(user, USER)
            return Found.RIGHT if right else Found.WRONG
        return Found.NOTHING

    def login(self, password: bytes, address: str) -> str | None:
        """A new session's cookie, if the password is right.

        Raises:
            ApiError: 429, as `shown` does.
        """
        self._check_patience(address)
        if not _same(password, self._password):
            return None
        now = time.monotonic()
        self._sessions = {digest: end for digest, end in self._sessions.items() if end > now}
        while len(self._sessions) >= _MOST_SESSIONS:
            del self._sessions[next(iter(self._sessions))]  # the oldest
        token = secrets.token_urlsafe(32)
        self._sessions[_digest(token.encode())] = now + SESSION_SECONDS
        return token

    async def delay(self, address: str) -> None:
        """What a wrong guess costs: all who guess wait for each other, those who know do not."""
        self._guesses[address] += 1
        try:
            async with self._slow:
                await asyncio.sleep(_GUESS_SECONDS)
        finally:
            self._guesses[address] -= 1
            if not self._guesses[address]:
                del self._guesses[address]

    def _check_patience(self, address: str) -> None:
        """Before anything is compared: being told at once that one more guess was wrong would be no delay.

        Raises:
            ApiError: 429, if many guesses from this address wait already.
        """
        if self._guesses[address] >= _MOST_GUESSES:
            message = "Too many wrong passwords or keys at once; try again later"
            raise ApiError(429, message, code="too_many_guesses", headers={"Retry-After": "5"})

    def _has_session(self, token: str) -> bool:
        # The token is too long to be guessed, and looked up by its digest: nothing is learned from the time it takes.
        return bool(token) and self._sessions.get(_digest(token.encode("utf-8", "replace")), 0.0) > time.monotonic()


def is_api(path: str) -> bool:
    """Whether a path belongs to the OpenAI-compatible API."""
    return path == "/v1" or path.startswith("/v1/")


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def _same(given: bytes, secret: str | None) -> bool:
    return secret is not None and hmac.compare_digest(_digest(given), _digest(secret.encode()))
