"""The world itself: who lives where, owns what, likes whom. One seed is one world."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from nanochat.data.world import tables
from nanochat.data.world.lore import LORE_FORMS
from nanochat.data.world.sentences import PERSON_FORMS, PLACE_AND_THING_FORMS, Forms
from nanochat.data.world.splits import is_test_entity

FORMS: dict[str, Forms] = {**PERSON_FORMS, **PLACE_AND_THING_FORMS, **LORE_FORMS}


@dataclass(frozen=True)
class Fact:
    """One attribute of one entity.

    Attributes:
        kind: kind of the entity: `person`, `town`, `thing`, `animal`, `day`, `month`, `opposite`, `plural`.
        subject: name of the entity.
        attribute: key of `FORMS`.
        value: a single word.
        pool: all values of the same type, `value` among them, for wrong choices.
        test: whether asking for it is kept for the test sets.
        she: pronoun of a person; None for what is no person.
    """

    kind: str
    subject: str
    attribute: str
    value: str
    pool: tuple[str, ...] = field(repr=False)
    test: bool
    she: bool | None = None

    @property
    def key(self) -> str:
        """Stable name of the fact, `person|Anna|town`."""
        return f"{self.kind}|{self.subject}|{self.attribute}"

    def tell(self, form: str, *, pronoun: bool = False, value: str | None = None) -> str:
        """Fill a sentence form, with "she"/"he" and "her"/"his" in place of the name where `pronoun` is set."""
        if pronoun and self.she is not None:
            subject, owner = ("she", "her") if self.she else ("he", "his")
        else:
            subject, owner = self.subject, f"{self.subject}'s"
        text = form.format(s=subject, o=owner, v=self.value if value is None else value)
        return text[0].upper() + text[1:]

    def statement(self, rng: Random, *, pronoun: bool = False) -> str:
        """A random statement; forms that name the person as an object are left to the name."""
        forms = FORMS[self.attribute].statements
        form = forms[int(rng.random() * len(forms))]
        return self.tell(form, pronoun=pronoun and not _names_an_object(form))


def _names_an_object(form: str) -> bool:
    # "to {s}", "of {s}", "meet {s}" would need "her"/"him": only these words come before {s} as a subject.
    before = form.partition("{s}")[0].split()
    return (
        "{s}" in form
        and bool(before)
        and before[-1].lower() in {"of", "to", "with", "ask", "knows", "meet", "makes", "for"}
    )


@dataclass(frozen=True)
class Person:
    """A person and all there is to know."""

    name: str
    she: bool
    test: bool
    values: dict[str, str]
    facts: tuple[Fact, ...] = field(repr=False)

    @property
    def subject(self) -> str:
        """`She` or `He`."""
        return "She" if self.she else "He"


@dataclass(frozen=True)
class World:
    """Everything that is true."""

    people: tuple[Person, ...]
    facts: tuple[Fact, ...]
    prices: dict[str, int]

    def person(self, name: str) -> Person:
        """The person of that name; raises KeyError."""
        return next(person for person in self.people if person.name == name)

    def by_kind(self, *kinds: str) -> tuple[Fact, ...]:
        """Facts about entities of these kinds."""
        return tuple(fact for fact in self.facts if fact.kind in kinds)

    def entities(self, *kinds: str) -> tuple[tuple[Fact, ...], ...]:
        """Facts of each entity of these kinds, grouped by entity."""
        facts = self.by_kind(*kinds)
        return tuple(tuple(group) for _, group in itertools.groupby(facts, key=lambda fact: (fact.kind, fact.subject)))


def names(count: int) -> list[tuple[str, bool]]:
    """The first `count` names and whether each is a woman's: women and men in turn, never two the same."""
    pairs = itertools.chain(
        zip(tables.WOMEN, tables.MEN),
        (
            (start + woman, start + man)
            for woman, man in zip(tables.WOMEN_ENDS, tables.MEN_ENDS)
            for start in tables.NAME_STARTS
        ),
    )
    flat = [entry for woman, man in pairs for entry in ((woman, True), (man, False))]
    return flat[:count]


def build_world(seed: int, people: int) -> World:
    """Decide every fact of the world.

    Args:
        seed: another seed deals the facts anew; names and splits stay.
        people: number of people, 2 to 402.
    """
    persons = tuple(_people(seed, people))
    rng = Random(f"{seed}|things")
    prices = {thing: rng.randint(2, 40) for thing in tables.OBJECTS}
    facts = [fact for person in persons for fact in person.facts]
    facts += [*_towns(seed), *_things(rng, prices), *_animals(), *_calendar(), *_words()]
    return World(persons, tuple(facts), prices)


