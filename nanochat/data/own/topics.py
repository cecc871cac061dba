"""What a persona can be asked: the templates of topics.yaml and speech.yaml, cut to what the persona says."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from itertools import pairwise
from typing import Any, Literal

import yaml
from pydantic import Field

from nanochat.config.base import Settings
from nanochat.data.own.persona_file import Persona, with_article
from nanochat.data.own.phrasing import capital, listed, other_person, slots

Items = tuple[Mapping[str, str], ...]


class Topic(Settings):
    """A kind of question with its answers, as topics.yaml explains."""

    name: str = ""
    of: str | None = None
    unless: str | None = None
    weight: int = 2
    group: str = ""
    doubts: tuple[str, ...] = ()
    chatty: bool = True
    addressed: bool = True
    ask: tuple[str, ...]
    answer: tuple[str, ...]
    form: Literal["template", "literal", "foreign"] = "template"
    """Of a persona's own words nothing is expanded; what is not English gets no English words around it."""
    items: tuple[dict[str, str], ...] = ({},)
    """Values of the slots of this topic, one of which is chosen for question and answer together."""


class Grammar(Settings):
    """topics.yaml."""

    topics: tuple[Topic, ...]
    doubts: dict[str, Topic]
    recall: Topic
    partings: tuple[Topic, ...]


class Other(Settings):
    """A model that users may take ours for."""

    other: str
    company: str
    thing: str
    large: bool


class Language(Settings):
    """Questions and answers of one language: (ways to ask, ways to answer)."""

    also: tuple[str, ...]
    name: tuple[tuple[str, ...], tuple[str, ...]]
    greeting: tuple[tuple[str, ...], tuple[str, ...]]
    other: tuple[tuple[str, ...], tuple[str, ...]]


class Speech(Settings):
    """speech.yaml."""

    greetings: tuple[str, ...]
    named_greetings: tuple[str, ...]
    contexts: tuple[str, ...]
    connectors: tuple[str, ...]
    answering_greetings: tuple[str, ...]
    closers: dict[str, tuple[str, ...]]
    silent: tuple[str, ...]
    default_greetings: tuple[str, ...] = Field(min_length=1)
    others: tuple[Other, ...]
    nicknames: tuple[str, ...]
    users: tuple[str, ...]
    not_spoken: tuple[str, ...]
    languages: dict[str, Language]


