"""Tokens become text and tool calls: whole characters only, tool work shown as what it is, nothing lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanochat.config import TokenizerSettings
from nanochat.data.conversation import render
from nanochat.data.tokenizer import Tokenizer
from nanochat.serve.events import Decoder, Done, TextDelta, ToolCall, append

TOKENIZER = Tokenizer.train(["a few words to merge, and a few more words"] * 3, TokenizerSettings(vocab_size=320))
SPECIAL = TOKENIZER.special


def events(*pieces):
    """Events of text pieces, special tokens by name, and (forced) token lists."""
    decoder = Decoder(TOKENIZER)
    out = []
    for piece in pieces:
        text, sampled = (piece, True) if isinstance(piece, str) else (piece[0], False)
        for token in [SPECIAL[text]] if text in SPECIAL else TOKENIZER.encode(text):
            out += decoder.push(token, sampled)
    return [*out, *decoder.finish()]


def text_of(found):
    return "".join(event.text for event in found if isinstance(event, TextDelta))


@given(st.text())
def test_streamed_text_is_the_text_in_whole_characters(text):
    found = events(text)
    assert text_of(found) == text
    assert all(event.text for event in found)


def test_a_character_in_several_tokens_comes_as_one_delta():
    assert len(TOKENIZER.encode("✓")) == 3
    assert events("✓!") == [TextDelta("✓"), TextDelta("!")]


def test_an_incomplete_character_at_the_end_is_a_replacement_character():
    decoder = Decoder(TOKENIZER)
    first = TOKENIZER.encode("✓")[0]
    assert list(decoder.push(first)) == []
    assert list(decoder.finish()) == [TextDelta("\ufffd")]


FORCED = [("<|output_start|>",), ("42",), ("<|output_end|>",)]


def test_a_tool_call_is_one_event_with_its_result():
    found = events("a ", "<|python_start|>", "6*7", "<|python_end|>", *FORCED, "b")
    assert [event for event in found if isinstance(event, ToolCall)] == [ToolCall("6*7", "42")]
    assert text_of(found) == "a b"


@pytest.mark.parametrize("after", ["b", "<|assistant_end|>", "<|python_start|>"])
def test_a_call_that_cannot_be_calculated_has_no_result(after):
    found = events("<|python_start|>", "6*", "<|python_end|>", after)
    assert found[0] == ToolCall("6*", None)


def test_output_a_model_makes_up_is_text_and_not_the_calculators():
    found = events("<|python_start|>", "6*7", "<|python_end|>", "<|output_start|>", "9", "<|output_end|>")
    assert found[0] == ToolCall("6*7", None)
    assert text_of(found) == "<|output_start|>9<|output_end|>"


def test_a_call_broken_off_is_shown_without_result():
    assert events("<|python_start|>", "6*") == [ToolCall("6*", None)]
    assert events("<|python_start|>", "6*7", "<|python_end|>", *FORCED[:2]) == [ToolCall("6*7", None)]


def test_parts_render_to_the_tokens_the_model_saw():
    pieces = ["a ", "<|python_start|>", "6*7", "<|python_end|>", *FORCED, "b", "<|assistant_end|>"]
    parts = []
    for event in events(*pieces):
        parts = append(parts, event)
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": parts}]
    ids, _ = render(TOKENIZER, {"messages": messages})
    names = [piece if isinstance(piece, str) else piece[0] for piece in pieces]
    expected = [i for name in names for i in ([SPECIAL[name]] if name in SPECIAL else TOKENIZER.encode(name))]
    assert ids[-len(expected) :] == expected


def test_a_reply_without_a_word_is_still_a_message():
    parts = append([], Done("stop", 1, 0.1, 5, 100))
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": parts}]
    assert render(TOKENIZER, {"messages": messages})[0][-1] == SPECIAL["<|assistant_end|>"]
