"""Tokens become text and tool calls: whole characters only, tool work shown as what it is, nothing lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanochat.config import TokenizerSettings
from nanochat.data.conversation import render
from nanochat.data.tokenizer import Tokenizer
from nanochat.infer.requests import Token
from nanochat.serve.events import Done, TextDelta, ToolCall, append
from nanochat.serve.notation import as_parts, as_text
from nanochat.serve.reader import ReplyReader

TOKENIZER = Tokenizer.train(["a few words to merge, and a few more words"] * 3, TokenizerSettings(vocab_size=320))
SPECIAL = TOKENIZER.special


def token(number, sampled=True):
    return Token(0, number, sampled, 0.0, None)


def tokens_of(*pieces):
    """Tokens of text pieces, special tokens by name, and forced ones in tuples."""
    for piece in pieces:
        text, sampled = (piece, True) if isinstance(piece, str) else (piece[0], False)
        for number in [SPECIAL[text]] if text in SPECIAL else TOKENIZER.encode(text):
            yield token(number, sampled)


def events(*pieces, stop=()):
    reader = ReplyReader(TOKENIZER, stop)
    found = [said for one in tokens_of(*pieces) for said in reader.push(one)]
    return [*found, *reader.finish()]


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
    reader = ReplyReader(TOKENIZER)
    first = TOKENIZER.encode("✓")[0]
    assert reader.push(token(first)) == []
    assert reader.finish() == [TextDelta("\ufffd")]


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
    parts = append([], Done("stop", 1, 1, 0.1, 0.1, 5, 100))
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": parts}]
    assert render(TOKENIZER, {"messages": messages})[0][-1] == SPECIAL["<|assistant_end|>"]


letters = st.text(alphabet="ab✓", max_size=30)


@given(text=letters, stop=st.lists(st.text(alphabet="ab✓", min_size=1, max_size=4), min_size=1, max_size=3))
def test_text_ends_where_the_first_stop_string_begins(text, stop):
    reader = ReplyReader(TOKENIZER, stop)
    said = [piece for one in tokens_of(text) for piece in reader.push(one)]
    shown = text_of(said)
    # Nothing that may become part of a stop string has been shown, whatever comes next.
    assert not any(string in shown for string in stop)
    said += reader.finish()
    places = [text.find(string) for string in stop if string in text]
    assert reader.stopped == bool(places)
    if len(set(map(len, stop))) == 1:
        assert text_of(said) == (text[: min(places)] if places else text)
    else:  # of two strings that are written at the same time, the one complete first decides
        assert text.startswith(text_of(said))
        assert len(text_of(said)) >= (min(places) if places else len(text))


def test_what_may_become_a_stop_string_is_held_back_no_longer_than_needed():
    reader = ReplyReader(TOKENIZER, ["END"])
    shown = [text_of(reader.push(one)) for letter in "aENENb" for one in tokens_of(letter)]
    assert "".join(shown) == "aENENb"
    assert shown[1:3] == ["", ""]
    assert not reader.stopped


def test_a_tool_call_lets_go_of_what_was_held_back():
    found = events("aE", "<|python_start|>", "6*7", "<|python_end|>", *FORCED, "ND", stop=["END"])
    assert found == [TextDelta("a"), TextDelta("E"), ToolCall("6*7", "42"), TextDelta("N"), TextDelta("D")]


@given(text=letters, stop=st.sampled_from([(), ("ab",), ("✓",), ("bb", "a✓")]))
def test_tokens_come_with_their_text_and_not_after_where_it_ends(text, stop):
    reader = ReplyReader(TOKENIZER, stop)
    released, shown = [], ""
    for one in tokens_of(text, "<|assistant_end|>"):
        shown += text_of(reader.push(one))
        released += reader.take_tokens()
        # Never a token whose text is not there yet.
        assert shown.encode().startswith(TOKENIZER.decode_bytes([t.id for t in released[:-1]]))
    shown += text_of(reader.finish())
    released += reader.take_tokens()
    written = TOKENIZER.decode_bytes([t.id for t in released])
    assert SPECIAL["<|assistant_end|>"] not in [t.id for t in released]
    if reader.stopped:
        assert written.startswith(shown.encode())
        assert not TOKENIZER.decode_bytes([t.id for t in released[:-1]]).startswith(shown.encode()) or not shown
    else:
        assert written == shown.encode() == text.encode()


def test_forced_tokens_are_not_among_those_handed_out():
    reader = ReplyReader(TOKENIZER)
    pieces = ["a", "<|python_start|>", "6*7", "<|python_end|>", *FORCED, "b"]
    for one in tokens_of(*pieces):
        reader.push(one)
    reader.finish()
    assert [t.id for t in reader.take_tokens()] == [t.id for t in tokens_of(*pieces) if t.sampled]


CALL = [{"type": "python", "text": "12+30"}, {"type": "python_output", "text": "42"}]


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ([{"type": "text", "text": "It is "}, *CALL, {"type": "text", "text": "42."}], "It is <<12+30=42>>42."),
        ([*CALL, *CALL], "<<12+30=42>><<12+30=42>>"),
        ([{"type": "python", "text": "12+x"}], "<<12+x=>>"),
        (
            [{"type": "python", "text": "'apple'.count('p')"}, {"type": "python_output", "text": "2"}],
            "<<'apple'.count('p')=2>>",
        ),
    ],
)
def test_tool_calls_survive_as_plain_text(parts, text):
    assert as_text(parts) == text
    assert as_parts(text) == parts


@pytest.mark.parametrize("text", ["<<12+30=43>>", "a << b = c >> d", "<<>>", "<<=>>", "<b>", "<<12+30=42>"])
def test_what_the_calculator_does_not_say_stays_text(text):
    assert as_parts(text) == text


@given(st.text(alphabet="<>=1+2 a", max_size=40))
def test_reading_text_loses_nothing(text):
    assert as_text(as_parts(text)) == text
