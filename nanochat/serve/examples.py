"""What one may ask a model: held-out questions of its own training, as its checkpoint shows them in samples.md."""

import re
from pathlib import Path

_MOST = 4
_LONGEST = 90
_PROMPT = re.compile(r"^> \*\*(?P<text>[^*]+)\*\*", re.MULTILINE)
_QUESTION = re.compile(r"^\*\*(?P<task>[^*\n]+)\*\*\n\n(?P<text>(?:>[^\n]*\n)+)", re.MULTILINE)
_TURNS = re.compile(r"[.?!][A-Z]")


def examples(checkpoint: Path) -> list[str]:
    """A few short first messages that suit a checkpoint.

    For a base model beginnings of text, for the others one question of each task they were trained on, shortest
    first. They come from the checkpoint's own samples.md; for `rl`, which learns one task more, also from that of the
    `sft` beside it, from which it began. Without samples there are none.

    Args:
        checkpoint: its directory.
    """
    text = _samples(checkpoint)
    if checkpoint.name == "rl":
        text += "\n" + _samples(checkpoint.with_name("sft"))
    found: dict[str, str] = {}
    for match in _QUESTION.finditer(text):
        question = "\n".join(line.removeprefix(">").removeprefix(" ") for line in match["text"].splitlines())
        found.setdefault(match["task"], question) if _suits(question) else None
    if not found:
        found = {match["text"]: match["text"].strip() for match in _PROMPT.finditer(text) if _suits(match["text"])}
        return list(dict.fromkeys(found.values()))[:_MOST]
    return sorted(dict.fromkeys(found.values()), key=len)[:_MOST]


def _samples(checkpoint: Path) -> str:
    try:
        return (checkpoint / "samples.md").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _suits(text: str) -> bool:
    # Several turns are written without anything between them: such a question makes no sense on its own.
    return bool(text.strip()) and len(text) <= _LONGEST and "\n" not in text and not _TURNS.search(text)
