"""The chat window in a headless Chromium: what a visitor sees and does."""

import json
import re
import shutil
from pathlib import Path

import pytest

from nanochat.config import ChatSettings

from .conftest import ACCENTS, CONTEXT, ENDLESS, FRENCH, MARKUP, SCRIPT, SECOND, SUM, serve_in_thread

pytestmark = pytest.mark.browser

BOT = ".message.assistant"
USER = ".message.user"
BOX = "#box textarea"
HOSTILE = (
    "<img src=x onerror=\"document.title='hacked'\"> <|assistant_start|> [a](javascript:1) **b**\n"
    '  &lt;i&gt; ${1+1} {{x}} __i18n__{"key": "common.submit"}'
)
SAMPLES = f"# Samples\n\n**sums**\n\n> {SUM}\n\n> It is 42.\n\n**french**\n\n> {ACCENTS}\n\n> {FRENCH}\n"


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("window") / "conversations"
    return ChatSettings(port=0, temperature=0, max_new_tokens=CONTEXT, conversations=str(folder))


@pytest.fixture(scope="module")
def served(chat_run, settings, tmp_path_factory):
    """The window over a run that has samples, as trained ones do."""
    run = tmp_path_factory.mktemp("results") / "heart"
    shutil.copytree(chat_run, run)
    (run / "sft" / "samples.md").write_text(SAMPLES)
    (run / "base" / "samples.md").write_text("# Samples\n\n> **Once upon a time** there was a cat.\n")
    with serve_in_thread(run, settings) as served:
        yield served


@pytest.fixture
def open_page(browser, served, settings):
    """Opens the window in a browser of its own; nothing but its server may be asked for anything."""
    contexts, foreign, errors = [], [], []

    def opened(url=served.url, width=1100, **options):
        context = browser.new_context(viewport={"width": width, "height": 760}, **options)
        contexts.append(context)
        context.on("request", lambda asked: foreign.append(asked.url) if not own(asked.url, url) else None)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(url)
        page.locator(BOX).wait_for()
        page.locator(".welcome, .message").first.wait_for()
        return page

    yield opened
    for context in contexts:
        context.close()
    shutil.rmtree(settings.conversations, ignore_errors=True)
    assert foreign == []
    assert errors == []


@pytest.fixture
def page(open_page):
    return open_page()


def own(url, base):
    return url.startswith((base, base.replace("http", "ws"), "data:", "blob:"))


def send(page, text, replies=1):
    """Send a message and wait until there are so many finished replies."""
    page.locator(BOX).fill(text)
    page.locator(BOX).press("Enter")
    done(page, replies)


def done(page, replies=1):
    page.wait_for_function("n => document.querySelectorAll('.note').length === n", arg=replies)
    page.locator("#box .send").wait_for()


def texts(page, selector=BOT):
    return page.locator(f"{selector} .body").all_inner_texts()


def growing(page, longer=10):
    page.wait_for_function(
        "([s, n]) => (document.querySelector(s)?.innerText || '').length > n", arg=[f"{BOT}.growing .body", longer]
    )


def kept(settings):
    return [json.loads(path.read_text()) for path in Path(settings.conversations).glob("*.json")]


def calm(page):
    """Nothing a user or a model wrote has become markup."""
    assert page.title() != "hacked"
    assert page.locator(".message .body :not(.tool, .tool *, span), #conversations img, #bar img, .note *").count() == 0


def test_a_reply_streams_in_and_the_calculator_shows_its_work(page):
    page.locator(BOX).press("Enter")  # nothing to send
    send(page, SUM)
    assert texts(page, USER) == [SUM]
    assert page.locator(".tool .expression").inner_text() == "12+30"
    assert page.locator(".tool .result").inner_text() == "42"
    assert re.fullmatch(r"It is \s*12\+30\s*=\s*42\s*42\.", texts(page)[0])
    note = page.locator(".note").inner_text()
    assert re.search(r"heart/sft · \d+ tokens · \d+ tokens/s · seed \d+", note)
    assert re.fullmatch(rf"context \d+ of {CONTEXT}", page.locator(".meter").inner_text())
    assert page.evaluate("document.activeElement.tagName") == "TEXTAREA"
    assert page.title() == f"{SUM} – nanochat"


