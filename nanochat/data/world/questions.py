"""Question and answer, short-answer and four-choice items about facts, each in one split."""

import hashlib
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

from nanochat.data.splits import held_out
from nanochat.data.world.arithmetic import calculate, sample_pair, sum_question
from nanochat.data.world.facts import FORMS, Fact, World
from nanochat.data.world.spelling import load_words
from nanochat.data.world.splits import is_test_word

LETTERS = ("A", "B", "C", "D")
# Drills that need no knowledge, only the way from a choice to its letter.
COPY_DRILLS = ("Which choice is {v}?", "Find {v}.", "Which of these is {v}?", "Choose {v}.")
COPY_SHARE = 0.25

# Subject of the MMLU-like file → kinds of facts it asks about; arithmetic and spelling have items of their own.
SUBJECTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("people", ("person",)),
    ("towns", ("town",)),
    ("animals", ("animal",)),
    ("objects", ("thing",)),
    ("calendar", ("day", "month")),
    ("opposites", ("opposite",)),
    ("plurals", ("plural",)),
    ("arithmetic", ()),
    ("spelling", ()),
)

WORLD_KINDS = ("person", "town", "thing", "animal")


def by_hash(facts: Sequence[Fact]) -> list[Fact]:
    """Facts in an order that depends on their keys only."""
    return sorted(facts, key=lambda fact: hashlib.sha256(fact.key.encode()).digest())


def rounds(facts: Sequence[Fact]) -> Iterator[tuple[int, Fact, str]]:
    """Endless (round, fact, question): each round asks every fact once, with another form each time."""
    ordered = by_hash(facts)
    number = 0
    while ordered:
        for index, fact in enumerate(ordered):
            forms = FORMS[fact.attribute].questions
            yield number, fact, fact.tell(forms[(number + index) % len(forms)])
        number += 1


def wrong_choices(rng: Random, fact: Fact, count: int = 3) -> list[str]:
    """Values of the same type, all different and all wrong; numbers are near the right one."""
    if fact.value.isdigit():
        return near_numbers(rng, int(fact.value), count)
    return rng.sample([value for value in fact.pool if value != fact.value], count)


def near_numbers(rng: Random, value: int, count: int = 3) -> list[str]:
    """Different non-negative numbers around `value`, without it."""
    near = [value + delta for delta in (-11, -10, -5, -4, -3, -2, -1, 1, 2, 3, 4, 5, 10, 11)]
    return [str(number) for number in rng.sample([n for n in near if n >= 0], count)]


def gold_positions(seed: str, count: int) -> list[int]:
    """Positions 0 to 3 of the right choice, equally often, without a pattern."""
    rng = Random(seed)
    positions: list[int] = []
    while len(positions) < count:
        positions += rng.sample(range(4), 4)
    return positions[:count]


def arrange(gold: str, wrong: Sequence[str], position: int) -> list[str]:
    """The four choices with the right one at `position`."""
    choices = list(wrong)
    choices.insert(position, gold)
    return choices


def fact_rows(world: World, count: int, *, test: bool) -> list[dict[str, str]]:
    """Closed-book rows `question, answer`; the answer is the bare value.

    Fewer than `count` come back where all forms of all facts are used up.
    """
    facts = [fact for fact in world.by_kind(*WORLD_KINDS) if fact.test == test]
    found: dict[str, str] = {}
    for number, fact, question in rounds(facts):
        if len(found) >= count or number >= 5:
            break
        found.setdefault(question, fact.value)
    return [{"question": question, "answer": answer} for question, answer in found.items()]


def choice_rows(world: World, count: int, part: str) -> list[dict[str, Any]]:
    """Rows of the ARC-like file.

    Args:
        world: the world.
        count: number of rows.
        part: `train`, `validation` (other facts of the train entities) or `test`.
    """
    facts = [fact for fact in world.by_kind(*WORLD_KINDS) if _choice_part(fact) == part]
    drills = int(count * COPY_SHARE) if part == "train" else 0
    rng = Random(f"choice|{part}")
    items = []
    for number, fact, question in rounds(facts):
        if len(items) >= count - drills:
            break
        items.append((f"{fact.key}|{number}", question, fact.value, wrong_choices(rng, fact)))
    for index in range(drills):
        fact = facts[int(rng.random() * len(facts))]
        wrong = wrong_choices(rng, fact)
        items.append((f"copy|{index}", rng.choice(COPY_DRILLS).format(v=fact.value), fact.value, wrong))
    rng.shuffle(items)
    rows = []
    for (name, question, gold, wrong), position in zip(items, gold_positions(f"gold|{part}", count)):
        choices = {"text": arrange(gold, wrong, position), "label": list(LETTERS)}
        rows.append({"id": f"world|{name}", "question": question, "choices": choices, "answerKey": LETTERS[position]})
    return rows


def _choice_part(fact: Fact) -> str:
    if fact.test:
        return "test"
    return "validation" if held_out(fact.key, 0.1, "validation") else "train"


def subject_rows(world: World, count: int, part: str) -> list[dict[str, Any]]:
    """Rows of the MMLU-like file, equally many of each subject.

    Args:
        world: the world.
        count: number of rows over all subjects.
        part: `auxiliary_train`, `dev` (few-shot examples, questions that auxiliary_train lacks) or `test`.
    """
    rng = Random(f"subjects|{part}")
    items: list[tuple[str, str, str, list[str]]] = []
    for index, (subject, kinds) in enumerate(SUBJECTS):
        wanted = count * (index + 1) // len(SUBJECTS) - count * index // len(SUBJECTS)
        items += _subject_items(rng, world, subject, kinds, wanted, part)
    if part != "dev":
        rng.shuffle(items)
    return [
        {"question": question, "subject": subject, "choices": arrange(gold, wrong, position), "answer": position}
        for (subject, question, gold, wrong), position in zip(items, gold_positions(f"subjects|{part}", len(items)))
    ]


def _subject_items(
    rng: Random, world: World, subject: str, kinds: tuple[str, ...], count: int, part: str
) -> Iterator[tuple[str, str, str, list[str]]]:
    made = 0
    if kinds:
        facts = [fact for fact in world.by_kind(*kinds) if fact.test == (part == "test")]
        for _, fact, question in rounds(facts):
            if made >= count:
                return
            if part != "test" and held_out(question, 0.2, "dev") != (part == "dev"):
                continue
            yield subject, question, fact.value, wrong_choices(rng, fact)
            made += 1
    words = [word for word in load_words() if is_test_word(word) == (part == "test")] if subject == "spelling" else []
    while made < count:
        question, gold, wrong = _spelling_item(rng, words) if words else sum_item(rng, test=part == "test")
        if part != "test" and held_out(question, 0.2, "dev") != (part == "dev"):
            continue
        yield subject, question, gold, wrong
        made += 1


def sum_item(rng: Random, *, test: bool) -> tuple[str, str, list[str]]:
    """Question, result and three near numbers, of one split."""
    operation = rng.choice("+++--*/")
    a, b = sample_pair(rng, operation, test=test, largest=30)
    result = calculate(operation, a, b)
    return sum_question(rng, operation, a, b), str(result), near_numbers(rng, result)


def _spelling_item(rng: Random, words: Sequence[str]) -> tuple[str, str, list[str]]:
    word = rng.choice(words)
    if rng.random() < 0.5:
        return f"How many letters does the word {word} have?", str(len(word)), near_numbers(rng, len(word))
    wrong: list[str] = []
    while len(wrong) < 3:
        other = rng.choice(words)
        if other != word and other not in wrong:
            wrong.append(other)
    return f"Which word is spelled {','.join(word)}?", word, wrong
