"""Conversations in the shape of SmolTalk rows: the world, small talk, instructions, stories, code."""

from collections.abc import Callable
from random import Random
from typing import Any

from nanochat.data.world import tables
from nanochat.data.world.facts import FORMS, Fact, World
from nanochat.data.world.functions import Function, all_functions
from nanochat.data.world.smalltalk import EXPLANATIONS, GREETINGS, POLITE, REPLIES_TO_GREETING, SMALL_TALK
from nanochat.data.world.splits import is_test_entity, is_test_story
from nanochat.data.world.stories import STORIES, Scene

Message = dict[str, str]
_NOUNS = {
    "town": "home town",
    "pet": "pet",
    "pet_name": "pet's name",
    "colour": "favourite colour",
    "job": "job",
    "food": "favourite food",
    "friend": "best friend",
    "hobby": "hobby",
}
_UNKNOWN = ("Zorro", "Quentin", "Xenia", "Yolanda", "Waldo", "Ursula", "Tobias", "Konrad")


def _turn(question: str, reply: str) -> list[Message]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": reply}]


class Chats:
    """Makes conversations of one split.

    Args:
        world: the world.
        test: ask about held-out entities, functions and combinations, else about all others.
    """

    def __init__(self, world: World, *, test: bool) -> None:
        self.world, self.test = world, test
        self.people = [person for person in world.people if person.test == test]
        self.tangible = [group for group in world.entities("town", "thing", "animal") if group[0].test == test]
        self.lore = [fact for fact in world.by_kind("day", "month", "opposite", "plural") if fact.test == test]
        self.functions: list[Function] = [function for function in all_functions() if function.test == test]

    def person(self, rng: Random) -> list[Message]:
        """One to three questions about a person, the later ones leaning on the first."""
        facts = rng.sample(rng.choice(self.people).facts, rng.choice((1, 1, 2, 2, 3)))
        messages = _turn(self._ask(rng, facts[0]), self._reply(facts[0]))
        for fact in facts[1:]:
            owner = "her" if fact.she else "his"
            form = rng.choice(FORMS[fact.attribute].questions)
            question = rng.choice(
                (
                    f"And {owner} {_NOUNS[fact.attribute]}?",
                    f"What about {owner} {_NOUNS[fact.attribute]}?",
                    fact.tell(form, pronoun="for" not in form and "of {s}" not in form and "with {s}" not in form),
                )
            )
            messages += _turn(question, self._reply(fact))
        return messages

    def portrait(self, rng: Random) -> list[Message]:
        """What there is to know about somebody or something."""
        if rng.random() < 0.5:
            facts = rng.choice(self.people).facts
            name = facts[0].subject
            question = rng.choice((f"Tell me about {name}.", f"Who is {name}?", f"What do you know about {name}?"))
        else:
            facts = rng.choice(self.tangible)
            name = facts[0].subject if facts[0].kind == "town" else f"a {facts[0].subject}"
            question = rng.choice(
                (f"Tell me about {name}.", f"Explain what {name} is.", f"What do you know about {name}?")
            )
        chosen = rng.sample(facts, min(3, len(facts)))
        told = [fact.tell(FORMS[fact.attribute].reply, pronoun=index > 0) for index, fact in enumerate(chosen)]
        return _turn(question, " ".join(told))

    def thing(self, rng: Random) -> list[Message]:
        """One or two questions about a town, a thing or an animal."""
        facts = rng.choice(self.tangible)
        messages = []
        for fact in rng.sample(facts, min(rng.choice((1, 2)), len(facts))):
            messages += _turn(self._ask(rng, fact), self._reply(fact))
        return messages

    def language(self, rng: Random) -> list[Message]:
        """Opposites, plurals, days and months."""
        messages = []
        for fact in rng.sample(self.lore, rng.choice((1, 1, 2))):
            messages += _turn(self._ask(rng, fact), self._reply(fact))
        return messages

    def check(self, rng: Random) -> list[Message]:
        """A yes-or-no question about a person."""
        fact = rng.choice(self.people).facts[0]  # the home town
        claim = fact.value if rng.random() < 0.5 else rng.choice([value for value in fact.pool if value != fact.value])
        answer = "Yes" if claim == fact.value else "No"
        return _turn(f"Does {fact.subject} live in {claim}?", f"{answer}, {self._reply(fact)}")

    def unknown(self, rng: Random) -> list[Message]:
        """A question about nobody the world knows."""
        name = rng.choice([name for name in _UNKNOWN if is_test_entity("unknown", name) == self.test] or _UNKNOWN[:1])
        form = rng.choice(FORMS[rng.choice(tuple(_NOUNS))].questions)
        return _turn(form.format(s=name, o=f"{name}'s"), f"I do not know anybody called {name}.")

    def small(self, rng: Random) -> list[Message]:
        """A greeting and one or two turns of small talk."""
        messages = []
        if rng.random() < 0.5:
            messages += _turn(rng.choice(GREETINGS) + rng.choice("!."), rng.choice(REPLIES_TO_GREETING))
        for questions, answers in rng.sample(SMALL_TALK, rng.choice((1, 1, 2))):
            messages += _turn(rng.choice(questions), rng.choice(answers))
        return messages

    def explain(self, rng: Random) -> list[Message]:
        """How to do something, why something is so."""
        question, answer = rng.choice(EXPLANATIONS)
        return _turn(rng.choice(POLITE) + question, answer)

    def instruct(self, rng: Random) -> list[Message]:
        """Do something with a few words."""
        while True:
            words = rng.sample([*tables.OBJECTS, *tables.FOODS, *tables.COLOURS], 3)
            if is_test_story(*words) == self.test:
                break
        listed, n = ", ".join(words), rng.randint(2, 4)
        start = rng.randint(1, 20)
        return _turn(
            *rng.choice(
                (
                    (f"Repeat after me: {listed}.", f"{listed}."),
                    (f"Say {words[0]} {n} times.", " ".join([words[0]] * n)),
                    (
                        f"Write {words[0]} and {words[1]} in capital letters.",
                        f"{words[0].upper()} and {words[1].upper()}",
                    ),
                    (f"Put these words in the order of the alphabet: {listed}.", ", ".join(sorted(words))),
                    (f"Which of these words is the last: {listed}?", words[-1]),
                    (f"Which of these words is the first: {listed}?", words[0]),
                    (f"Turn the list around: {listed}.", ", ".join(reversed(words))),
                    (f"Count from {start} to {start + 6}.", ", ".join(map(str, range(start, start + 7)))),
                )
            )
        )

    def tale(self, rng: Random) -> list[Message]:
        """A story on request."""
        scene = Scene(self.world, rng, self.test)
        maker = rng.choice([maker for maker, _ in STORIES[:5]])
        question = rng.choice(
            ("Tell me a story.", "Write a short story.", "I would like to hear a story.", "Story, please!")
        )
        return _turn(question, maker(scene))

    def code(self, rng: Random) -> list[Message]:
        """A Python function on request."""
        function = rng.choice(self.functions)
        name = rng.choice(function.names)
        task = function.doc.rstrip(".").replace("Return", "returns", 1)
        question = rng.choice(
            (
                f"Write a Python function {name}({function.argument}) that {task}.",
                f"I need a Python function that {task}. Call it {name}.",
                f"Show me a function {name} in Python. It {task}.",
            )
        )
        return _turn(question, f"```python\ndef {name}({function.argument}):\n{function.solution}```")

    def _ask(self, rng: Random, fact: Fact) -> str:
        question = fact.tell(rng.choice(FORMS[fact.attribute].questions))
        return rng.choice(POLITE) + question

    def _reply(self, fact: Fact) -> str:
        return fact.tell(FORMS[fact.attribute].reply)


# (source, share, maker).
KINDS: tuple[tuple[str, float, Callable[[Chats, Random], list[Message]]], ...] = (
    ("world-person", 0.30, Chats.person),
    ("world-portrait", 0.08, Chats.portrait),
    ("world-thing", 0.10, Chats.thing),
    ("world-language", 0.12, Chats.language),
    ("world-check", 0.04, Chats.check),
    ("world-unknown", 0.03, Chats.unknown),
    ("world-small-talk", 0.12, Chats.small),
    ("world-explain", 0.04, Chats.explain),
    ("world-instruct", 0.08, Chats.instruct),
    ("world-story", 0.04, Chats.tale),
    ("world-code", 0.05, Chats.code),
)


def dialogue_rows(world: World, seed: int, count: int, *, test: bool) -> list[dict[str, Any]]:
    """Rows `messages, source` of one split; small talk and explanations are the same in both, all else is disjoint."""
    chats = Chats(world, test=test)
    rng = Random(f"{seed}|dialogue|{test}")
    rows = []
    for source, _, maker in rng.choices(KINDS, [share for _, share, _ in KINDS], k=count):
        rows.append({"messages": maker(chats, rng), "source": source})
    return rows
