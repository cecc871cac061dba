import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanochat.evaluate.sandbox.inside.literals import BYTES, DEPTH, LiteralError, decode, encode

HASHABLE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.complex_numbers() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=5,
)
LITERALS = st.recursive(
    HASHABLE,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(HASHABLE, inner, max_size=4)
        | st.sets(HASHABLE, max_size=4)
    ),
    max_leaves=20,
)


def typed(value):
    """A value with all its types, comparable also where it is not a number."""
    if type(value) in (set, frozenset):
        return type(value), sorted(map(repr, map(typed, value)))
    if type(value) is dict:
        return dict, [(typed(key), typed(held)) for key, held in value.items()]
    if type(value) in (list, tuple):
        return type(value), [typed(each) for each in value]
    return type(value), repr(value)


@given(LITERALS)
def test_values_come_back_as_they_were(value):
    assert typed(decode(encode(value))) == typed(value)


@given(st.binary(max_size=60) | LITERALS.map(encode).flatmap(lambda data: st.binary(max_size=2).map(data.__add__)))
def test_any_bytes_are_a_literal_or_an_error(data):
    try:
        value = decode(data)
    except LiteralError:
        return
    assert typed(decode(encode(value))) == typed(value)


class Number(int):
    pass


@pytest.mark.parametrize("value", [object(), Number(1), [Number(1)], {Number(1): 2}, range(2), iter([]), int, print])
def test_other_types_are_refused(value):
    with pytest.raises(LiteralError, match="is not a literal's type"):
        encode(value)


def test_limits():
    deep = []
    for _ in range(DEPTH - 1):
        deep = [deep]
    assert decode(encode(deep)) == deep
    with pytest.raises(LiteralError, match="inside each other"):
        encode([deep])
    assert len(encode(b"x" * (BYTES - 5))) == BYTES
    with pytest.raises(LiteralError, match="more than"):
        encode(b"x" * (BYTES - 4))
    with pytest.raises(LiteralError, match="are read"):
        decode(bytes(BYTES + 1))
    with pytest.raises(LiteralError, match="bytes left"):
        decode(b"l\xff\xff\xff\xff")
