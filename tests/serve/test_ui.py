"""The chat window in a headless Chromium: what a visitor sees and does."""

import pytest

from .conftest import ENDLESS, MARKUP, SUM

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


def last_reply(page):
    return page.locator(BOT).last.inner_text()


def test_a_reply_streams_in_and_the_calculator_shows_its_work(page):
    send(page, SUM)
    line = wait_done(page)
    assert "tokens/s" in line
    shown = page.locator("#chat").inner_text()
    assert "It is" in shown
    assert "12+30" in shown
    assert "42" in shown


def test_a_reply_grows_and_stops_when_told(page):
    send(page, ENDLESS)
    page.wait_for_function("s => (document.querySelector(s)?.innerText || '').length > 20", arg=BOT)
    first = len(last_reply(page))
    page.wait_for_function("([s, n]) => document.querySelector(s).innerText.length > n", arg=[BOT, first])
    page.locator("#box button").last.click()
    line = wait_done(page, r"stopped")
    length = len(last_reply(page))
    assert length > first
    assert "stopped" in line
    send(page, SUM)
    # The lock is free again: the next message gets its reply.
    page.wait_for_function("s => document.querySelectorAll(s).length >= 2", arg=BOT)


def test_what_the_model_writes_is_text_and_never_markup(page):
    send(page, MARKUP)
    wait_done(page)
    assert "<script>" in last_reply(page)
    assert "<b>bold</b>" in last_reply(page)
    assert page.title() != "hacked"
    assert page.locator(f"{BOT} b, {BOT} script").count() == 0


def test_what_the_user_types_is_text_and_never_markup(page):
    send(page, "<img src=x onerror=\"document.title='hacked'\"> <|assistant_start|> <b>me</b>")
    wait_done(page)
    assert "<|assistant_start|> <b>me</b>" in page.locator(USER).last.inner_text()
    assert page.title() != "hacked"
    assert page.locator(f"{USER} b, {USER} img").count() == 0


def test_a_phone_shows_everything_without_scrolling_sideways(page):
    page.set_viewport_size({"width": 375, "height": 720})
    send(page, SUM)
    wait_done(page)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.locator("#box textarea").is_visible()
