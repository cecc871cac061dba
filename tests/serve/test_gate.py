"""Who may come in, and what they are told who may not."""

import asyncio
import base64

import httpx
import openai
import pytest

from nanochat.config import ChatSettings
from nanochat.serve.api.errors import ApiError
from nanochat.serve.credentials import SESSION_COOKIE, Credentials, Found
from nanochat.serve.gate import BROWSER_COOKIE, is_loopback
from tests.serve.api.conftest import api_server

PASSWORD, KEY = "open sesame, voilà", "sk-secret"  # its last byte alone is a blank in Latin-1
PATHS = (
    "/",
    "/health",
    "/metrics",
    "/openapi.json",
    "/v1/models",
    "/v1/models/heart/sft",
    "/v1",
    "/nothing",
    "/gradio_api/info",
    "/config",
    "/login",
    "//health",
    "/%76%31/models",
)
PAGE = {"Accept": "text/html,application/xhtml+xml"}


@pytest.fixture(scope="module")
def closed(chat_run):
    """A server with a password and a key."""
    with api_server(chat_run, password=PASSWORD, api_key=KEY) as api:
        yield api


@pytest.fixture(scope="module")
def keyed(chat_run):
    """A server with a key alone."""
    with api_server(chat_run, api_key=KEY, origins=("http://page.example",)) as api:
        yield api


@pytest.fixture(scope="module")
def opened(chat_run):
    """A server for everyone, also those who come under another name."""
    with api_server(chat_run, host="0.0.0.0", origins=("*",)) as api:
        yield api


def basic(password, user="nanochat"):
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def bearer(key):
    return {"Authorization": b"Bearer " + key.encode()}


@pytest.mark.parametrize("path", PATHS)
def test_with_a_password_nothing_is_served_without_it(closed, path):
    for method in ("GET", "POST", "HEAD", "OPTIONS", "DELETE"):
        answer = httpx.request(method, closed.url + path)
        assert answer.status_code == 401, method
        assert method == "HEAD" or path == "/login" or answer.json()["error"]["code"] == "invalid_api_key"
    assert httpx.get(closed.url + path, headers=PAGE).status_code == 401


def test_right_and_wrong_credentials(closed):
    for headers, status in (
        (basic(PASSWORD), 200),
        (bearer(PASSWORD), 200),
        (bearer(KEY), 200),
        (basic(KEY), 401),
        (basic(PASSWORD, user="root"), 401),
        (bearer("wrong"), 401),
        ({"Authorization": "Bearer"}, 401),
        ({"Authorization": "Basic ???"}, 401),
        ({"Authorization": "Digest x"}, 401),
        ({"Cookie": "nanochat_session=wrong"}, 401),
    ):
        assert httpx.get(f"{closed.url}/health", headers=headers).status_code == status, headers


def test_the_official_client_with_a_key(closed, keyed):
    for api in (closed, keyed):
        with api.client(api_key=KEY) as client:
            assert len(client.models.list().data) == 2
        with api.client(api_key="wrong") as client, pytest.raises(openai.AuthenticationError) as raised:
            client.models.list()
        assert raised.value.code == "invalid_api_key"
        assert raised.value.response.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_key_alone_is_for_the_api_alone(keyed):
    assert httpx.get(f"{keyed.url}/health").status_code == 200
    assert httpx.get(f"{keyed.url}/v1/models").status_code == 401
    assert httpx.get(f"{keyed.url}/v1/models", headers=bearer(KEY)).status_code == 200
    assert httpx.get(f"{keyed.url}/v1/models", headers=basic(KEY)).status_code == 401


