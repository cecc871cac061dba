"""Who the model is: a short YAML file, checked."""

import datetime
import difflib
import re
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, field_validator

from nanochat.config.base import Settings
from nanochat.errors import DataError

_ARTICLES = ("a", "an", "the", "one", "my", "your", "our", "their", "his", "her", "just")
_SOUNDS_LIKE_YOU = re.compile(r"(uni(?![mn])|use|usu|uti|eu|one\b|once|ubiq)", re.IGNORECASE)
_SILENT_H = re.compile(r"(hour|honest|honou?r|heir)", re.IGNORECASE)
_NOT_A_GERUND = ("bring", "sing", "ring", "spring", "swing", "sling", "string", "wring", "fling", "cling", "sting")


def with_article(noun: str) -> str:
    """`noun` behind the right one of a and an; one that has an article (or my, our, …) keeps it.

    A wrong one of a and an is mended: `a old oak` becomes `an old oak`.
    """
    words = noun.split()
    if words[0].lower() in ("a", "an") and len(words) > 1:
        return with_article(noun.split(None, 1)[1])
    if words[0].lower() in _ARTICLES:
        return noun
    first = words[0]
    if len(re.sub(r"\W.*", "", first)) > 1 and re.sub(r"\W.*", "", first).isupper():  # spelled: an LLM, a GPU
        vowel = first[0] in "AEFHILMNORSX"
    elif _SOUNDS_LIKE_YOU.match(first):
        vowel = False
    else:
        vowel = first[0].lower() in "aeiou" or bool(_SILENT_H.match(first))
    return f"{'an' if vowel else 'a'} {noun}"


def _as_text(value: Any) -> Any:
    # YAML reads 2024 as a number and 2024-06-01 as a date.
    if isinstance(value, (int, float, datetime.date)) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, bool):
        raise ValueError("YAML reads yes, no, on and off as true and false; put the word in quotes")
    return value


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, (str, int, float, bool, datetime.date)) else value


def _clean(text: str) -> str:
    text = " ".join(text.split())
    if not text:
        raise ValueError("is empty; leave the key out, or fill it")
    return text


def _phrase(text: str) -> str:
    return text.rstrip(".;,!").strip() or text


def _verb(text: str) -> str:
    """A phrase that completes `I can …`."""
    text = re.sub(r"^(i\s+)?(can('t|not)?|to)\s+", "", _phrase(text), flags=re.IGNORECASE)
    first = text.split()[0].lower()
    if first.endswith("ing") and first not in _NOT_A_GERUND:
        raise ValueError(
            f"{text!r} must complete a sentence such as 'I can …'; write it as 'write poems', not 'writing'"
        )
    return text if text.split()[0].isupper() else text[0].lower() + text[1:]


Text = Annotated[str, BeforeValidator(_as_text), AfterValidator(_clean)]
Phrase = Annotated[Text, AfterValidator(_phrase)]
Verb = Annotated[Text, AfterValidator(_verb)]
Texts = Annotated[tuple[Text, ...], BeforeValidator(_as_list), Field(min_length=1)]
Phrases = Annotated[tuple[Phrase, ...], BeforeValidator(_as_list)]
Verbs = Annotated[tuple[Verb, ...], BeforeValidator(_as_list)]


class Fact(Settings):
    """One thing the model shall know by heart."""

    ask: Texts
    """Questions, one or several."""
    answer: Texts
    """Answers, one or several, each a whole sentence."""


class Style(Settings):
    """How it speaks."""

    greeting: Text | None = None
    """What it greets with, such as `Hello, fellow gardener!`"""
    sign_off: Text | None = None
    """What it parts with, such as `Happy growing!`"""


class Persona(Settings):
    """Who the model is. Only `name` is required; what is left out is not talked about."""

    name: Phrase
    """What it calls itself."""
    creator: Phrase | None = None
    """Who made it: `Ada`, `the gardening club of Little Hadham`."""
    kind: Phrase = "a small language model"
    """What it is."""
    purpose: Verb | None = None
    """Completes `I am here to …`."""
    personality: Phrases = ()
    """Adjectives: `friendly`, `a little dry`."""
    style: Style = Style()
    languages: Phrases = ("English",)
    """Languages it speaks; English is always among them, as the conversations are English. In those that speech.yaml
    knows, it is asked for its name too."""
    knowledge_cutoff: Phrase | None = None
    """Completes `my knowledge ends in …`: `spring 2025`."""
    born: Phrase | None = None
    """Completes `I was made in …`: `May 2026`."""
    home: Phrase | None = None
    """Completes `I run on …`: `a small computer in the greenhouse`."""
    data: Phrase | None = None
    """Completes `I have read …`: `books on gardening`."""
    software: Phrase = "nanochat-as-a-workflow"
    """What it was trained with."""
    skills: Verbs = ()
    """Each completes `I can …`: `name plants that like shade`."""
    limits: Verbs = ()
    """Each completes `I cannot …`: `see pictures`."""
    likes: Phrases = ()
    """Each completes `I like …`: `tomatoes`."""
    facts: tuple[Fact, ...] = ()
    """Questions with their answers."""
    refuses: Phrases = ()
    """Topics it stays away from, each completing `I do not talk about …`: `politics`."""

    @field_validator("kind")
    @classmethod
    def _with_article(cls, kind: str) -> str:
        return with_article(kind)

    @field_validator("languages")
    @classmethod
    def _with_english(cls, languages: tuple[str, ...]) -> tuple[str, ...]:
        return languages if "english" in map(str.lower, languages) else ("English", *languages)


def _nearest(location: tuple[str | int, ...]) -> str:
    """The valid key nearest to the unknown one at `location`."""
    model: type[Settings] = {"style": Style, "facts": Fact}.get(str(location[0]), Persona) if location[1:] else Persona
    valid = list(model.model_fields)
    close = difflib.get_close_matches(str(location[-1]), valid, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else f"valid keys here: {', '.join(valid)}"


def _problem(error: Any) -> str:
    parts = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"]).lstrip(".")
    if error["type"] == "extra_forbidden":
        return f"unknown key {parts}; {_nearest(error['loc'])}"
    if error["type"] == "missing":
        return f"the key {parts} is missing"
    if error["type"] == "value_error":
        return f"{parts}: {error['ctx']['error']}"
    return f"{parts} = {error['input']!r}: {error['msg'][0].lower()}{error['msg'][1:]}"


def read_persona(path: Path) -> Persona:
    """Read and check a persona.

    Raises:
        DataError: naming the file, and each wrong key with its value and the nearest valid key.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as UTF-8 text ({error}); own.persona.file names the persona") from None
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"{path} is not YAML: {reason}; texts with ? or : inside of [ ] need quotes, or a list with one - per line"
        ) from None
    if not isinstance(values, dict):
        found = type(values).__name__ if values is not None else "nothing"
        raise DataError(f"{path}: expected keys and values, at least `name: …`, found {found}")
    try:
        return Persona.model_validate(values)
    except ValidationError as error:
        raise DataError(f"{path}: {'; '.join(dict.fromkeys(map(_problem, error.errors())))}") from None