def test_examples_are_the_runs_own_and_are_sent_with_a_click(page):
    assert page.locator(".example").all_inner_texts() == [SUM, ACCENTS]
    page.locator("select.picker").select_option("heart/base")
    assert page.locator(".example").all_inner_texts() == ["Once upon a time"]
    page.locator(".example").click()
    done(page)
    assert "there was a cat." in texts(page)[0]
    assert page.locator("option:checked").inner_text() == "heart/base (completes text)"


def test_a_reply_grows_is_kept_meanwhile_and_stops_when_told(page, settings):
    page.locator(BOX).fill(ENDLESS)
    page.locator(BOX).press("Enter")
    growing(page)
    first = len(texts(page)[0])
    growing(page, first)
    assert re.search(r"\d+ tokens/s", page.locator(".status").inner_text())
    page.wait_for_timeout(1300)  # it is saved every second
    (conversation,) = kept(settings)
    question, answer = conversation["columns"][0]["messages"]
    assert question["content"] == ENDLESS
    assert "la li lo" in answer["content"][0]["text"]
    assert "broken off" in conversation["columns"][0]["notes"][0]
    page.locator("#box .stop").click()
    done(page)
    assert "stopped" in page.locator(".note").inner_text()
    assert len(texts(page)[0]) > first
    send(page, SUM, 2)


def test_escape_stops(page):
    page.locator(BOX).fill(ENDLESS)
    page.locator(BOX).press("Enter")
    growing(page)
    page.keyboard.press("Escape")
    done(page)
    assert "stopped" in page.locator(".note").inner_text()


def test_shift_enter_breaks_the_line_and_layout_is_kept(page):
    box = page.locator(BOX)
    box.press_sequentially("a")
    box.press("Shift+Enter")
    box.press_sequentially("  b")
    box.press("Enter")
    done(page)
    assert page.locator(f"{USER} .body").evaluate("e => e.textContent") == "a\n  b"
    assert page.locator(f"{USER} .body").evaluate("e => e.getClientRects()[0].height") > 40


def test_editing_goes_on_from_there(page):
    send(page, ACCENTS)
    send(page, SECOND, 2)
    assert texts(page) == [FRENCH, "Encore."]
    page.locator(USER).first.hover()
    page.locator(USER).first.locator(".edit").click()
    editor = page.locator(".editor textarea")
    assert editor.input_value() == ACCENTS
    editor.fill(SUM)
    editor.press("Enter")
    page.wait_for_function("document.querySelectorAll('.message').length === 2")
    done(page)
    assert texts(page, USER) == [SUM]
    assert page.locator(".tool").count() == 1
    page.locator(USER).locator(".edit").click()
    page.keyboard.press("Escape")
    assert page.locator(".editor").count() == 0
    send(page, SECOND, 2)
    assert texts(page)[-1] == "Still 42."


def test_regenerating_takes_the_settings_and_the_model_chosen_now(page):
    send(page, ACCENTS)
    page.locator("#bar .settings").click()
    page.locator("#temperature").fill("2")
    page.locator("#max_tokens").fill("12")
    written = []
    for seed in ("7", "8", "7"):
        page.locator("#seed").fill(seed)
        page.locator(".regenerate").click()
        page.wait_for_function(
            "p => new RegExp(p).test(document.querySelector('.note')?.innerText)", arg=rf"seed {seed}(?!\d)"
        )
        done(page)
        written += texts(page)
    assert written[0] == written[2] != written[1]
    page.locator("select.picker").select_option("heart/base")
    page.locator(".regenerate").click()
    page.wait_for_function("document.querySelector('.note')?.innerText.startsWith('heart/base')")
    assert texts(page, USER) == [ACCENTS]
    page.reload()
    done(page)
    assert page.locator("#seed").input_value() == "7"
    page.locator("#bar .settings").click()
    page.locator(".reset").click()
    assert page.locator("#temperature").input_value() == "0"


