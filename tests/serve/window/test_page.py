"""What answers the window, without a browser: whatever is sent, conversations stay whole and errors are lines."""

import asyncio
import contextlib
import types

import gradio as gr
import pytest

from nanochat.config import ChatSettings
from nanochat.serve.conversations import SHARED, Column, Conversation, Store
from nanochat.serve.serving import Serving
from nanochat.serve.window.knobs import Asked
from nanochat.serve.window.page import ChatWindow
from nanochat.serve.window.replies import Side

from ..conftest import ACCENTS, ENDLESS, FRENCH, SECOND, SUM


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "kept")


@contextlib.contextmanager
def window_over(run, store, **settings):
    serving = Serving.open(run, ChatSettings(temperature=0, max_new_tokens=2000, **settings))
    try:
        yield ChatWindow(serving, store)
    finally:
        serving.close()


@pytest.fixture
def window(chat_run, store):
    with window_over(chat_run, store) as window:
        yield window


def visit(tab="tab", cookies=None):
    return types.SimpleNamespace(session_hash=tab, cookies=cookies or {})


def acting(window, data, tab="tab"):
    return window.act(gr.EventData(None, data), visit(tab))


async def act(window, kind, tab="tab", **more):
    """All of what an action shows: the views, and what was live."""
    views, lives = [], []
    async for view, live, _, _ in acting(window, {"kind": kind, **more}, tab):
        views += [view] if "columns" in view else []
        lives += [live] if "sides" in live else []
    return views, lives


async def until_written(window, tab="tab", **more):
    """Begin something and return as soon as some of its reply is there: (conversation's id, the rest of the show)."""
    shows = acting(window, {"kind": "send", **more}, tab)
    view, _, listed, _ = await anext(shows)
    assert view["id"] in [entry["id"] for entry in listed["conversations"]]
    async for _, live, _, _ in shows:
        if "sides" in live and live["sides"][0]["pieces"] and live["sides"][0]["state"] == "writing":
            return view["id"], shows
    raise AssertionError("the reply ended at once")


async def idle(window):
    """Wait until the models have nothing to do."""
    while window.desk.replies or window.serving.scheduler.running:
        await asyncio.sleep(0.005)


def said(view, column=0):
    return [message["text"] for message in view["columns"][column]["messages"]]


def test_a_reply_is_shown_as_it_grows_and_kept(window, store):
    async def run():
        views, lives = await act(window, "send", text=ACCENTS, nonce="n1")
        assert views[0]["nonce"] == "n1"
        assert said(views[0]) == [ACCENTS, ""]
        assert said(views[-1]) == [ACCENTS, FRENCH]
        assert lives[0]["busy"] and not lives[-1]["busy"]
        assert lives[0]["revision"] == views[0]["revision"] < views[-1]["revision"] == lives[-1]["revision"]
        kept = store.load(views[-1]["id"], SHARED)
        assert kept.columns[0].context_used > 10
        assert kept.columns[0].notes[0].startswith("heart/sft · ")
        views, _ = await act(window, "send", id=views[-1]["id"], text=SECOND)
        assert said(views[-1]) == [ACCENTS, FRENCH, SECOND, "Encore."]

    asyncio.run(run())


def test_a_side_says_what_it_waits_for():
    side = Side(Column("heart/sft"), 0)
    assert side.line == "loading heart/sft …"
    side.state = "waiting"
    assert "waiting" in side.line
    side.state, side.tokens = "writing", 5
    assert side.line.startswith("5 tokens · ")
    assert side.line.endswith(" tokens/s")


def test_a_newer_message_ends_the_reply_that_is_being_written(window, store):
    async def run():
        id, _ = await until_written(window, text=ENDLESS)
        views, _ = await act(window, "send", id=id, text=SUM)
        assert said(views[-1])[0::2] == [ENDLESS, SUM]
        assert "stopped" in views[-1]["columns"][0]["messages"][1]["note"]
        assert store.load(id, SHARED).columns[0].messages[-1]["role"] == "assistant"
        await idle(window)

    asyncio.run(run())


def test_a_reply_goes_on_while_another_conversation_is_open(window):
    async def run():
        id, shows = await until_written(window, text=ENDLESS)
        views, _ = await act(window, "open", id="")
        assert said(views[-1]) == []
        rest = [show async for show in shows]
        assert rest == []  # the page shows something else by now
        _, lives = await anext_of(window, id)
        assert lives["busy"]
        async for _ in acting(window, {"kind": "stop", "id": id}):
            pass

    async def anext_of(window, id):
        shows = acting(window, {"kind": "open", "id": id})
        view, live, *_ = await anext(shows)
        return view, live

    asyncio.run(run())


