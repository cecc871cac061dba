import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from nanochat.data.chunks import cut
from nanochat.data.tokenizer import split_pattern

# Everything the split treats differently: blanks and line ends of all kinds, signs, contractions, digits, letters with
# and without case, combining marks, letters whose last byte is that of a blank.
PIECES = st.sampled_from(
    [
        *" \n\r\t\x00.,'(=-“”…°²½\u00a0\u2003\u3000\u2028\u0085\x1c\u0301aZéſж。Åà1١Ⅷ🙂",
        "'s",
        "'ll",
        "'S",
        "word",
        "中文",
        "42",
        " the",
        "  ",
    ]
)
TEXTS = st.lists(PIECES, max_size=30).map("".join) | st.text(st.characters(exclude_categories=("Cs",)), max_size=30)


def words(text: str, max_digits: int) -> list[str]:
    splitter = pre_tokenizers.Split(Regex(split_pattern(max_digits)), behavior="isolated")
    return [piece for piece, _ in splitter.pre_tokenize_str(text)]


def chunks_of(texts: list[str]) -> list[list[str]]:
    chunks = cut(pa.array(texts, pa.large_string()))
    distinct = chunks.distinct.to_pylist()
    return [
        [distinct[code] for code in chunks.codes[begin:end]] for begin, end in zip(chunks.first[:-1], chunks.first[1:])
    ]


@settings(max_examples=400, deadline=None)
@given(TEXTS, st.integers(1, 3))
@example("a\u00a0 \u00a0b", 2)
@example("they'll 'second' it's'x", 2)
@example("x\n\n  \n y .\n\nz", 2)
def test_every_cut_is_a_border_of_the_split(text, max_digits):
    pieces = chunks_of([text])[0]
    assert "".join(pieces) == text
    assert [word for piece in pieces for word in words(piece, max_digits)] == words(text, max_digits)


@given(st.lists(TEXTS, max_size=8), st.integers(0, 3))
def test_documents_keep_apart_also_in_a_slice(texts, skipped):
    array = pa.array(texts, pa.large_string()).slice(min(skipped, len(texts)))
    chunks = cut(array)
    distinct = chunks.distinct.to_pylist()
    found = ["".join(distinct[code] for code in chunks.codes[a:b]) for a, b in zip(chunks.first[:-1], chunks.first[1:])]
    assert found == array.to_pylist()
    assert len(set(distinct)) == len(distinct)
    assert int(chunks.counts().sum()) == len(chunks.codes)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("The cat, it's 12km", ["The", " cat", ",", " it", "'s", " 12", "km"]),
        ("(a.b)\nnext\n", ["(", "a", ".", "b", ")\n", "next", "\n"]),
        ("ещё слово", ["ещё", " слово"]),
    ],
)
def test_english_falls_into_words(text, pieces):
    assert chunks_of([text])[0] == pieces
