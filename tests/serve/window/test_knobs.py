"""What a browser may ask for: anything, and it never breaks the server."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanochat.config import ChatSettings
from nanochat.serve.window.knobs import Asked, clean, defaults, params_from

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
knobs = st.dictionaries(
    st.sampled_from(["temperature", "top_k", "top_p", "max_tokens", "seed", "other"]), json_values, max_size=6
)
events = st.dictionaries(
    st.sampled_from(["id", "text", "turn", "column", "models", "system", "knobs", "nonce"]), json_values, max_size=8
)


@given(asked=knobs | json_values)
@settings(max_examples=200, deadline=None)
def test_whatever_is_asked_for_can_be_sampled_with(asked):
    params = params_from(asked, ChatSettings())
    assert 0 <= params.temperature <= 2
    assert params.max_tokens >= 1
    assert params.seed >= 0


@given(data=events | json_values)
@settings(max_examples=200, deadline=None)
def test_whatever_is_sent_can_be_read_and_written(data):
    asked = Asked.read(data)
    for text in (asked.id, asked.text, asked.system, asked.nonce, *asked.models):
        text.encode("utf-8")
    assert asked.column in (None, 0, 1)
    assert len(asked.models) <= 2


def test_what_the_panel_shows_is_what_is_sampled_with():
    configured = ChatSettings(temperature=0.3, top_k=None, top_p=0.9, max_new_tokens=7)
    shown = defaults(configured)
    assert (shown["temperature"], shown["top_k"], shown["top_p"], shown["max_tokens"]) == (0.3, 0, 0.9, 7)
    params = params_from(shown, configured)
    assert (params.temperature, params.top_k, params.top_p, params.max_tokens) == (0.3, None, 0.9, 7)
    assert params_from({}, configured).temperature == 0.3
    assert params_from({"temperature": None}, configured).temperature == 0.3
    assert params_from({"temperature": 10**400}, configured).temperature == 2
    assert params_from({"top_k": 0.5}, configured).top_k is None
    chosen = params_from({"temperature": 0, "top_k": 3, "top_p": 1, "max_tokens": 9, "seed": 5}, configured)
    assert (chosen.temperature, chosen.top_k, chosen.top_p, chosen.max_tokens, chosen.seed) == (0, 3, None, 9, 5)


def test_without_a_seed_each_reply_has_its_own():
    assert len({params_from({"seed": None}, ChatSettings()).seed for _ in range(8)}) > 1


@pytest.mark.parametrize(
    ("text", "cleaned"), [("é✓😀", "é✓😀"), ("a\ud800b", "a\ufffdb"), ("\udc00", "\ufffd"), (3, "")]
)
def test_half_a_surrogate_pair_is_replaced(text, cleaned):
    assert clean(text) == cleaned
