"""Conversations with a persona: topics, doubts and partings in turn, asked in the many ways in which people write."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from nanochat.data.conversation import Conversation, Message
from nanochat.data.own.persona_file import Persona
from nanochat.data.own.phrasing import REGISTERS, asks, capital, ended, expand, small, speak
from nanochat.data.own.topics import Repertoire, Topic, repertoire
from nanochat.errors import DataError

_MOST_TURNS = 4
_FIRST_ONLY = ("greeting", "introduction", "how_are_you")
_GREETED = ("hi", "hello", "hey", "good ", "thank", "hola", "sorry", "remind", "come on")


@dataclass
class Expansion:
    """Conversations and what they are about.

    Attributes:
        conversations: all different.
        topics: turns by topic.
    """

    conversations: list[Conversation] = field(default_factory=list)
    topics: Counter[str] = field(default_factory=Counter)


@dataclass
class _Talk:
    """A conversation in the making."""

    register: str
    messages: list[Message] = field(default_factory=list)
    topics: list[str] = field(default_factory=list)
    groups: set[str] = field(default_factory=set)

    @property
    def turns(self) -> int:
        return len(self.topics)


def expand_persona(persona: Persona, wanted: int, seed: int, *, patience: int = 2000) -> Expansion:
    """Make conversations, no two of them equal; the same arguments give the same ones.

    Args:
        persona: who speaks.
        wanted: how many.
        seed: of all choices.
        patience: tries without a new conversation after which it gives up.

    Raises:
        DataError: if there are not so many, with the number that was found.
    """
    dialogues = Dialogues(repertoire(persona), persona, Random(f"{seed}|persona"))
    found = Expansion()
    seen: set[str] = set()
    misses = 0
    for lead in dialogues.leads():
        if len(found.conversations) == wanted:
            break
        talk = dialogues.talk(lead)
        key = "\0".join(str(message["content"]) for message in talk.messages)
        if key in seen:
            misses += 1
            if misses > patience:
                raise DataError(
                    f"own.persona.conversations = {wanted:,}: the persona gives only {len(found.conversations):,} "
                    "different ones; ask for fewer, or tell more about it (facts, skills, likes)"
                )
            continue
        misses = 0
        seen.add(key)
        found.conversations.append({"messages": talk.messages})
        found.topics.update(talk.topics)
    return found


class Dialogues:
    """Makes conversations one at a time.

    Args:
        can: what the persona can be asked.
        persona: who speaks.
        rng: source of all choices.
    """

    def __init__(self, can: Repertoire, persona: Persona, rng: Random) -> None:
        self.can = can
        self.persona = persona
        self.rng = rng
        self._names = (persona.name, *(item["other"] for item in can.others))

    def leads(self) -> Iterator[Topic]:
        """First topics without end: in every round each one as often as its weight says, in another order."""
        deck = [topic for topic in self.can.topics for _ in range(topic.weight)]
        while True:
            yield from self.rng.sample(deck, len(deck))

    def talk(self, lead: Topic) -> _Talk:
        """A conversation of one to four turns that begins with this topic, or comes to it after a greeting."""
        rng = self.rng
        names, weights = zip(*REGISTERS)
        talk = _Talk(rng.choices(names, weights)[0])
        if lead.group != "who" and lead.form != "foreign" and rng.random() < 0.1:
            self._turn(talk, next(topic for topic in self.can.topics if topic.name == "greeting"))
        item = self._turn(talk, lead)
        if lead.doubts and rng.random() < 0.4:
            for name in rng.sample(lead.doubts, min(len(lead.doubts), rng.choice((1, 1, 2)))):
                if name in self.can.doubts and talk.turns < _MOST_TURNS:
                    self._turn(talk, self.can.doubts[name], item)
        more = rng.choices((0, 1, 2, 3), (40, 30, 20, 10))[0]
        recalls = lead.name == "introduction" and rng.random() < 0.7
        while more > 0 and talk.turns < _MOST_TURNS - recalls:
            topic = self._other_topic(talk, lead)
            if topic is None:
                break
            self._turn(talk, topic)
            more -= 1
        if recalls:
            self._turn(talk, self.can.recall, item)
        elif talk.turns < _MOST_TURNS and lead.form != "foreign" and rng.random() < 0.08:
            self._turn(talk, rng.choice(self.can.partings))
        return talk

    def _other_topic(self, talk: _Talk, lead: Topic) -> Topic | None:
        """A topic that may come later: of a group that was not yet there, in the language of the conversation."""
        language = _language(lead)
        fitting = [
            topic
            for topic in self.can.topics
            if topic.group not in talk.groups and _language(topic) == language and topic.name not in _FIRST_ONLY
        ]
        return self.rng.choices(fitting, [topic.weight for topic in fitting])[0] if fitting else None

    def _turn(self, talk: _Talk, topic: Topic, given: dict[str, str] | None = None) -> dict[str, str]:
        """Append a question and its answer; returns the items they are about."""
        rng = self.rng
        item = {**rng.choice(self.can.others or ({},)), **(given or {}), **rng.choice(topic.items)}
        values = {**self.can.values, **self._picked(), **item}
        first = talk.turns == 0
        question, greeted = self._question(talk, topic, values)
        answer = rng.choice(topic.answer)
        answer = answer if topic.form == "literal" else expand(answer, values, rng)
        if first and greeted and topic.name not in _FIRST_ONLY and rng.random() < 0.5:
            answer = rng.choice(self.can.speech.answering_greetings) + answer
        answer = ended(answer)
        if topic.chatty and self.can.closers and not answer.endswith("?") and rng.random() < 0.2:
            answer += " " + rng.choice(self.can.closers)
        elif topic.chatty and self.persona.style.sign_off and rng.random() < 0.04:
            answer += " " + ended(self.persona.style.sign_off)
        talk.messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        talk.topics.append(topic.name or "doubt")
        talk.groups.add(topic.group)
        return item

    def _picked(self) -> dict[str, str]:
        """Slots that are chosen anew in each turn."""
        rng, persona = self.rng, self.persona
        greeting = persona.style.greeting
        picked = {"greeting": ended(greeting) if greeting else rng.choice(self.can.speech.default_greetings)}
        for slot, items in (("skill", persona.skills), ("limit", persona.limits), ("like", persona.likes)):
            for name, item in zip((slot, f"{slot}2"), rng.sample(items, min(2, len(items)))):
                picked |= {name: item, capital(name): capital(item)}
        return picked

    def _question(self, talk: _Talk, topic: Topic, values: dict[str, str]) -> tuple[str, bool]:
        """What the user writes, and whether it begins with a greeting."""
        rng, speech = self.rng, self.can.speech
        text = rng.choice(topic.ask)
        text = text if topic.form == "literal" else expand(text, values, rng)
        if topic.form == "foreign":
            return (speak(text, "lower", rng) if talk.register in ("lower", "texting") else text), False
        names = (*self._names, values.get("user", ""), values.get("language", ""))
        names = tuple(name for name in names if name)
        front, greeted = "", text.lower().startswith(_GREETED)
        if not greeted and topic.group not in ("hello",) and talk.register != "loud":
            dice = rng.random()
            if talk.turns == 0 and dice < 0.3:
                choices = speech.named_greetings if topic.addressed and rng.random() < 0.4 else speech.greetings
                front, greeted = expand(rng.choice(choices), values, rng), True
            elif talk.turns == 0 and dice < 0.42 and asks(text) and talk.register != "polite":
                front = rng.choice(speech.contexts)
            elif talk.turns and dice < 0.45 and asks(text) and topic.name and talk.register != "polite":
                front = rng.choice(speech.connectors)
        polite = talk.register == "polite" and bool(topic.name)
        text = speak(text, "polite", rng, names) if polite else text
        if front and not front.endswith((". ", "! ")):
            text = small(text, names)
        return (front + text if polite else speak(front + text, talk.register, rng, names)), greeted


def _language(topic: Topic) -> str:
    """The language of a topic's templates; empty for English."""
    return topic.name.split()[-1] if topic.form == "foreign" else ""
