"""Samples of each checkpoint, made safe to stand inside another Markdown page."""

import re
import textwrap
from collections.abc import Iterator

_LINES = 120  # lines of samples.md shown per stage
_WIDTH = 100  # characters per line inside code fences, which do not wrap by themselves


def embed(text: str, level: int = 4) -> str:
    """Fit a samples.md into a section: its headings become deeper, its fences stay closed, its HTML is shown as text.

    Args:
        text: Markdown of samples.md; parts of it were written by a model. A title over all of it is dropped.
        level: heading level that the page's top heading becomes.
    """
    source = text.strip().splitlines()
    if source and _is_title(source):
        source = source[1:]
    lines = list(_lines(source, level))
    if len(lines) > _LINES:
        cut = lines[:_LINES]
        fence = _open_fence(cut)
        lines = [*cut, *([fence] if fence else []), "", f"*({len(lines) - _LINES} more lines in samples.md)*"]
    return "\n".join(lines)


def _is_title(source: list[str]) -> bool:
    """Whether the first line is the only heading of its level, with deeper ones below it."""
    levels = [len(mark.group(1)) for line in source if (mark := re.match(r"(#{1,6})\s", line))]
    return source[0].startswith("#") and len(levels) > 1 and levels.count(levels[0]) == 1 and levels[0] == min(levels)


def _fence(line: str) -> str:
    match = re.match(r" {0,3}(`{3,}|~{3,})", line)
    return match.group(1) if match else ""


def _closes(line: str, opened: str) -> bool:
    mark = _fence(line)
    return bool(mark) and mark[0] == opened[0] and len(mark) >= len(opened) and not line.strip().strip(mark[0])


def _open_fence(lines: list[str]) -> str:
    """The fence that is still open after these lines."""
    opened = ""
    for line in lines:
        if opened:
            opened = "" if _closes(line, opened) else opened
        else:
            opened = _fence(line)
    return opened


def _lines(source: list[str], level: int) -> Iterator[str]:
    headings = [len(mark.group(1)) for line in source if (mark := re.match(r"(#{1,6})\s", line))]
    deeper = level - min(headings, default=level)
    opened = ""
    for line in source:
        if opened:
            closing = _closes(line, opened)
            opened = "" if closing else opened
            yield from [line] if closing else _wrapped(line)
        elif opened := _fence(line):
            yield line
        elif mark := re.match(r"(#{1,6})(\s.*)", line):
            yield "#" * max(1, min(6, len(mark.group(1)) + deeper)) + _without_html(mark.group(2))
        else:
            yield _without_html(line)
    if opened:
        yield opened


def _without_html(line: str) -> str:
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", line)


def _wrapped(line: str) -> list[str]:
    if len(line) <= _WIDTH:
        return [line]
    return textwrap.wrap(line, _WIDTH, replace_whitespace=False, drop_whitespace=False) or [line]
