"""Turns of a column, and what the model is given of them."""

from hypothesis import given
from hypothesis import strategies as st

from nanochat.data.conversation import validate
from nanochat.serve import turns
from nanochat.serve.conversations import Column

roles = st.lists(st.sampled_from(["user", "assistant"]), max_size=8)


def column(*contents, notes=()):
    messages = [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(contents)]
    return Column("m", messages, list(notes))


def contents(messages):
    return [message["content"] for message in messages]


@given(roles=roles, notes=st.lists(st.text(max_size=3), max_size=5))
def test_a_tidied_column_has_an_answer_and_a_note_for_each_question(roles, notes):
    untidy = Column("m", [{"role": role, "content": f"{role} {n}"} for n, role in enumerate(roles)], notes)
    users = [message for message in untidy.messages if message["role"] == "user"]
    turns.tidy(untidy)
    assert [message["role"] for message in untidy.messages] == ["user", "assistant"] * len(users)
    assert untidy.messages[0::2] == users
    assert len(untidy.notes) == len(users)


def test_a_tidy_column_stays_as_it_is():
    tidy = column("a", "b", "c", "d", notes=["1", "2"])
    before = (list(tidy.messages), list(tidy.notes))
    turns.tidy(tidy)
    assert (tidy.messages, tidy.notes) == before


def test_going_back_forgets_what_follows():
    talk = column("a", "b", "c", "d", notes=["1", "2"])
    assert turns.text_at(talk, 1) == "c"
    assert turns.text_at(talk, 2) is None
    turns.cut(talk, 1)
    assert (contents(talk.messages), talk.notes) == (["a", "b"], ["1"])
    turns.forget_answer(talk)
    assert (contents(talk.messages), talk.notes) == (["a"], [])


def test_the_model_is_given_what_was_answered_after_the_system_prompt():
    empty = [{"type": "text", "text": ""}]
    messages = column("a", "b", "lost", empty, "c").messages
    assert contents(turns.asked(messages, "")) == ["a", "b", "c"]
    given = turns.asked(messages, "Be brief.")
    assert given[0] == {"role": "system", "content": "Be brief."}
    validate({"messages": given})
    assert contents(turns.asked(column("a").messages, " ")) == ["a"]
