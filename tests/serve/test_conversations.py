"""Conversations on disk: what is saved comes back, a kill or damage loses no other, nobody reads another's."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanochat.errors import DataError
from nanochat.serve.conversations import SHARED, Column, Conversation, Store, title_of

text = st.text(st.characters(codec=None, exclude_categories=()), max_size=40)
parts = st.lists(
    st.fixed_dictionaries({"type": st.sampled_from(["text", "python", "python_output"]), "text": text}), max_size=4
)
user = st.fixed_dictionaries({"role": st.just("user"), "content": text})
assistant = st.fixed_dictionaries({"role": st.just("assistant"), "content": text | parts})
columns = st.builds(Column, text, st.lists(user | assistant, max_size=5), st.lists(text, max_size=3))
moments = st.floats(min_value=0, max_value=1e11)
conversations = st.builds(
    Conversation,
    st.text("0123456789abcdef", min_size=16, max_size=16),
    text,
    moments,
    moments,
    text,
    text,
    st.lists(columns, min_size=1, max_size=2),
)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "kept")


def talk(store, title="Hello", owner=SHARED, updated=1.0):
    conversation = Conversation.new(owner, ["tiny/sft"])
    conversation.title, conversation.updated = title, updated
    conversation.columns[0].messages.append({"role": "user", "content": title})
    store.save(conversation)
    return conversation


@given(conversation=conversations)
@settings(max_examples=60, deadline=None)
def test_what_is_saved_comes_back(tmp_path_factory, conversation):
    folder = tmp_path_factory.mktemp("store")
    Store(folder).save(conversation)
    assert Store(folder).load(conversation.id, conversation.owner) == conversation
    assert [summary.title for summary in Store(folder).list(conversation.owner)] == [conversation.title]


def test_the_newest_comes_first_and_a_change_moves_up(store):
    first, second = talk(store, "first", updated=1), talk(store, "second", updated=2)
    assert [summary.id for summary in store.list(SHARED)] == [second.id, first.id]
    first.updated, first.title = 3, "renamed"
    store.save(first)
    assert [summary.title for summary in store.list(SHARED)] == ["renamed", "second"]


def test_a_deleted_one_is_gone_and_the_others_stay(store):
    first, second = talk(store, "first"), talk(store, "second")
    store.delete(first.id, SHARED)
    assert store.load(first.id, SHARED) is None
    assert [summary.id for summary in store.list(SHARED)] == [second.id]


def test_nobody_sees_deletes_or_lists_anothers(store):
    mine = talk(store, owner="me")
    assert store.list("you") == []
    assert store.load(mine.id, "you") is None
    store.delete(mine.id, "you")
    assert store.load(mine.id, "me") == mine


@pytest.mark.parametrize("id", ["../secret", "..%2fsecret", "/etc/passwd", "", ".", "x" * 16, "a" * 17, None, "a\n"])
def test_an_id_from_outside_never_leaves_the_folder(store, id):
    talk(store)
    outside = store.folder.parent / "secret.json"
    outside.write_text("{}")
    assert store.load(id, SHARED) is None
    store.delete(id, SHARED)
    assert outside.read_text() == "{}"
    if isinstance(id, str):
        with pytest.raises(DataError, match="16 hexadecimal"):
            store.save(Conversation(id, "", 0, 0, "", SHARED, [Column("m")]))


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: b"\xff\xfe" + data,
        lambda data: b"[]",
        lambda data: b"[" * 100_000,
        lambda data: data.replace(b'"role": "user"', b'"role": "god"'),
        lambda data: data.replace(b'"version": 1', b'"version": 9'),
        lambda data: data.replace(b'"columns": [', b'"columns": [3, '),
        lambda data: data.replace(b'"context_used": 0', b'"context_used": 1e999'),
    ],
)
def test_a_damaged_file_is_set_aside_and_the_others_are_there(store, damage, caplog):
    bad, good = talk(store, "bad"), talk(store, "good")
    path = store.folder / f"{bad.id}.json"
    damaged = damage(path.read_bytes())
    path.write_bytes(damaged)
    assert [summary.title for summary in store.list(SHARED)] == ["good"]
    assert store.load(bad.id, SHARED) is None
    assert path.with_name(path.name + ".damaged").read_bytes() == damaged
    assert "damaged" in caplog.text
    assert store.load(good.id, SHARED) == good


def test_a_file_of_another_program_in_the_folder_stays(store):
    kept = talk(store, "kept")
    other = store.folder / "package.json"
    other.write_text("{}")
    assert [summary.id for summary in store.list(SHARED)] == [kept.id]
    assert other.read_text() == "{}"


def test_what_cannot_be_deleted_is_told(store, monkeypatch):
    kept = talk(store, "kept")

    def refuse(*_args, **_more):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(DataError, match=f"{kept.id}.*Permission denied"):
        store.delete(kept.id, SHARED)
    assert store.load(kept.id, SHARED) == kept


KILLED = """
import os, signal, sys
from pathlib import Path
from nanochat.serve.conversations import Store
store = Store(Path(sys.argv[1]))
conversation = store.load(sys.argv[2], "shared")
conversation.title = "half a word"
os.fsync = lambda number: os.kill(os.getpid(), signal.SIGKILL)
store.save(conversation)
"""


def test_a_kill_in_the_middle_of_a_write_leaves_what_was_there(store):
    before = talk(store)
    process = subprocess.run([sys.executable, "-c", KILLED, store.folder, before.id], check=False, timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert Store(store.folder).load(before.id, SHARED) == before
    assert len(Store(store.folder).list(SHARED)) == 1


def test_another_process_may_use_the_same_folder(store):
    talk(store, "one")
    assert len(store.list(SHARED)) == 1
    other = Store(store.folder)
    two = talk(other, "two", updated=5)
    assert [summary.title for summary in store.list(SHARED)] == ["two", "one"]
    other.delete(two.id, SHARED)
    assert [summary.title for summary in store.list(SHARED)] == ["one"]


def test_nobody_else_on_the_machine_reads_them(store):
    conversation = talk(store)
    assert store.folder.stat().st_mode & 0o077 == 0
    assert (store.folder / f"{conversation.id}.json").stat().st_mode & 0o077 == 0


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"chat\.conversations"):
        talk(Store(tmp_path / "file" / "below"))


def test_the_file_is_plain_json_with_what_was_said(store):
    conversation = talk(store, "Salut, ça va?")
    kept = json.loads(Path(store.folder, f"{conversation.id}.json").read_text())
    assert kept["columns"][0]["messages"] == [{"role": "user", "content": "Salut, ça va?"}]
    assert os.listdir(store.folder) == [f"{conversation.id}.json"]


@pytest.mark.parametrize(
    ("message", "title"),
    [("Hi", "Hi"), (" a\n b ", "a b"), ("x" * 70, "x" * 59 + "…"), (" \n", "New chat"), ("<b>&", "<b>&")],
)
def test_a_title_is_the_beginning_of_the_first_message(message, title):
    assert title_of(message) == title
