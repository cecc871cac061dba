"""A chat: answers stream and stay, what is undone is gone, and it is kept where the window finds it."""

import threading

import pytest

from nanochat.errors import ArtifactError, DataError
from nanochat.infer.sampling import SamplingParams
from nanochat.serve.conversations import SHARED, Column, Conversation, Store
from nanochat.serve.errors import ContextFullError, UnknownModelError
from nanochat.serve.events import Done, TextDelta, ToolCall
from nanochat.serve.registry import Registry
from nanochat.serve.session import BROKEN_OFF, ChatSession

from .conftest import ACCENTS, CONTEXT, ENDLESS, FRENCH, MARKUP, SECOND, SUM

GREEDY = SamplingParams(temperature=0)


@pytest.fixture(scope="module")
def registry(chat_run):
    return Registry(chat_run)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "conversations")


@pytest.fixture
def session(registry, store):
    return ChatSession.begin(registry, "sft", GREEDY, store=store)


def send(session, text, cancel=None):
    return list(session.send(text, cancel or threading.Event()))


def text_of(events):
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def test_an_answer_streams_and_ends_with_true_numbers(session):
    events = send(session, ACCENTS)
    assert text_of(events) == FRENCH
    assert len(events) > 2
    done = events[-1]
    assert isinstance(done, Done) and done.finish == "stop"
    model = session.registry.get("sft")
    assert done.tokens == len(model.tokenizer.encode(FRENCH)) + 1  # the end token is sampled too
    assert done.context_used == len(model.prompt([{"role": "user", "content": ACCENTS}])) + done.tokens


def test_a_sum_goes_through_the_calculator_and_stays_in_the_conversation(session):
    events = send(session, SUM)
    assert [event for event in events if isinstance(event, ToolCall)] == [ToolCall("12+30", "42")]
    # The next turn was learned after the whole call; it only comes if the history renders to the same tokens.
    assert text_of(send(session, SECOND)) == "Still 42."


def test_a_stopped_answer_keeps_what_there_is(session):
    cancel = threading.Event()
    seen = []
    for event in session.send(ENDLESS, cancel):
        seen.append(event)
        if len(seen) == 5:
            cancel.set()
    assert (seen[-1].finish, len(seen)) == ("cancelled", 6)
    assert session.messages[-1]["content"] == [{"type": "text", "text": text_of(seen)}]


def test_an_answer_whose_reader_leaves_is_kept_and_says_so(session, store):
    events = session.send(ENDLESS, threading.Event())
    first = next(events)
    events.close()
    kept = store.load(session.conversation.id, SHARED).columns[0]
    assert kept.messages[-1]["content"] == [{"type": "text", "text": first.text}]
    assert kept.notes == [BROKEN_OFF]


def test_a_message_that_does_not_fit_leaves_the_conversation_as_it_was(session, store):
    send(session, MARKUP)
    before = list(session.messages), store.load(session.conversation.id, SHARED)
    with pytest.raises(ContextFullError, match=rf"context is full.*{CONTEXT}"):
        send(session, "word " * CONTEXT)
    with pytest.raises(DataError, match="empty"):
        send(session, "   ")
    assert (session.messages, store.load(session.conversation.id, SHARED)) == before


def test_retry_takes_the_place_of_the_old_answer(registry, session):
    send(session, ACCENTS)
    events = list(session.retry(threading.Event()))
    assert text_of(events) == FRENCH
    assert session.turns == 1 and len(session.messages) == 2
    with pytest.raises(IndexError):
        ChatSession.begin(registry, "sft", GREEDY).retry(threading.Event())


def test_undo_forgets_a_turn_and_with_the_last_one_the_file(session, store):
    send(session, ACCENTS)
    send(session, SECOND)
    assert session.undo() == SECOND
    assert len(store.load(session.conversation.id, SHARED).columns[0].messages) == 2
    assert text_of(send(session, SECOND)) == "Encore."
    assert [session.undo(), session.undo()] == [SECOND, ACCENTS]
    assert store.list(SHARED) == []
    with pytest.raises(IndexError):
        session.undo()


def test_a_conversation_is_kept_with_its_title_and_gone_on_with(registry, session, store):
    send(session, ACCENTS)
    session.clear()
    send(session, MARKUP)
    assert [one.title for one in session.kept()] == [MARKUP, ACCENTS]
    later = ChatSession.begin(registry, "base", GREEDY, store=store)
    later.open(later.kept()[1].id)
    assert (later.model, later.turns) == (registry.resolve("sft").name, 1)
    assert text_of(send(later, SECOND)) == "Encore."
    assert len(store.list(SHARED)) == 2
    with pytest.raises(DataError, match="not there any more"):
        later.open("0" * 16)


def test_of_a_comparison_a_copy_of_one_side_is_gone_on_with(registry, session, store):
    turn = [{"role": "user", "content": ACCENTS}, {"role": "assistant", "content": FRENCH}]
    both = Conversation.new(SHARED, ["gone/rl", "gone/mid"])
    both.columns = [Column(name, list(turn), ["fine"]) for name in ("gone/rl", "gone/mid")]
    store.save(both)
    session.open(both.id)
    assert session.model == registry.resolve("sft").name  # the model that wrote it is gone
    assert text_of(send(session, SECOND)) == "Encore."
    assert len(store.load(both.id, SHARED).columns[0].messages) == 2
    assert session.conversation.id != both.id


def test_the_model_can_be_changed_between_messages(registry, session):
    send(session, ACCENTS)
    assert session.choose("base") == registry.resolve("base").name
    assert text_of(send(session, "Once upon a")) == " time there was a cat."
    with pytest.raises(UnknownModelError, match="'rl'"):
        session.choose("rl")
    assert session.model == registry.resolve("base").name


def test_a_system_prompt_comes_first_and_is_not_part_of_the_messages(registry):
    session = ChatSession.begin(registry, "sft", GREEDY, system="Be brief.")
    plain = ChatSession.begin(registry, "sft", GREEDY)
    used = [send(one, SUM)[-1].context_used - send(one, SUM)[-1].tokens for one in (session, plain)]
    assert used[0] > used[1]
    assert session.messages[0]["role"] == "user"
    assert session.said()[0] == {"role": "system", "content": "Be brief."}


def test_a_full_disk_is_told_and_the_chat_goes_on(registry, tmp_path):
    (tmp_path / "file").write_text("")
    session = ChatSession.begin(registry, "sft", GREEDY, store=Store(tmp_path / "file" / "below"))
    for _ in range(2):
        with pytest.raises(DataError, match="cannot write"):
            send(session, ACCENTS)
    assert session.turns == 2


def test_a_run_without_a_checkpoint_says_what_to_do(tmp_path):
    with pytest.raises(ArtifactError, match="train one first"):
        ChatSession.begin(Registry(tmp_path), "auto", GREEDY)