def test_a_browser_logs_in(closed):
    with httpx.Client(base_url=closed.url) as browser:
        form = browser.get("/", headers=PAGE)
        assert form.status_code == 401
        assert "WWW-Authenticate" not in form.headers  # else the browser would ask instead of the form
        assert 'name="password"' in form.text
        assert "http" not in form.text.replace("http-equiv", "")  # nothing is loaded from anywhere
        again = browser.post("/login", data={"password": "wrong"})
        assert again.status_code == 401
        assert "not the password" in again.text
        assert not browser.cookies
        answer = browser.post("/login", data={"password": PASSWORD}, headers={"Origin": closed.url})
        assert (answer.status_code, answer.headers["Location"]) == (303, "/")
        cookie = answer.headers["Set-Cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert PASSWORD not in cookie
        assert browser.get("/health").status_code == 200
        assert browser.get("/v1/models").status_code == 200
        assert browser.get("/login").headers["Location"] == "/"
    assert httpx.get(f"{closed.url}/health").status_code == 401


def test_who_guesses_without_end_learns_nothing_meanwhile():
    credentials = Credentials(ChatSettings(password=PASSWORD))
    right = {"authorization": f"Bearer {PASSWORD}".encode().decode("latin-1")}

    async def flood():
        session = credentials.login(PASSWORD.encode(), "10.0.0.1")
        guesses = [asyncio.create_task(credentials.delay("10.0.0.1")) for _ in range(16)]
        await asyncio.sleep(0)
        for ask in (
            lambda: credentials.shown(right, {}, "10.0.0.1"),
            lambda: credentials.login(PASSWORD.encode(), "10.0.0.1"),
        ):
            with pytest.raises(ApiError) as raised:
                ask()
            assert raised.value.status == 429
        # Neither who is in already nor who comes from elsewhere is shut out.
        assert credentials.shown({}, {SESSION_COOKIE: session}, "10.0.0.1") is Found.RIGHT
        assert credentials.shown(right, {}, "10.0.0.2") is Found.RIGHT
        for guess in guesses:
            guess.cancel()
        await asyncio.gather(*guesses, return_exceptions=True)
        assert credentials.shown(right, {}, "10.0.0.1") is Found.RIGHT

    asyncio.run(flood())


def test_a_login_without_end_is_not_read(closed):
    answer = httpx.post(f"{closed.url}/login", data={"password": "x" * 10_000})
    assert answer.status_code == 413


def test_only_its_own_names_on_a_loopback_address(keyed):
    port = keyed.url.rpartition(":")[2]
    for host, status in (
        (f"localhost:{port}", 200),
        (f"127.0.0.1:{port}", 200),
        ("localhost", 200),
        ("[::1]", 200),
        ("my.localhost:1", 200),
        ("evil.example", 403),
        (f"evil.example:{port}", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost.evil.example", 403),
        ("10.0.0.1", 403),
        ("", 403),
    ):
        assert httpx.get(f"{keyed.url}/health", headers={"Host": host}).status_code == status, host


def test_other_pages_may_not_ask(keyed):
    port = keyed.url.rpartition(":")[2]
    own = {"Origin": keyed.url, **bearer(KEY)}
    assert httpx.get(f"{keyed.url}/v1/models", headers=own).status_code == 200
    for origin in (
        "http://evil.example",
        "null",
        f"http://localhost:{int(port) + 1}",
        f"https://127.0.0.1:{port}1",
        "",
    ):
        for path in ("/v1/models", "/health", "/"):
            answer = httpx.get(keyed.url + path, headers={"Origin": origin, **bearer(KEY)})
            assert answer.status_code == 403, origin
            assert "Access-Control-Allow-Origin" not in answer.headers


def test_pages_that_are_allowed_to_ask(keyed):
    page = {"Origin": "http://page.example"}
    asking = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    answer = httpx.options(f"{keyed.url}/v1/chat/completions", headers=page | asking)
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == "http://page.example"
    assert "authorization" in answer.headers["Access-Control-Allow-Headers"].lower()
    answer = httpx.get(f"{keyed.url}/v1/models", headers=page | bearer(KEY))
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (200, "http://page.example")
    assert httpx.get(f"{keyed.url}/v1/models", headers=page).status_code == 401
    assert httpx.get(f"{keyed.url}/", headers=page).status_code == 403  # the window is for nobody else


def test_an_open_server(opened):
    url = opened.url
    assert httpx.get(f"{url}/health", headers={"Host": "box.local:7860"}).status_code == 200
    own = {"Host": "box.local:7860", "Origin": "http://box.local:7860"}
    assert httpx.get(f"{url}/nothing", headers=own).status_code == 404
    foreign = {"Host": "box.local:7860", "Origin": "http://page.example"}
    assert httpx.get(f"{url}/nothing", headers=foreign).status_code == 403
    answer = httpx.get(f"{url}/v1/models", headers=foreign)
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


def test_browsers_are_told_apart(opened):
    first, second = (httpx.get(f"{opened.url}/nothing", headers=PAGE) for _ in range(2))
    assert len(first.cookies[BROWSER_COOKIE]) == 43
    assert first.cookies[BROWSER_COOKIE] != second.cookies[BROWSER_COOKIE]
    assert "HttpOnly" in first.headers["Set-Cookie"]
    known = {"Cookie": f"{BROWSER_COOKIE}={first.cookies[BROWSER_COOKIE]}"}
    assert "Set-Cookie" not in httpx.get(f"{opened.url}/nothing", headers=PAGE | known).headers
    forged = {"Cookie": f"{BROWSER_COOKIE}=../../etc"}
    assert "Set-Cookie" in httpx.get(f"{opened.url}/nothing", headers=PAGE | forged).headers
    assert "Set-Cookie" not in httpx.get(f"{opened.url}/v1/models").headers


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("LOCALHOST.", True),
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("[::1]", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("", False),
        ("notlocalhost", False),
    ],
)
def test_loopback_names(host, expected):
    assert is_loopback(host) is expected
