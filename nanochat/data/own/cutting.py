"""Long documents are cut where a reader would pause."""

import re
from collections.abc import Iterable, Iterator

# Where a document may be cut, best first.
_BREAKS = (re.compile(r"\n[ \t\r]*\n\s*"), re.compile(r"\n"), re.compile(r"\s+"))


def cut(chunks: Iterable[str], limit: int) -> Iterator[str]:
    """Cut a document into pieces of at most `limit` characters, which joined give the document again.

    A piece ends at the last end of a paragraph in its second half; else at the last end of a line, the last blank, or
    at `limit`.

    Args:
        chunks: the document, in chunks of any size.
        limit: most characters in a piece, at least 2.
    """
    held: list[str] = []
    length = 0
    for chunk in chunks:
        held.append(chunk)
        length += len(chunk)
        if length > limit:
            text = "".join(held)
            begin = 0
            while len(text) - begin > limit:
                end = _pause(text, begin, limit)
                yield text[begin:end]
                begin = end
            held, length = [text[begin:]], len(text) - begin
    if length:
        yield "".join(held)


def _pause(text: str, begin: int, limit: int) -> int:
    middle = begin + (limit + 1) // 2
    for pattern in _BREAKS:
        end = 0
        for match in pattern.finditer(text, middle, begin + limit):
            end = match.end()
        if end:
            return end
    return begin + limit