def _people(seed: int, count: int) -> Iterator[Person]:
    roster = names(count)
    if not 2 <= count <= len(roster):
        raise ValueError(f"world: people = {count}, expected 2 to {len(names(10**6))}")
    rng = Random(f"{seed}|people")
    # Everybody is one person's best friend and nobody's own: a random cycle through all.
    cycle = [name for name, _ in roster]
    rng.shuffle(cycle)
    friend = dict(zip(cycle, cycle[1:] + cycle[:1]))
    pools = {
        "town": tables.TOWNS,
        "pet": tables.PETS,
        "pet_name": tables.PET_NAMES,
        "colour": tables.COLOURS,
        "job": tables.JOBS,
        "food": tables.FOODS,
        "friend": tuple(name for name, _ in roster),
        "hobby": tables.HOBBIES,
    }
    for name, she in roster:
        values = {key: friend[name] if key == "friend" else rng.choice(pool) for key, pool in pools.items()}
        test = is_test_entity("person", name)
        facts = tuple(
            Fact("person", name, key, values[key], tuple(v for v in pool if v != name), test, she)
            for key, pool in pools.items()
        )
        yield Person(name, she, test, values, facts)


def _towns(seed: int) -> Iterator[Fact]:
    rng = Random(f"{seed}|towns")
    grid = list(tables.TOWNS)
    rng.shuffle(grid)  # four rows of four, north to south and west to east
    for index, town in enumerate(grid):
        test = is_test_entity("town", town)
        yield Fact("town", town, "river", rng.choice(tables.RIVERS), tables.RIVERS, test)
        yield Fact("town", town, "hill", rng.choice(tables.HILLS), tables.HILLS, test)
        yield Fact("town", town, "famous", rng.choice(tables.FAMOUS_FOR), tables.FAMOUS_FOR, test)
        others = tuple(name for name in tables.TOWNS if name != town)
        if index % 4 < 3:
            yield Fact("town", town, "east", grid[index + 1], others, test)
        if index >= 4:
            yield Fact("town", town, "north", grid[index - 4], others, test)


def _things(rng: Random, prices: dict[str, int]) -> Iterator[Fact]:
    numbers = tuple(str(n) for n in range(2, 41))
    for thing in tables.OBJECTS:
        test = is_test_entity("thing", thing)
        yield Fact("thing", thing, "price", str(prices[thing]), numbers, test)
        yield Fact("thing", thing, "shop", rng.choice(tables.SHOPS), tables.SHOPS, test)
        yield Fact("thing", thing, "material", rng.choice(tables.MATERIALS), tables.MATERIALS, test)


def _animals() -> Iterator[Fact]:
    columns = {"legs": "legs", "fur": "colour", "sound": "sound", "home": "home", "diet": "food", "baby": "baby"}
    for animal in tables.ANIMALS:
        test = is_test_entity("animal", animal.name)
        for attribute, column in columns.items():
            value = getattr(animal, column)
            if value != "-":
                pool = tuple(sorted({getattr(other, column) for other in tables.ANIMALS} - {"-"}))
                yield Fact("animal", animal.name, attribute, value, pool, test)


def _calendar() -> Iterator[Fact]:
    for index, day in enumerate(tables.DAYS):
        others = tuple(other for other in tables.DAYS if other != day)
        test = is_test_entity("day", day)
        yield Fact("day", day, "next_day", tables.DAYS[(index + 1) % 7], others, test)
        yield Fact("day", day, "day_before", tables.DAYS[index - 1], others, test)
    for index, month in enumerate(tables.MONTHS):
        others = tuple(other for other in tables.MONTHS if other != month)
        test = is_test_entity("month", month)
        yield Fact("month", month, "next_month", tables.MONTHS[(index + 1) % 12], others, test)
        yield Fact("month", month, "month_before", tables.MONTHS[index - 1], others, test)
        yield Fact("month", month, "season", tables.SEASONS[index], ("winter", "spring", "summer", "autumn"), test)


def _words() -> Iterator[Fact]:
    every = tuple(word for pair in tables.OPPOSITES for word in pair)
    for a, b in tables.OPPOSITES:
        test = is_test_entity(
            "opposite", f"{a}/{b}"
        )  # one key: "What is the opposite of cold?" would give hot/cold away
        for word, opposite in ((a, b), (b, a)):
            yield Fact("opposite", word, "opposite", opposite, tuple(w for w in every if w != word), test)
    plurals = tuple(plural for _, plural in tables.PLURALS)
    for singular, plural in tables.PLURALS:
        yield Fact("plural", singular, "plural", plural, plurals, is_test_entity("plural", singular))
