"""The window that `snakemake chat_ui` opens over the tiny run, in a headless Chromium."""

import os
import signal

import pytest

from tests.serve.test_ui import BOT, BOX, USER, done, send, texts
from tests.workflow.test_chat import Server

pytestmark = pytest.mark.browser
QUESTION = "Who are you?"
STAGES = ["smoke/base", "smoke/mid", "smoke/sft", "smoke/rl"]


def opened(browser, url, width=1100):
    page = browser.new_context(viewport={"width": width, "height": 760}).new_page()
    page.set_default_timeout(20_000)
    page.goto(url)
    page.locator(BOX).wait_for()
    page.locator(".welcome, .message").first.wait_for()
    return page


def pickers(page):
    return page.locator("select.picker")


def test_a_conversation_with_what_was_trained(workflow, tiny_run, browser):
    folder = workflow.folder / "conversations-of-the-window"
    given = (f"conversations: {folder}", "temperature: 0", "max_new_tokens: 24")
    with Server(workflow, "chat_ui", *given) as server:
        page = opened(browser, server.url())
        assert pickers(page).first.input_value() == STAGES[-1]
        offered = [
            name for name in pickers(page).first.locator("option").all_inner_texts() if name.startswith("smoke/")
        ]
        assert [name.split(" ")[0] for name in offered] == STAGES
        # The run's own examples, of what it was trained on.
        assert page.locator(".welcome button").count() > 0
        send(page, QUESTION)
        first = texts(page)
        before = page.locator(".note").inner_text()
        page.locator(".regenerate").click()
        # The note names the seed, which is another one each time.
        page.wait_for_function("b => ![b, undefined].includes(document.querySelector('.note')?.innerText)", arg=before)
        done(page)
        assert texts(page) == first  # greedy
        pickers(page).first.select_option("smoke/sft")
        send(page, "What is 12 + 30?", 2)
        names = [note.split(" ")[0] for note in page.locator(".note").all_inner_texts()]
        assert names == ["smoke/rl", "smoke/sft"]
        page.locator(USER).last.hover()
        page.locator(USER).last.locator(".edit").click()
        page.locator(".editor textarea").fill("What is 11 + 30?")
        page.locator(".editor textarea").press("Enter")
        page.locator(USER, has_text="11 + 30").wait_for()
        done(page, 2)
        assert texts(page, USER) == [QUESTION, "What is 11 + 30?"]
        # Two stages side by side.
        page.locator("#new").click()
        page.locator(".welcome").first.wait_for()
        page.locator("#bar .compare").click()
        pickers(page).nth(1).select_option("smoke/base")
        send(page, QUESTION, 2)
        assert texts(page, USER) == [QUESTION, QUESTION]
        assert len(set(texts(page, BOT))) == 2
        page.reload()
        done(page, 2)
        assert texts(page, USER) == [QUESTION, QUESTION]
        phone = opened(browser, page.url, width=375)
        assert phone.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert phone.locator(BOX).is_visible()
        os.killpg(server.process.pid, signal.SIGINT)
        server.process.wait(timeout=30)
    assert len(list(folder.glob("*.json"))) == 2
    with Server(workflow, "chat_ui", *given) as server:
        page = opened(browser, server.url())
        shown = page.locator("#conversations").inner_text()
        assert shown.count(QUESTION) == 2
