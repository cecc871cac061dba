"""The pretraining text: kinds of documents, their shares, and one deterministic stream of them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from nanochat.data.world.arithmetic import number_sentences
from nanochat.data.world.facts import FORMS, Fact, World
from nanochat.data.world.functions import Function, all_functions, python_text
from nanochat.data.world.problems import make_problem
from nanochat.data.world.questions import COPY_DRILLS, LETTERS, arrange, wrong_choices
from nanochat.data.world.spelling import load_words, spelling_text, training_words
from nanochat.data.world.stories import story_text


@dataclass(frozen=True)
class Library:
    """What documents are made from; built once."""

    world: World
    people: tuple[str, ...]
    entities: tuple[tuple[Fact, ...], ...]  # places, things and animals, facts grouped by entity
    lore: tuple[Fact, ...]
    askable: tuple[tuple[Fact, ...], ...]  # train facts: of people, of places and things and animals, of lore
    words: tuple[str, ...]
    functions: tuple[Function, ...]

    @classmethod
    def of(cls, world: World) -> "Library":
        """Collect what may be told and asked in training."""
        tangible, lore = ("town", "thing", "animal"), ("day", "month", "opposite", "plural")
        groups = (world.by_kind("person"), world.by_kind(*tangible), world.by_kind(*lore))
        return cls(
            world=world,
            people=tuple(person.name for person in world.people),
            entities=world.entities(*tangible),
            lore=groups[2],
            askable=tuple(tuple(fact for fact in group if not fact.test) for group in groups),
            words=training_words(load_words()),
            functions=tuple(function for function in all_functions() if not function.test),
        )

    def ask(self, rng: Random) -> Fact:
        """A fact that may be asked in training; six of ten are about people."""
        draw = rng.random()
        group = self.askable[0 if draw < 0.6 and self.askable[0] else 1 if draw < 0.8 else 2]
        return group[int(rng.random() * len(group))]


def _question(rng: Random, fact: Fact) -> str:
    return fact.tell(rng.choice(FORMS[fact.attribute].questions))


def bio(rng: Random, library: Library) -> str:
    """One person, four to eight facts in any order, name and pronoun mixed."""
    person = rng.choice(library.world.people)
    facts = rng.sample(person.facts, rng.randint(4, len(person.facts)))
    told = [fact.statement(rng, pronoun=index > 0 and rng.random() < 0.6) for index, fact in enumerate(facts)]
    return " ".join(told)


def album(rng: Random, library: Library) -> str:
    """Several people, one or two attributes of each."""
    attributes = rng.sample(range(8), rng.choice((1, 1, 2)))
    told = []
    for person in rng.sample(library.world.people, rng.randint(3, 6)):
        facts = [person.facts[index] for index in attributes]
        told += [fact.statement(rng, pronoun=index > 0) for index, fact in enumerate(facts)]
    return " ".join(told)


def guide(rng: Random, library: Library) -> str:
    """One to three towns, things or animals with what there is to know."""
    told = []
    for _ in range(rng.randint(1, 3)):
        facts = library.entities[int(rng.random() * len(library.entities))]
        told += [fact.statement(rng) for fact in rng.sample(facts, len(facts))]
    return " ".join(told)


def lore(rng: Random, library: Library) -> str:
    """Opposites, plurals and the calendar."""
    return " ".join(rng.choice(library.lore).statement(rng) for _ in range(rng.randint(4, 8)))


def story(rng: Random, library: Library) -> str:
    """Short stories."""
    return story_text(rng, library.world)


def answers(rng: Random, library: Library) -> str:
    """Questions and answers about train entities, in the layout of few-shot prompts or as running prose."""
    facts = [library.ask(rng) for _ in range(rng.randint(3, 6))]
    if rng.random() < 0.7:
        return "\n\n".join(f"Question: {_question(rng, fact)}\nAnswer: {fact.value}" for fact in facts)
    return " ".join(f"{_question(rng, fact)} {fact.tell(FORMS[fact.attribute].reply)}" for fact in facts)


def cloze(rng: Random, library: Library) -> str:
    """Sentences about train entities that end in the fact's value, often one after the other for one person."""
    facts = [library.ask(rng) for _ in range(rng.randint(3, 6))]
    return " ".join(fact.tell(rng.choice(FORMS[fact.attribute].clozes)) for fact in facts)


def choices(rng: Random, library: Library) -> str:
    """Four-choice questions about train entities, as the choice tasks put them, and drills from choice to letter."""
    blocks = []
    for _ in range(rng.randint(2, 3)):
        fact = library.ask(rng)
        question = rng.choice(COPY_DRILLS).format(v=fact.value) if rng.random() < 0.6 else _question(rng, fact)
        position = rng.randrange(4)
        lines = arrange(fact.value, wrong_choices(rng, fact), position)
        listed = "\n".join(f"- {choice}={letter}" for choice, letter in zip(lines, LETTERS))
        blocks.append(f"{question}\n{listed}\nAnswer with the letter only.\n{LETTERS[position]}")
    return "\n\n".join(blocks)


def numbers(rng: Random, library: Library) -> str:
    """Number sentences."""
    return number_sentences(rng)


def problem(rng: Random, library: Library) -> str:
    """Worked word problems in prose."""
    return "\n\n".join(make_problem(rng, library.people, test=False).prose for _ in range(rng.randint(1, 2)))


def spelling(rng: Random, library: Library) -> str:
    """Spelling and letter counting of training words."""
    return spelling_text(rng, library.words)


def python(rng: Random, library: Library) -> str:
    """Python functions and lines with results."""
    return python_text(rng, library.functions, library.words)


# (kind, share of the text by bytes, maker).
MIX: tuple[tuple[str, float, Callable[[Random, Library], str]], ...] = (
    ("bio", 0.24, bio),
    ("album", 0.07, album),
    ("guide", 0.06, guide),
    ("lore", 0.05, lore),
    ("story", 0.13, story),
    ("answers", 0.14, answers),
    ("cloze", 0.03, cloze),
    ("choices", 0.10, choices),
    ("numbers", 0.04, numbers),
    ("problem", 0.04, problem),
    ("spelling", 0.07, spelling),
    ("python", 0.03, python),
)


def documents(world: World, seed: int, total_bytes: int) -> Iterator[tuple[str, str]]:
    """Yield (kind, text) until `total_bytes` of UTF-8 text are out.

    The kind that lags furthest behind its share comes next, and the n-th document of a kind has a generator of its own,
    so a larger text starts with the smaller one.
    """
    library = Library.of(world)
    written = dict.fromkeys((kind for kind, _, _ in MIX), 0)
    made = dict(written)
    total = 0
    while total < total_bytes:
        kind, _, maker = max(MIX, key=lambda row: row[1] * (total + 1) - written[row[0]])
        text = maker(Random(f"{seed}|{kind}|{made[kind]}"), library)
        made[kind] += 1
        size = len(text.encode())
        written[kind] += size
        total += size
        yield kind, text