def test_a_deleted_conversation_stays_deleted_though_it_was_being_written(window, store):
    async def run():
        id, _ = await until_written(window, text=ENDLESS)
        await act(window, "delete", id=id)
        await idle(window)
        assert store.list(SHARED) == []

    asyncio.run(run())


def test_a_renamed_conversation_keeps_its_name_though_it_is_being_written(window, store):
    async def run():
        id, _ = await until_written(window, text=ENDLESS)
        async for _ in acting(window, {"kind": "rename", "id": id, "text": "A song"}):
            pass
        async for _ in acting(window, {"kind": "stop", "id": id}):
            pass
        await idle(window)
        assert [summary.title for summary in store.list(SHARED)] == ["A song"]

    asyncio.run(run())


def test_the_end_of_the_server_leaves_what_there_was_and_says_so(window, store):
    async def run():
        id, _ = await until_written(window, text=ENDLESS)
        return id

    id = asyncio.run(run())  # ends its loop, and with it the reply
    conversation = store.load(id, SHARED)
    assert "broken off" in conversation.columns[0].notes[0]
    assert "la" in conversation.columns[0].messages[1]["content"][0]["text"]


def test_a_busy_server_gives_the_text_back_and_the_conversation_is_as_before(chat_run, store):
    async def run(window):
        id, _ = await until_written(window, tab="one", text=ENDLESS)
        views, _ = await act(window, "send", tab="two", text=SUM)
        assert views[-1]["returned"] == SUM
        assert views[-1]["problem"]
        assert views[-1]["id"] == ""
        assert [summary.id for summary in store.list(SHARED)] == [id]
        async for _ in acting(window, {"kind": "stop", "id": id}):
            pass
        await idle(window)
        views, _ = await act(window, "send", text=SUM)
        answered = views[-1]
        await until_written(window, tab="one", text=ENDLESS)
        views, _ = await act(window, "regenerate", id=answered["id"])
        assert views[-1]["problem"]
        assert said(views[-1]) == said(answered)

    with window_over(chat_run, store, slots=1, queue=0) as window:
        asyncio.run(run(window))


def test_a_message_that_could_not_be_answered_stays_where_no_page_takes_it_back(chat_run, store):
    async def run(window):
        id, _ = await until_written(window, tab="one", text=ENDLESS)
        asked = await window.desk.begin("send", Asked.read({"text": SUM}), SHARED, "gone")
        await window.desk.replies[asked.id].over.wait()
        kept = store.load(asked.id, SHARED)
        assert kept.columns[0].messages[0]["content"] == SUM
        assert "heart/" in kept.columns[0].notes[0]
        assert "broken off" not in kept.columns[0].notes[0]
        async for _ in acting(window, {"kind": "stop", "id": id}):
            pass
        await idle(window)

    with window_over(chat_run, store, slots=1, queue=0) as window:
        asyncio.run(run(window))


def test_a_full_disk_is_told_and_the_answer_comes_all_the_same(window, store):
    store.folder.parent.mkdir(exist_ok=True)
    store.folder.write_text("a file where the folder should be")

    async def run():
        views, _ = await act(window, "send", text=ACCENTS)
        assert said(views[-1]) == [ACCENTS, FRENCH]
        assert "chat.conversations" in views[-1]["problem"]

    asyncio.run(run())


def test_nothing_is_remembered_of_tabs_that_are_gone(window):
    async def run():
        for number in range(5):
            await act(window, "send", tab=f"tab{number}", text=ACCENTS)
            await window.leave(visit(f"tab{number}"))
        assert not window._tabs
        assert not window.desk.replies
        assert not window.desk._tasks

    asyncio.run(run())


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {"kind": "send"},
        {"kind": ["send"]},
        {"kind": "send", "text": {"a": 1}, "models": "x", "knobs": [1]},
        {"kind": "edit", "text": "x", "turn": 99, "id": "../../etc/passwd"},
        {"kind": "regenerate", "id": "0" * 16, "column": 5},
        {"kind": "undo", "id": 3},
        {"kind": "delete", "id": None},
        {"kind": "rename", "id": "0" * 16, "text": 5},
        {"kind": "stop"},
        {"kind": "configure", "models": [1, {}, None]},
        {"kind": "__class__"},
    ],
)
def test_nonsense_changes_nothing(window, store, data):
    async def run():
        async for view, *_ in acting(window, data):
            assert view.get("problem", "") == ""

    asyncio.run(run())
    assert store.list(SHARED) == []


