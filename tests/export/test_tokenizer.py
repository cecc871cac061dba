"""The exported tokenizer and chat template against ours."""

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanochat.data.conversation import render, render_prompt
from nanochat.data.tokenizer import SPECIAL_TOKENS

NASTY = [
    "",
    " ",
    "\n\n  \t x",
    "  two blanks at both ends  ",
    "naïve Ωmega — “quotes” … 🙂👩‍👩‍👧 中文 العربية עברית",
    "e\u0301 ﬁ Ǆ ²³ İ ß",
    "\u0000\u200b\ufeff\ufffd\U0010ffff",
    "don't 1234567 +-*/ == 3.14e-9",
    "a\r\nb\rc\u2028d\x85e",
    "</s> [INST] <pad> <|endoftext|> <|unused_3|> <| bos |> <|bos",
    "=A\n- green=C , . ! ?",
    "x" * 500,
]
TEXTS = st.one_of(
    st.sampled_from([text for text in NASTY if text.strip()]),
    st.lists(st.sampled_from([*SPECIAL_TOKENS, "<|", "|>", "<", " ", "a", "<\ufdd1|", "\n"]), min_size=1).map("".join),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufdd0"), min_size=1),
).filter(str.strip)
CALLS = st.tuples(TEXTS, TEXTS).map(lambda pair: [("python", pair[0]), ("python_output", pair[1])])
PARTS = st.lists(st.one_of(TEXTS.map(lambda text: [("text", text)]), CALLS, TEXTS.map(lambda text: [("python", text)])))
PARTS = PARTS.map(lambda lists: [part for parts in lists for part in parts]).filter(
    # Texts side by side are one text for the template.
    lambda parts: parts and all(a[0] != "text" or b[0] != "text" for a, b in itertools.pairwise(parts))
)


@st.composite
def conversations(draw):
    messages = [{"role": "system", "content": draw(TEXTS)}] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        parts = [{"type": kind, "text": text} for kind, text in draw(PARTS)]
        content = draw(TEXTS) if draw(st.booleans()) else parts
        messages += [{"role": "user", "content": draw(TEXTS)}, {"role": "assistant", "content": content}]
    return messages


@pytest.fixture(scope="module")
def both(exports, load):
    """Ours and transformers'."""
    made = exports("classic")
    return made.tokenizer, load(made.folder)[1]


@pytest.mark.parametrize("text", NASTY, ids=range(len(NASTY)))
def test_texts_have_our_ids_and_come_back(both, text):
    ours, theirs = both
    ids = theirs.encode(text, add_special_tokens=False)
    assert ids == ours.encode(text)
    assert theirs.decode(ids) == text
    assert theirs.encode(text) == [ours.bos, *ids]


def test_special_tokens(both):
    ours, theirs = both
    for name in SPECIAL_TOKENS:
        assert theirs.encode(name, add_special_tokens=False) == [ours.special[name]]
        assert theirs.encode(name, add_special_tokens=False, split_special_tokens=True) == ours.encode(name)
    ids = [ours.bos, *ours.encode("Anna"), ours.special["<|assistant_end|>"]]
    assert theirs.decode(ids) == ours.decode(ids) == "<|bos|>Anna<|assistant_end|>"
    assert theirs.decode(ids, skip_special_tokens=True) == "Anna"
    assert len(theirs) == theirs.vocab_size == ours.vocab_size


@given(conversations())
def test_the_chat_template_renders_as_we_do(both, messages):
    ours, theirs = both
    ids, mask = render(ours, {"messages": messages})
    rendered = theirs.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    assert rendered["input_ids"] == ids
    assert rendered["assistant_masks"] == mask
    prompt = theirs.apply_chat_template(messages[:-1], add_generation_prompt=True, return_dict=False)
    assert prompt == render_prompt(ours, {"messages": messages})


USER, ANSWER = {"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}
SYSTEM = {"role": "system", "content": "Be kind."}


@pytest.mark.parametrize(
    ("messages", "prompt", "reason"),
    [
        ([USER, USER], False, "message 2 is of role user, expected assistant"),
        ([ANSWER], False, "message 1 is of role assistant, expected user"),
        ([USER, SYSTEM], False, "message 2 is of role system, expected assistant"),
        ([SYSTEM, SYSTEM, USER], False, "message 2 is of role system, expected user"),
        ([{"role": "tool", "content": "42"}], False, "message 1 is of role tool, expected user"),
        ([USER, ANSWER], True, "must end with a message of the user"),
        ([SYSTEM], False, "no message of the user"),
        ([{"role": "user", "content": " \n"}], False, "content of role user: expected a text that is not empty"),
        ([{"role": "user", "content": [{"type": "image"}]}], False, "content of role user: expected a text"),
        ([USER, {"role": "assistant", "content": [{"type": "video", "text": "x"}]}], False, "a part of type video"),
    ],
)
def test_conversations_we_refuse_are_refused(both, messages, prompt, reason):
    import jinja2

    with pytest.raises(jinja2.TemplateError, match=re.escape(reason)):
        both[1].apply_chat_template(messages, add_generation_prompt=prompt)
