"""Sentences from templates, and the many ways in which people write the same question.

A template offers choices in brackets, `[Hi|Hello], what is your name?`, and has slots, `{name}`.
"""

import re
from collections.abc import Mapping
from random import Random

_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_SLOT = re.compile(r"\{(\w+)\}")
_WORD = re.compile(r"[A-Za-z]{4,}")
_ENDS = (".", "!", "?", "…", ")", '"', "'", "”", "’", ":", "。", "？", "！")
_NEIGHBOURS = {
    "a": "sq", "b": "vn", "c": "xv", "d": "sf", "e": "wr", "f": "dg", "g": "fh", "h": "gj", "i": "uo", "j": "hk",
    "k": "jl", "l": "k", "m": "n", "n": "bm", "o": "ip", "p": "o", "q": "w", "r": "et", "s": "ad", "t": "ry",
    "u": "yi", "v": "cb", "w": "qe", "x": "zc", "y": "tu", "z": "x",
}  # fmt: skip
_TEXTING = (
    (r"\bwhat is\b", "whats"), (r"\bwho is\b", "whos"), (r"\byou are\b(?= \w)", "ur"), (r"\byou're\b", "ur"),
    (r"\byour\b", "ur"), (r"\byou\b", "u"), (r"\bare\b", "r"), (r"\bplease\b", "pls"), (r"\bthanks\b", "thx"),
    (r"\bpeople\b", "ppl"), (r"'", ""),
)  # fmt: skip
_PERSONS = {
    "i": "you", "me": "you", "my": "your", "mine": "yours", "myself": "yourself", "you": "me", "your": "my",
    "yours": "mine", "yourself": "myself",
}  # fmt: skip

# `you` as a subject is `I` to the other one, as an object `me`.
_SUBJECT = re.compile(
    r"\b(when|if|what|how|where|that|which|because|while|whom?|as|than|once|until|before|after) you\b( are\b)?", re.I
)

_INTERROGATIVES = frozenset(
    (
        *("who", "whose", "what", "which", "where", "when", "why", "how", "on", "in", "until", "up"),
        *("do", "does", "did", "are", "aren", "is", "can", "could", "will", "would", "may"),
    )
)

REGISTERS: tuple[tuple[str, int], ...] = (
    ("plain", 46), ("polite", 12), ("lower", 18), ("typos", 10), ("texting", 7), ("emphatic", 5), ("loud", 2),
)  # fmt: skip
"""How people write, with weights; `speak` knows them."""
_POLITE = ("May I ask: ", "Could you tell me: ", "Excuse me, ", "If I may ask: ", "Please tell me: ", "Pardon me, ")


def slots(template: str) -> set[str]:
    """Names of the slots of a template."""
    return set(_SLOT.findall(template))


def expand(template: str, values: Mapping[str, str], rng: Random) -> str:
    """Choose in all brackets, then fill the slots; brackets and braces in values stay as they are."""
    text = template
    while match := _CHOICE.search(text):
        text = text[: match.start()] + rng.choice(match[1].split("|")) + text[match.end() :]
    return _SLOT.sub(lambda match: values[match[1]], text)


def capital(text: str) -> str:
    """With a capital first letter."""
    return text[:1].upper() + text[1:]


def small(text: str, names: tuple[str, ...] = ()) -> str:
    """With a small first letter, unless it begins with `I` or a name."""
    first = re.split(r"[\s,.!?']", text, maxsplit=1)[0]
    if first == "I" or first[1:] != first[1:].lower() or any(text.startswith(name) for name in names):
        return text
    return text[:1].lower() + text[1:]


def ended(text: str) -> str:
    """With a full stop where a sentence ends on a letter or digit."""
    return text if text.endswith(_ENDS) or not text[-1].isalnum() else f"{text}."


def listed(items: tuple[str, ...]) -> str:
    """`a`, `a and b`, `a, b and c`; with a comma before the last where an item has an `and` of its own."""
    if len(items) == 1:
        return items[0]
    comma = "," if any(" and " in item for item in items) else ""
    return f"{', '.join(items[:-1])}{comma} and {items[-1]}"


def asks(text: str) -> bool:
    """Whether it is a whole question, which words can be put before, as in `May I ask: who are you?`."""
    first = text.split()[0].lower().split("'")[0]
    return text.endswith("?") and first in _INTERROGATIVES and " " in text.strip()


def other_person(phrase: str) -> str:
    """The phrase as the other one would say it: `tell you about my garden` becomes `tell me about your garden`."""
    pieces = _SUBJECT.split(phrase)  # every third piece is a conjunction, the one after it the verb `are` or nothing
    swapped = re.sub(r"[A-Za-z]+", lambda word: _PERSONS.get(word[0].lower(), word[0]), pieces[0])
    for conjunction, verb, rest in zip(pieces[1::3], pieces[2::3], pieces[3::3]):
        swapped += f"{conjunction} I{' am' if verb else ''}"
        swapped += re.sub(r"[A-Za-z]+", lambda word: _PERSONS.get(word[0].lower(), word[0]), rest)
    return swapped


def with_typos(text: str, rng: Random, names: tuple[str, ...] = ()) -> str:
    """One or two slips of the fingers in words of four letters or more, never in `names`."""
    kept = {word for name in names for word in re.findall(r"[A-Za-z]+", name)}
    words = [match for match in _WORD.finditer(text) if match[0] not in kept]
    for match in sorted(rng.sample(words, min(len(words), rng.choice((1, 1, 2)))), key=lambda m: -m.start()):
        word = match[0]
        place = rng.randrange(1, len(word) - 1)
        here, after = word[place], word[place + 1]
        wrong = rng.choice((after + here, after, here + here + after, rng.choice(_NEIGHBOURS[here.lower()]) + after))
        text = text[: match.start()] + word[:place] + wrong + word[place + 2 :] + text[match.end() :]
    return text


def speak(text: str, register: str, rng: Random, names: tuple[str, ...] = ()) -> str:
    """A sentence as someone would write it who writes in this register."""
    question = text.endswith("?")
    if register == "polite" and asks(text) and rng.random() < 0.8:
        return rng.choice(_POLITE) + small(text, names)
    if register in ("lower", "texting"):
        text = text.lower()
        if register == "texting":
            for pattern, short in _TEXTING:
                text = re.sub(pattern, short, text)
        return text.rstrip(" ?.!") if rng.random() < 0.7 else text
    if register == "typos":
        return with_typos(text, rng, names)
    if register == "emphatic":
        return text.rstrip(" ?.!") + rng.choice(("??", "???", "?!") if question else ("!", "!!"))
    if register == "loud":
        return text.upper()
    return text
