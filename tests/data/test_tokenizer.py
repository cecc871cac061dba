import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from nanochat.config import TokenizerSettings
from nanochat.data.tokenizer import SPECIAL_TOKENS, Tokenizer, split_pattern
from nanochat.errors import ArtifactError, DataError
from tests.data.conftest import TEXTS

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=60)


def words(text, max_digits=2):
    splitter = pre_tokenizers.Split(Regex(split_pattern(max_digits)), behavior="isolated")
    return [piece for piece, _ in splitter.pre_tokenize_str(text)]


@given(TEXT)
def test_any_text_comes_back(tokenizer, text):
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode_bytes(ids) == text.encode()
    assert int(tokenizer.token_bytes[ids].sum()) == len(text.encode())


@given(st.binary(max_size=80) | TEXT.map(str.encode))
def test_any_bytes_come_back(tokenizer, content):
    ids = tokenizer.encode_bytes(content)
    assert tokenizer.decode_bytes(ids) == content
    assert all(number < tokenizer.bos for number in ids)


@given(st.text(st.characters() | st.characters(categories=("Cs",)), max_size=40))
def test_any_string_can_be_encoded_half_surrogate_pairs_too(tokenizer, text):
    ids = tokenizer.encode(text)
    assert tokenizer.decode_bytes(ids) == text.encode("utf-8", "surrogatepass")
    assert tokenizer.encode_batch([text, "x"]) == [ids, tokenizer.encode("x")]


@given(TEXT)
def test_split_loses_nothing(text):
    assert "".join(words(text)) == text


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("It's what they'll do", ["It", "'s", " what", " they", "'ll", " do"]),
        ("'second", ["'", "second"]),
        ("x = 12345", ["x", " =", " ", "12", "34", "5"]),
        ("- cat=A\n- dog=B", ["-", " cat", "=", "A", "\n", "-", " dog", "=", "B"]),
        ("cat:c,a,t", ["cat", ":", "c", ",", "a", ",", "t"]),
        ("  if a:\n    b", [" ", " if", " a", ":\n", "   ", " b"]),
        ("one\n\n  two", ["one", "\n\n", " ", " two"]),
        ("naïve cafe\u0301!", ["naïve", " cafe\u0301", "!"]),
    ],
)
def test_split(text, pieces):
    assert words(text) == pieces


@pytest.mark.parametrize("digits", [1, 2, 3])
def test_runs_of_digits_are_as_long_as_set(digits):
    text = "7654321 " * 20
    trained = Tokenizer.train([text], TokenizerSettings(vocab_size=320, max_digits=digits))
    pieces = [trained.decode([number]) for number in trained.encode("7654321")]
    assert max(map(len, pieces)) == digits


@given(TEXT, st.sampled_from(SPECIAL_TOKENS), TEXT)
def test_names_of_special_tokens_in_text_are_plain_text(tokenizer, before, name, after):
    ids = tokenizer.encode(before + name + after)
    assert max(ids) < tokenizer.bos
    assert tokenizer.decode(ids) == before + name + after


def test_special_tokens_are_the_last_nine(tokenizer):
    assert len(SPECIAL_TOKENS) == 9
    assert [tokenizer.special[name] for name in SPECIAL_TOKENS] == list(range(503, 512))
    assert tokenizer.bos == 503
    assert (tokenizer.token_bytes[503:] == 0).all()
    assert tokenizer.token_bytes.dtype == np.int32


def test_decoding_names_special_tokens_or_skips_them(tokenizer):
    ids = [tokenizer.bos, *tokenizer.encode("café"), tokenizer.special["<|assistant_end|>"]]
    assert tokenizer.decode(ids) == "<|bos|>café<|assistant_end|>"
    assert tokenizer.decode(ids, skip_special=True) == "café"
    assert tokenizer.decode_bytes(ids) == "café".encode()


def test_half_a_character_is_shown_as_such_and_not_joined_over_special_tokens(tokenizer):
    first, second = tokenizer.encode("é") if len(tokenizer.encode("é")) == 2 else pytest.fail("é is one token")
    assert tokenizer.decode([first, tokenizer.bos, second]) == "\ufffd<|bos|>\ufffd"
    assert tokenizer.decode([first, second]) == "é"


def test_batches_equal_single_texts(tokenizer):
    texts = ["", "The cat", "数字 12", *TEXTS[:3]]
    assert tokenizer.encode_batch(texts) == [tokenizer.encode(text) for text in texts]


def test_vocabulary_is_as_large_as_set_even_for_little_text():
    tiny = Tokenizer.train(["ab ab ab"], TokenizerSettings(vocab_size=1024))
    assert tiny.vocab_size == 1024
    assert tiny.special["<|output_end|>"] == 1023
    assert tiny.unused == 1024 - 256 - 9 - 2  # merges: "ab", " ab"
    assert tiny.decode(tiny.encode("<|unused_300|> ab")) == "<|unused_300|> ab"
    assert max(tiny.encode("<|unused_300|> ab")) < 258
    assert tiny.decode_bytes([300]) == b""


def test_training_is_deterministic_and_saving_keeps_all(tmp_path):
    settings = TokenizerSettings(vocab_size=512)
    for name in ("a", "b"):
        Tokenizer.train(TEXTS, settings).save(tmp_path / name)
    for file in ("tokenizer.json", "token_bytes.npy"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    trained, loaded = Tokenizer.train(TEXTS, settings), Tokenizer.load(tmp_path / "a")
    assert loaded.encode(TEXTS[0]) == trained.encode(TEXTS[0])
    assert loaded.special == trained.special
    assert np.array_equal(np.load(tmp_path / "a" / "token_bytes.npy"), loaded.token_bytes)


def test_no_text_is_an_error():
    with pytest.raises(DataError, match="no text to train on"):
        Tokenizer.train([], TokenizerSettings())


def test_an_error_while_reading_reaches_the_caller():
    def broken():
        yield "some text"
        raise DataError("row group 3 of 4 cannot be read")

    with pytest.raises(DataError, match="row group 3"):
        Tokenizer.train(broken(), TokenizerSettings())


def test_a_missing_damaged_or_foreign_tokenizer_is_named(tmp_path, tokenizer):
    with pytest.raises(ArtifactError, match=r"holds no tokenizer\.json"):
        Tokenizer.load(tmp_path)
    tokenizer.save(tmp_path)
    path = tmp_path / "tokenizer.json"
    text = path.read_text()
    path.write_text(text[: len(text) // 2])
    with pytest.raises(ArtifactError, match="damaged"):
        Tokenizer.load(tmp_path)
    path.write_text(text.replace("<|user_end|>", "<|human_end|>"))
    with pytest.raises(ArtifactError, match=r"expected <\|user_end\|>"):
        Tokenizer.load(tmp_path)