def test_undo_gives_the_message_back(page):
    send(page, SUM)
    send(page, SECOND, 2)
    page.locator(".undo").click()
    done(page)
    assert page.locator(BOX).input_value() == SECOND
    assert texts(page, USER) == [SUM]
    page.locator(BOX).press("Enter")
    done(page, 2)
    assert texts(page)[-1] == "Still 42."


def test_the_stage_may_change_in_the_middle(page):
    send(page, SUM)
    page.locator("select.picker").select_option("heart/base")
    send(page, "Once upon a time", 2)
    assert "there was a cat." in texts(page)[1]
    notes = page.locator(".note").all_inner_texts()
    assert [note.split(" ")[0] for note in notes] == ["heart/sft", "heart/base"]


def test_two_stages_side_by_side(page, settings):
    page.locator("#bar .compare").click()
    page.locator(".talk:nth-child(2) select").select_option("heart/base")
    send(page, ACCENTS, 2)
    left, right = (page.locator(f".talk:nth-child({number})") for number in (1, 2))
    assert left.locator(".body").all_inner_texts() == [ACCENTS, FRENCH]
    assert right.locator(".body").first.inner_text() == ACCENTS
    assert left.locator(".note").inner_text().startswith("heart/sft")
    assert right.locator(".note").inner_text().startswith("heart/base")
    assert left.locator(".meter").is_visible() and right.locator(".meter").is_visible()
    kept_right = right.locator(".note").inner_text()
    before = left.locator(".note").inner_text()
    left.locator(".regenerate").click()
    page.wait_for_function("b => ![b, undefined].includes(document.querySelector('.note')?.innerText)", arg=before)
    done(page, 2)
    assert right.locator(".note").inner_text() == kept_right
    page.reload()
    done(page, 2)
    assert left.locator(".body").all_inner_texts() == [ACCENTS, FRENCH]
    assert right.locator("select").input_value() == "heart/base"
    right.locator(".undo").click()
    page.locator(".message").first.wait_for(state="detached")
    assert page.locator(BOX).input_value() == ACCENTS
    assert page.locator(".talk").count() == 2
    assert kept(settings) == []


def test_both_sides_are_written_at_the_same_time_and_both_stop(page):
    page.locator("#bar .compare").click()
    page.locator(".talk:nth-child(2) select").select_option("heart/sft")
    page.locator(BOX).fill(ENDLESS)
    page.locator(BOX).press("Enter")
    for number in (1, 2):
        page.wait_for_function(
            "s => (document.querySelector(s)?.innerText || '').length > 40",
            arg=f".talk:nth-child({number}) .growing .body",
        )
    page.keyboard.press("Escape")
    done(page, 2)
    assert all("stopped" in note for note in page.locator(".note").all_inner_texts())
    page.on("dialog", lambda dialog: dialog.accept())
    page.locator("#bar .compare").click()
    page.wait_for_function("document.querySelectorAll('.talk').length === 1")


def test_a_reload_finds_the_conversation_and_the_reply_that_is_being_written(page):
    page.locator(BOX).fill(ENDLESS)
    page.locator(BOX).press("Enter")
    growing(page)
    page.reload()
    growing(page, 60)  # it went on meanwhile
    page.keyboard.press("Escape")
    done(page)
    assert texts(page, USER) == [ENDLESS]
    page.locator("#new").click()
    page.locator(".welcome").wait_for()
    page.locator(BOX).fill("a draft")
    page.reload()
    page.locator(".welcome").wait_for()
    assert page.locator(BOX).input_value() == "a draft"
    page.go_back()
    page.locator(USER).wait_for()