def _load(name: str) -> Any:
    return yaml.safe_load(resources.files("nanochat.data.own").joinpath(name).read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Repertoire:
    """All that one persona can be asked and say.

    Attributes:
        values: slots that are the same in every conversation.
        topics: with only the templates and items that fit the persona; `doubts` and `partings` likewise.
        recall: what follows an introduction.
        others: other models and their makers, as items.
        closers: closing sentences that suit the personality.
        speech: the words around.
    """

    values: Mapping[str, str]
    topics: tuple[Topic, ...]
    doubts: Mapping[str, Topic]
    recall: Topic
    partings: tuple[Topic, ...]
    others: Items
    closers: tuple[str, ...]
    speech: Speech


def repertoire(persona: Persona) -> Repertoire:
    """Cut the grammar to what this persona says."""
    grammar, speech = Grammar.model_validate(_load("topics.yaml")), Speech.model_validate(_load("speech.yaml"))
    values = _values(persona)
    lists = _items(persona, speech)
    known = _known_slots(persona, values)
    everything = [*grammar.topics, *_foreign(persona, speech)]
    said = _said(persona)
    topics = [
        fitting
        for topic in everything
        if topic.unless not in said and (fitting := _fit(topic, known, lists)) is not None
    ]
    rate = max(1, min(4, 40 // max(1, len(persona.facts))))
    topics += [
        Topic(name="facts", ask=fact.ask, answer=fact.answer, weight=rate, group=f"fact {number}", form="literal")
        for number, fact in enumerate(persona.facts)
    ]
    about_others = known | {"other", "company", "thing", "a_company", "topic"}
    doubts = {name: _fit(topic, about_others, lists) for name, topic in grammar.doubts.items()}
    partings = (_fit(topic, known, lists) for topic in grammar.partings)

    def last_word(topic: Topic) -> Topic:
        return topic.model_copy(update={"chatty": False})

    return Repertoire(
        values=values,
        topics=tuple(topics),
        doubts={name: last_word(topic) for name, topic in doubts.items() if topic is not None},
        recall=last_word(grammar.recall),
        partings=tuple(last_word(topic) for topic in partings if topic is not None),
        others=lists["others"],
        closers=_closers(persona, speech),
        speech=speech,
    )


def _values(persona: Persona) -> dict[str, str]:
    single = {
        "name": persona.name,
        "kind": persona.kind,
        "creator": persona.creator,
        "purpose": persona.purpose,
        "home": persona.home,
        "born": persona.born,
        "data": persona.data,
        "software": persona.software,
        "cutoff": persona.knowledge_cutoff,
        "languages": listed(persona.languages),
        "traits": listed(persona.personality) if persona.personality else None,
        "skills": listed(persona.skills) if persona.skills else None,
        "sign_off": persona.style.sign_off,
    }
    values = {key: value for key, value in single.items() if value is not None}
    return values | {capital(key): capital(values[key]) for key in ("creator", "traits") if key in values}


def _known_slots(persona: Persona, values: Mapping[str, str]) -> set[str]:
    """Slots that `Dialogues` can fill in every conversation."""
    known = {*values, "greeting"}
    for name, items in (("skill", persona.skills), ("limit", persona.limits), ("like", persona.likes)):
        known |= {name, capital(name)} if items else set()
        known |= {f"{name}2"} if len(items) > 1 else set()
    return known


def _said(persona: Persona) -> set[str]:
    """What the persona speaks of itself, so that the grammar must not."""
    said = {"born"} if persona.born else set()
    words = " ".join((*persona.skills, *persona.limits, persona.purpose or "")).lower()
    return said | ({"online"} if any(word in words for word in ("web", "internet", "online", "network")) else set())


def _items(persona: Persona, speech: Speech) -> dict[str, Items]:
    """The lists that a topic's `of` may name."""
    own = f"{persona.name} {persona.creator or ''} {persona.kind}".lower()
    others = [other for other in speech.others if not {other.other.lower(), other.company.lower()} & _words(own)]

    def about(chosen: list[Other]) -> Items:
        return tuple(
            {"other": o.other, "company": o.company, "thing": o.thing, "a_company": with_article(o.company)}
            for o in chosen
        )

    def one_by_one(slot: str, entries: tuple[str, ...]) -> Items:
        return tuple({slot: entry} for entry in entries)

    spoken = {language.lower() for language in persona.languages}
    return {
        "others": about(others),
        "models": about([other for other in others if other.thing == "model"]),
        "large_models": about([other for other in others if other.large]),
        "nicknames": tuple(
            {"nickname": name, "a_nickname": with_article(name)}
            for name in speech.nicknames
            if name.lower() not in _words(own)
        ),
        "users": one_by_one("user", tuple(user for user in speech.users if user.lower() not in _words(own))),
        "skills": tuple({"skill": skill, "skill_you": other_person(skill)} for skill in persona.skills),
        "limits": tuple({"limit": limit, "limit_you": other_person(limit)} for limit in persona.limits),
        "languages": one_by_one("language", persona.languages),
        "not_spoken": one_by_one("language", tuple(n for n in speech.not_spoken if n.lower() not in spoken)),
        "traits": one_by_one("trait", persona.personality),
        "likes": one_by_one("like", persona.likes),
        "refuses": one_by_one("topic", persona.refuses),
    }


def _words(text: str) -> set[str]:
    words = text.replace(",", " ").replace(".", " ").split()
    return {*words, *(f"{first} {second}" for first, second in pairwise(words))}


def _fit(topic: Topic, known: set[str], lists: Mapping[str, Items]) -> Topic | None:
    """The topic with those of its templates whose slots have values; none if nothing is left to ask or answer."""
    items = lists[topic.of] if topic.of else ({},)
    if not items:
        return None
    known = known | set(items[0])
    ask = tuple(template for template in topic.ask if slots(template) <= known)
    answer = tuple(template for template in topic.answer if slots(template) <= known)
    if not ask or not answer:
        return None
    return topic.model_copy(update={"ask": ask, "answer": answer, "items": items})


def _foreign(persona: Persona, speech: Speech) -> list[Topic]:
    """Questions for the name in the persona's other languages."""
    found = []
    for english, language in speech.languages.items():
        if not {english.lower(), *map(str.lower, language.also)} & {name.lower() for name in persona.languages}:
            continue
        for kind, group in (("name", "who"), ("greeting", "who"), ("other", "other")):
            ask, answer = getattr(language, kind)
            found.append(
                Topic(
                    name=f"{kind} in {english}",
                    of="others" if kind == "other" else None,
                    weight=3 if kind == "name" else 1,
                    group=group,
                    chatty=False,
                    ask=ask,
                    answer=answer,
                    form="foreign",
                )
            )
    return found


def _closers(persona: Persona, speech: Speech) -> tuple[str, ...]:
    words = _words(" ".join(persona.personality).lower())
    if words & set(speech.silent):
        return ()
    fitting = [
        closer for traits, closers in speech.closers.items() if set(traits.split()) & words for closer in closers
    ]
    return (*speech.closers["any"], *fitting, *fitting)