def test_an_unknown_model_is_a_line(window):
    async def run():
        views, _ = await act(window, "send", text=SUM, models=["heart/none"])
        assert "heart/none" in views[-1]["problem"]
        assert views[-1]["returned"] == SUM

    asyncio.run(run())


def test_half_a_character_typed_does_no_harm(window, store):
    async def run():
        views, _ = await act(window, "send", text="\ud83d " + SUM, knobs={"max_tokens": 3})
        assert said(views[-1])[0] == "\ufffd " + SUM

    asyncio.run(run())


def test_a_conversation_that_ended_with_a_question_can_be_gone_on_with(window, store):
    conversation = Conversation.new(SHARED, ["sft"])
    conversation.columns = [Column("sft", [{"role": "user", "content": ACCENTS}])]
    store.save(conversation)

    async def run():
        views, _ = await act(window, "regenerate", id=conversation.id)
        assert said(views[-1]) == [ACCENTS, FRENCH]

    asyncio.run(run())


def test_a_second_column_begins_as_a_copy_and_may_go_again(window, store):
    async def run():
        views, _ = await act(window, "send", text=ACCENTS)
        id = views[-1]["id"]
        views, _ = await act(window, "send", id=id, text=SECOND, models=["heart/sft", "heart/base"])
        assert said(views[-1], 0) == [ACCENTS, FRENCH, SECOND, "Encore."]
        assert said(views[-1], 1)[:3] == [ACCENTS, FRENCH, SECOND]
        # A page that still shows one column takes nothing away.
        views, _ = await act(window, "edit", id=id, text=SUM, turn=0, models=["heart/sft"])
        assert [said(views[-1], number)[0] for number in (0, 1)] == [SUM, SUM]
        await act(window, "configure", id=id, models=["heart/sft"])
        views, _ = await act(window, "open", id=id)
        assert len(views[-1]["columns"]) == 1
        assert said(views[-1])[0] == SUM
        assert [summary.title for summary in store.list(SHARED)] == [SUM]

    asyncio.run(run())


@pytest.mark.parametrize("models", [["heart/sft"], ["heart/sft", "heart/base"]])
def test_columns_may_be_changed_while_a_reply_is_written(window, store, models):
    async def run():
        id, shows = await until_written(window, text=ENDLESS, models=["heart/sft", "heart/base"][: 3 - len(models)])
        async for _ in acting(window, {"kind": "configure", "id": id, "models": models}):
            pass
        views = [view async for view, *_ in shows if "columns" in view]
        assert [column["model"] for column in views[-1]["columns"]] == models
        kept = store.load(id, SHARED)
        assert [column.model for column in kept.columns] == models
        assert all("stopped" in column.notes[-1] for column in kept.columns)
        await idle(window)

    asyncio.run(run())


def test_an_older_action_never_shows_its_conversation_over_a_newer_ones(window, monkeypatch):
    async def run():
        views, _ = await act(window, "send", text=SUM)
        read, go_on = asyncio.Event(), asyncio.Event()
        load = window.desk.load

        async def slow(*args, **more):
            conversation = await load(*args, **more)
            read.set()
            await go_on.wait()
            return conversation

        monkeypatch.setattr(window.desk, "load", slow)
        older = asyncio.create_task(act(window, "open", id=views[-1]["id"]))
        await read.wait()
        monkeypatch.undo()
        newer, _ = await act(window, "open", id="")
        go_on.set()
        assert [said(view) for view in newer] == [[]]
        assert (await older)[0] == []

    asyncio.run(run())


def test_visitors_are_told_apart_by_their_cookie_only_where_they_are_several(chat_run, store):
    with window_over(chat_run, store, host="0.0.0.0") as window:
        owners = [window._owner(visit("t", {"nanochat_browser": cookie})) for cookie in ("a" * 43, "b" * 43)]
        assert len({*owners, SHARED, window._owner(visit("t")), window._owner(visit("u"))}) == 5
        assert not any("aaaa" in owner for owner in owners)
    with window_over(chat_run, store, host="0.0.0.0", password="secret") as window:
        assert window._owner(visit("t", {"nanochat_browser": "a" * 43})) == SHARED