def test_the_list_is_restored_after_a_restart_renamed_and_deleted(open_page, served, settings):
    page = open_page()
    send(page, ACCENTS)
    page.locator("#new").click()
    page.locator(".welcome").wait_for()
    send(page, SUM)
    with serve_in_thread(served.serving.registry.run, settings) as again:
        page = open_page(again.url)
        titles = page.locator("#conversations .title")
        assert titles.all_inner_texts() == [SUM, ACCENTS]
        titles.nth(1).click()
        page.locator(USER).wait_for()
        assert texts(page) == [FRENCH]
        send(page, SECOND, 2)
        assert texts(page)[-1] == "Encore."
        assert titles.all_inner_texts() == [ACCENTS, SUM]
        entry = page.locator("#conversations .entry").first
        entry.locator(".rename").click()
        page.locator("#conversations input").fill(HOSTILE)
        page.locator("#conversations input").press("Enter")
        page.wait_for_function("document.querySelector('#conversations .title').innerText.startsWith('<img')")
        calm(page)
        assert kept(settings)[0]["title"].startswith("<img") or kept(settings)[1]["title"].startswith("<img")
        page.on("dialog", lambda dialog: dialog.accept())
        entry.locator(".delete").click()
        page.locator(".welcome").wait_for()
        page.wait_for_function("document.querySelectorAll('#conversations .entry').length === 1")
        assert [conversation["title"] for conversation in kept(settings)] == [SUM]
    page.locator(BOX).fill("Is anybody there?")
    page.locator(BOX).press("Enter")
    page.wait_for_timeout(300)
    assert page.locator(BOX).input_value() == "Is anybody there?"


def test_a_closed_window_ends_its_reply_truthfully(open_page, served, settings, monkeypatch):
    monkeypatch.setattr("nanochat.serve.window.page._GRACE_SECONDS", 0.2)
    page = open_page()
    page.locator(BOX).fill(ENDLESS)
    page.locator(BOX).press("Enter")
    growing(page)
    page.close()
    page = open_page()
    for _ in range(200):
        if not served.serving.scheduler.running:
            break
        page.wait_for_timeout(50)
    page.locator("#conversations .title").click()
    done(page)
    assert "stopped: the window was closed" in page.locator(".note").inner_text()


def test_what_people_and_models_write_is_text_and_copied_and_edited_as_it_is(open_page):
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    page.locator("#bar .settings").click()
    page.locator("#system").fill(HOSTILE)
    page.locator("#max_tokens").fill("80")
    page.locator("#settings .close").click()
    send(page, HOSTILE)
    calm(page)
    assert page.locator(f"{USER} .body").evaluate("e => e.textContent") == HOSTILE
    page.locator(f"{USER} .copy").click()
    assert page.evaluate("navigator.clipboard.readText()") == HOSTILE
    page.locator(f"{USER} .edit").click()
    assert page.locator(".editor textarea").input_value() == HOSTILE
    page.reload()
    done(page)
    calm(page)
    assert page.locator("#system").input_value() == HOSTILE
    page.locator("#new").click()
    page.locator(".welcome").wait_for()
    assert page.locator("#system").input_value() == ""
    send(page, MARKUP)
    calm(page)
    assert page.locator(f"{BOT} .body").evaluate("e => e.textContent") == SCRIPT
    page.locator(f"{BOT} .copy").click()
    assert page.evaluate("navigator.clipboard.readText()") == SCRIPT


def test_copying_works_without_the_clipboards_own_interface(open_page):
    """Browsers have it on https and localhost only; the window may be open on another machine of the house."""
    page = open_page()
    page.evaluate("delete Navigator.prototype.clipboard")
    send(page, MARKUP)
    page.locator(f"{BOT} .copy").click()
    page.locator(BOX).focus()
    page.keyboard.press("Control+V")
    assert page.locator(BOX).input_value() == SCRIPT


def test_a_full_context_is_told_with_the_way_out_and_the_text_comes_back(page, served, settings):
    model = served.serving.registry.get("sft")
    room = CONTEXT - len(model.prompt([{"role": "user", "content": "x" * 100}])) + 100
    page.locator(BOX).fill("x" * room)
    page.locator(BOX).press("Enter")
    page.locator("#problem").wait_for()
    assert "the context is full" in page.locator("#problem").inner_text()
    assert page.locator(BOX).input_value() == "x" * room
    assert kept(settings) == []
    send(page, "x" * (room - 1))  # leaves one token
    assert f"context {CONTEXT} of {CONTEXT}" in page.locator(".meter").inner_text()
    assert f"this model sees {CONTEXT} tokens" in page.locator(".context-full").inner_text()
    page.locator(BOX).fill(SECOND)
    page.locator(BOX).press("Enter")
    page.locator("#problem").wait_for()
    assert page.locator(BOX).input_value() == SECOND
    page.reload()
    done(page)
    page.locator(".context-full button").click()
    page.locator(".welcome").wait_for()
    assert not page.locator(".context-full").is_visible()


