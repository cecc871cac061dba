"""The chat window in a headless Chromium: what a visitor sees and does."""

import pytest

from .conftest import MARKUP, SUM

pytestmark = pytest.mark.browser

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
BOT = "#chat .bot.message"
USER = "#chat .user.message"


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra: dev)")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, served):
    """The window, opened; nothing but its own server may be asked for anything."""
    context = browser.new_context(viewport={"width": 1000, "height": 800})
    page = context.new_page()
    page.set_default_timeout(15_000)
    foreign = []
    page.on("request", lambda request: foreign.append(request.url) if not own(request.url, served.url) else None)
    page.goto(served.url)
    page.locator("#box textarea").wait_for()
    yield page
    context.close()
    assert foreign == []


def own(url, base):
    return url.startswith((base, base.replace("http", "ws"), "data:", "blob:"))


def send(page, text):
    page.locator("#box textarea").fill(text)
    page.locator("#box textarea").press("Enter")


def wait_done(page, pattern=r"tokens/s"):
    page.wait_for_function("p => new RegExp(p).test(document.querySelector('#status')?.innerText)", arg=pattern)
    return page.locator("#status").inner_text()


def test_dump(page):
    send(page, SUM)
    wait_done(page)
    page.screenshot(path="/tmp/shot1.png")
    open("/tmp/dump.html", "w").write(page.locator("#chat").inner_html())
    send(page, MARKUP)
    page.wait_for_timeout(1500)
    page.screenshot(path="/tmp/shot2.png")
    open("/tmp/dump2.html", "w").write(page.locator("#chat").inner_html())
