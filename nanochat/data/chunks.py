"""Text cut into chunks where the tokenizer's split surely has a border, so that equal ones are worked on only once.

A corpus has some hundred thousand different words and billions of them: counted once, encoded once, looked up ever
after. The cuts are found on the bytes with numpy, equal chunks by Arrow's hash table.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_LETTER, _DIGIT, _SIGN = 1, 2, 3
_BLANK, _RETURN, _NEWLINE, _APOSTROPHE = 0x20, 0x0D, 0x0A, 0x27


def _classes() -> np.ndarray:
    """(256,) class of an ASCII byte that is seen, 0 for all others."""
    table = np.zeros(256, dtype=np.uint8)
    table[0x21:0x7F] = _SIGN
    table[ord("0") : ord("9") + 1] = _DIGIT
    table[ord("A") : ord("Z") + 1] = _LETTER
    table[ord("a") : ord("z") + 1] = _LETTER
    return table


def _ends_no_blank() -> np.ndarray:
    """(256,) whether a byte cannot be the last one of a blank of any kind.

    The last bytes of U+0085, U+00A0, U+1680, U+2000 to U+200A, U+2028, U+2029, U+202F, U+205F and U+3000 end other
    characters too: no cut then costs a longer chunk only.
    """
    table = np.zeros(256, dtype=bool)
    table[0x21:0x7F] = True
    table[0x80:0xC0] = True
    table[[*range(0x80, 0x8B), 0x9F, 0xA0, 0xA8, 0xA9, 0xAF]] = False
    return table


def _borders(data: np.ndarray) -> np.ndarray:
    """(n,) ascending positions in UTF-8 bytes where `tokenizer.split_pattern` has a border, whatever stands around.

    - before a blank that follows no blank: no unit goes on with one;
    - between letters, digits and signs (ASCII), but for `'s`, `'ll`: no unit holds two of these kinds;
    - between a letter or digit and a line end, and between a line end and what is seen.
    """
    kind = _classes()[data]
    before, here = kind[:-1], kind[1:]
    seen = (before != here) & (before != 0) & (here != 0)
    seen &= ~((data[:-1] == _APOSTROPHE) & (here == _LETTER))
    line_end = (data == _NEWLINE) | (data == _RETURN)
    cut = seen
    cut |= line_end[:-1] & (here != 0)
    cut |= line_end[1:] & ((before == _LETTER) | (before == _DIGIT))
    cut |= (data[1:] == _BLANK) & _ends_no_blank()[data[:-1]]
    return np.flatnonzero(cut) + 1


@dataclass(frozen=True)
class Chunks:
    """Documents as chunks.

    Attributes:
        distinct: the different chunks.
        codes: (chunks,) which of them each chunk is.
        first: (documents + 1,) chunk that each document begins with.
    """

    distinct: pa.LargeStringArray
    codes: np.ndarray
    first: np.ndarray

    def counts(self) -> np.ndarray:
        """(distinct,) how often each occurs."""
        return np.bincount(self.codes, minlength=len(self.distinct))


def cut(texts: pa.LargeStringArray) -> Chunks:
    """Cut documents into chunks; the tokens of a document are those of its chunks, one after the other.

    Args:
        texts: documents without nulls, valid UTF-8.
    """
    _, places, content = texts.buffers()
    offsets = np.frombuffer(places, dtype=np.int64, count=len(texts) + 1, offset=8 * texts.offset)
    begin, end = int(offsets[0]), int(offsets[-1])
    if begin == end:
        empty = pa.array([], pa.large_string())
        return Chunks(empty, np.empty(0, dtype=np.int64), np.zeros(len(texts) + 1, dtype=np.int64))
    data = np.frombuffer(content, dtype=np.uint8, count=end - begin, offset=begin)
    is_border = np.zeros(len(data) + 1, dtype=bool)
    is_border[_borders(data)] = True
    is_border[offsets - begin] = True
    borders = np.flatnonzero(is_border)
    chunks = pa.LargeStringArray.from_buffers(len(borders) - 1, pa.py_buffer(borders + begin), content)
    encoded = pc.dictionary_encode(chunks)
    first = np.searchsorted(borders, offsets - begin)
    return Chunks(encoded.dictionary, encoded.indices.to_numpy(), first)