def test_a_damaged_checkpoint_is_a_line_and_the_other_side_answers(page, served):
    run = served.serving.registry.run
    shutil.copytree(run / "sft", run / "mid")
    manifest = json.loads((run / "mid" / "manifest.json").read_text())
    (run / "mid" / "manifest.json").write_text(json.dumps({**manifest, "stage": "mid"}))
    (run / "mid" / "model.safetensors").write_bytes(b"broken")
    try:
        page.reload()
        page.locator("select.picker").select_option("heart/mid")
        page.locator(BOX).fill(SUM)
        page.locator(BOX).press("Enter")
        page.locator("#problem").wait_for()
        assert "model.safetensors" in page.locator("#problem").inner_text()
        assert "Traceback" not in page.locator(".nc").inner_text()
        assert page.locator(BOX).input_value() == SUM
        page.locator("#bar .compare").click()
        page.locator(".talk:nth-child(2) select").select_option("heart/sft")
        page.locator(BOX).press("Enter")
        done(page, 2)
        assert "model.safetensors" in page.locator(".talk:nth-child(1) .note").inner_text()
        assert page.locator(".talk:nth-child(2) .tool").count() == 1
    finally:
        shutil.rmtree(run / "mid")


@pytest.mark.parametrize("two", [False, True])
def test_a_phone_shows_everything_without_scrolling_sideways(open_page, two):
    page = open_page(width=375, has_touch=True, is_mobile=True)
    if two:
        page.locator("#bar .compare").click()
    send(page, SUM, 1 + two)
    page.locator("#bar .settings").click()
    assert page.locator("#temperature").is_visible()
    page.keyboard.press("Escape")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator(BOX).is_visible()
    box = page.locator("#box").bounding_box()
    assert box["y"] + box["height"] <= 760
    assert page.locator("#box .send").bounding_box()["width"] >= 40
    assert page.locator(".regenerate").first.is_visible()
    if two:
        above, below = (page.locator(".talk").nth(number).bounding_box() for number in (0, 1))
        assert above["y"] + above["height"] <= below["y"] + 1
        assert above["width"] > 370
    assert not page.locator("#conversations").is_visible()
    page.locator("#bar .menu").click()
    page.locator("#conversations .title").click()
    page.wait_for_function("!document.querySelector('.nc').classList.contains('side')")


def test_dark_and_light_follow_the_system_until_chosen(open_page):
    page = open_page(color_scheme="dark")
    background = "getComputedStyle(document.querySelector('.nc')).backgroundColor"
    assert page.evaluate(background) == "rgb(28, 28, 30)"
    page.locator("#side .theme").click()
    assert page.evaluate(background) == "rgb(255, 255, 255)"
    page.reload()
    page.locator(".welcome").wait_for()
    assert page.evaluate(background) == "rgb(255, 255, 255)"
    assert open_page(color_scheme="light").evaluate(background) == "rgb(255, 255, 255)"


def test_strangers_do_not_see_each_others_conversations(open_page, served, settings):
    with serve_in_thread(served.serving.registry.run, replace_host(settings)) as outside:
        mine, yours = open_page(outside.url), open_page(outside.url)
        send(mine, SUM)
        address = mine.url
        yours.reload()
        yours.locator(".welcome").wait_for()
        assert yours.locator("#conversations .entry").count() == 0
        yours.goto(address)
        yours.locator(".welcome").wait_for()
        assert yours.locator(".message").count() == 0
        mine.reload()
        done(mine)
        assert mine.locator("#conversations .entry").count() == 1


def replace_host(settings):
    return settings.model_copy(update={"host": "0.0.0.0"})
