"""Word problems in GSM8K markup: families from one step to three, with dials of difficulty."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from nanochat.data.world.arithmetic import calculate, sum_question
from nanochat.data.world.splits import is_test_pair
from nanochat.data.world.tables import COUNTABLES

LARGEST_RESULT = 99


@dataclass(frozen=True)
class Problem:
    """A word problem.

    Attributes:
        family: id of the family, the first entry of a row of `FAMILIES`.
        steps: number of calculations.
        question: the text, with a question at its end.
        answer: one line per calculation with `<<a+b=c>>` marks, then `#### result`.
    """

    family: str
    steps: int
    question: str
    answer: str

    @property
    def prose(self) -> str:
        """Question and worked answer without marks, as pretraining text."""
        lines = re.sub(r"<<[^>]*>>", "", self.answer).split("\n")
        return f"{self.question} {' '.join(lines[:-1])} The answer is {lines[-1].removeprefix('#### ')}."


@dataclass
class Draft:
    """A problem in the making: who, what, and the calculations so far."""

    rng: Random
    people: tuple[str, ...]
    test: bool
    distractors: float
    lines: list[str] = field(default_factory=list)
    pairs: list[tuple[str, int, int]] = field(default_factory=list)
    valid: bool = True
    result: int = 0

    def __post_init__(self) -> None:
        self.one, self.two, self.three = self.rng.sample(self.people, 3)
        self.thing, self.things = self.rng.choice(COUNTABLES)
        self.other = self.rng.choice([plural for _, plural in COUNTABLES if plural != self.things])

    def number(self, low: int, high: int) -> int:
        """A random operand."""
        return self.rng.randint(low, high)

    def pick(self, *forms: str) -> str:
        """One of several wordings."""
        return self.rng.choice(forms)

    def step(self, before: str, operation: str, a: int, b: int, after: str = "") -> int:
        """Write one calculation down and return its result; an unusable one makes the draft invalid."""
        if operation == "/" and (b == 0 or a % b):
            self.valid = False
            return 1
        result = calculate(operation, a, b)
        self.valid = self.valid and 1 <= result <= LARGEST_RESULT
        self.pairs.append((operation, a, b))
        tail = f" {after}." if after else "."
        self.lines.append(f"{before} {a} {operation} {b} = <<{a}{operation}{b}={result}>>{result}{tail}".strip())
        self.result = result
        return result

    def aside(self) -> str:
        """Sometimes a sentence that has nothing to do with the question, often with a number in it."""
        if self.rng.random() >= self.distractors:
            return " "
        n = self.number(2, 12)
        return " " + self.pick(
            f"{self.one} is {n} years old. ",
            f"{self.three} has {n} {self.other}. ",
            f"There are {n} chairs in the room. ",
            f"It is {n} in the morning. ",
            "It is a sunny day. ",
            f"{self.one} sings a song. ",
        )

    @property
    def fits_split(self) -> bool:
        """Test problems hold at least one held-out pair, training problems none."""
        return self.valid and any(is_test_pair(*pair) for pair in self.pairs) == self.test


def _bare(d: Draft) -> str:
    operation = d.rng.choice("+-*/")
    b = d.number(2, 30 if operation in "+-" else 9)
    a = d.number(2, 60) if operation in "+-" else d.number(2, 9) * (b if operation == "/" else 1)
    d.step("", operation, a, b)
    return sum_question(d.rng, operation, a, b)


def _more(d: Draft) -> str:
    a, b = d.number(2, 50), d.number(2, 40)
    got = d.pick(f"{d.two} gives {d.one} {b} more.", f"Then {d.one} finds {b} more.", f"{d.one} buys {b} more.")
    d.step(f"{d.one} has", "+", a, b, d.things)
    return f"{d.one} has {a} {d.things}.{d.aside()}{got} How many {d.things} does {d.one} have now?"


def _less(d: Draft) -> str:
    a, b = d.number(5, 60), d.number(2, 40)
    lost = d.pick(f"{d.one} gives {b} to {d.two}.", f"{d.one} loses {b} of them.", f"{d.two} takes {b} away.")
    d.step(f"{d.one} has", "-", a, b, d.things)
    return f"{d.one} has {a} {d.things}.{d.aside()}{lost} How many {d.things} are left?"


def _rows(d: Draft) -> str:
    a, b = d.number(2, 10), d.number(2, 10)
    d.step("There are", "*", a, b, d.things)
    place = d.pick("boxes", "bags", "rows", "baskets")
    start = d.pick(
        f"There are {a} {place} with {b} {d.things} in each.",
        f"{d.one} has {a} {place}. In each there are {b} {d.things}.",
    )
    return f"{start}{d.aside()}How many {d.things} are there?"


def _share(d: Draft) -> str:
    b = d.number(2, 9)
    a = b * d.number(2, 10)
    d.step("Each gets", "/", a, b, d.things)
    return (
        f"{d.one} shares {a} {d.things} among {b} {d.pick('friends', 'children', 'boxes')}.{d.aside()}"
        f"{d.pick('How many does each get?', f'How many {d.things} go to each?')}"
    )


def _compare(d: Draft) -> str:
    a, b = d.number(3, 50), d.number(2, 30)
    word, operation = d.pick("more +", "fewer -").split()
    d.step(f"{d.two} has", operation, a, b, d.things)
    first = f"{d.one} has {a} {d.things}."
    second = f"{d.two} has {b} {d.things} {word} than {d.one}."
    order = f"{first}{d.aside()}{second}" if d.rng.random() < 0.7 else f"{second}{d.aside()}{first}"
    return f"{order} How many {d.things} does {d.two} have?"


def _difference(d: Draft) -> str:
    a, b = d.number(5, 60), d.number(2, 50)
    d.step("", "-", a, b, d.things)
    return (
        f"{d.one} has {a} {d.things}. {d.two} has {b} {d.things}.{d.aside()}"
        f"How many more {d.things} than {d.two} does {d.one} have?"
    )


def _start(d: Draft) -> str:
    left, gone = d.number(2, 40), d.number(2, 40)
    d.step("At first", "+", left, gone, d.things)
    return (
        f"{d.one} gives {gone} {d.things} to {d.two} and has {left} left.{d.aside()}"
        f"How many {d.things} did {d.one} have at first?"
    )


def _gain_loss(d: Draft) -> str:
    a, b, c = d.number(2, 40), d.number(2, 20), d.number(2, 20)
    gain, loss = f"{d.one} finds {b} more.", f"{d.one} gives {c} to {d.two}."
    if d.rng.random() < 0.5:
        d.step("", "-", d.step("", "+", a, b, d.things), c, f"{d.things} left")
        middle = f"{gain} Then {loss}"
    else:
        d.step("", "+", d.step("", "-", a, c, d.things), b, d.things)
        middle = f"{loss} Then {gain}"
    return f"{d.one} has {a} {d.things}.{d.aside()}{middle} How many {d.things} does {d.one} have now?"


def _shop(d: Draft) -> str:
    count, price, paid = d.number(2, 9), d.number(2, 9), d.number(10, 60)
    d.step("Change", "-", paid, d.step("Cost", "*", count, price, "coins"), "coins")
    return (
        f"One {d.thing} costs {price} coins. {d.one} buys {count} {d.things} and pays with {paid} coins.{d.aside()}"
        f"How many coins does {d.one} get back?"
    )


def _together(d: Draft) -> str:
    a, times = d.number(2, 15), d.number(2, 5)
    d.step("Together", "+", a, d.step(f"{d.two} has", "*", a, times, d.things), d.things)
    return (
        f"{d.one} has {a} {d.things}.{d.aside()}{d.two} has {times} times as many {d.things} as {d.one}. "
        "How many do they have together?"
    )


def _groups_left(d: Draft) -> str:
    a, b, c = d.number(2, 9), d.number(2, 9), d.number(2, 30)
    d.step("Left", "-", d.step("", "*", a, b, d.things), c, d.things)
    return (
        f"{d.one} has {a} bags with {b} {d.things} in each.{d.aside()}{d.one} gives {c} {d.things} to {d.two}. "
        f"How many {d.things} are left?"
    )


def _share_rest(d: Draft) -> str:
    c = d.number(2, 8)
    b = d.number(2, 20)
    a = b + c * d.number(2, 6)
    d.step("Each gets", "/", d.step("", "-", a, b, d.things), c, d.things)
    return (
        f"{d.one} has {a} {d.things}. {d.one} keeps {b} and shares the rest among {c} friends.{d.aside()}"
        f"How many {d.things} does each friend get?"
    )


def _bags_change(d: Draft) -> str:
    a, bags, each, gone = d.number(2, 20), d.number(2, 6), d.number(2, 9), d.number(2, 20)
    bought = d.step("", "*", bags, each, d.things)
    d.step("Left", "-", d.step("", "+", a, bought, d.things), gone, d.things)
    return (
        f"{d.one} has {a} {d.things} and buys {bags} bags with {each} {d.things} in each.{d.aside()}"
        f"Then {d.one} gives {gone} to {d.two}. How many {d.things} does {d.one} have now?"
    )


def _bill(d: Draft) -> str:
    a, p, b, q = d.number(2, 6), d.number(2, 9), d.number(2, 6), d.number(2, 9)
    first = d.step("", "*", a, p, "coins")
    d.step("Total", "+", first, d.step("", "*", b, q, "coins"), "coins")
    return (
        f"{d.one} buys {a} {d.things} for {p} coins each and {b} {d.other} for {q} coins each.{d.aside()}"
        f"How many coins does {d.one} pay?"
    )


def _earn_share(d: Draft) -> str:
    days, pay, spent = d.number(2, 7), d.number(3, 9), d.number(2, 20)
    friends = d.number(2, 5)
    rest = d.step("", "-", d.step("", "*", days, pay, "coins"), spent, "coins")
    d.step("Each gets", "/", rest, friends, "coins")
    return (
        f"{d.one} earns {pay} coins a day and works {days} days.{d.aside()}{d.one} spends {spent} coins and shares the "
        f"rest among {friends} friends. How many coins does each friend get?"
    )


# (family, steps, weight, maker): the weight is the family's share of the task file.
FAMILIES: tuple[tuple[str, int, float, Callable[[Draft], str]], ...] = (
    ("bare", 1, 0.05, _bare),
    ("more", 1, 0.04, _more),
    ("less", 1, 0.04, _less),
    ("rows", 1, 0.04, _rows),
    ("share", 1, 0.04, _share),
    ("compare", 1, 0.05, _compare),
    ("difference", 1, 0.04, _difference),
    ("start", 1, 0.04, _start),
    ("gain_loss", 2, 0.08, _gain_loss),
    ("shop", 2, 0.08, _shop),
    ("together", 2, 0.08, _together),
    ("groups_left", 2, 0.08, _groups_left),
    ("share_rest", 2, 0.08, _share_rest),
    ("bags_change", 3, 0.09, _bags_change),
    ("bill", 3, 0.09, _bill),
    ("earn_share", 3, 0.08, _earn_share),
)


def make_problem(
    rng: Random, people: tuple[str, ...], *, test: bool, family: str | None = None, distractors: float = 0.5
) -> Problem:
    """Draw a word problem of one split.

    Args:
        rng: source of randomness.
        people: names to choose from, at least three.
        test: with at least one held-out operand pair, else with none.
        family: id of the family; none draws one by `FAMILIES` weights.
        distractors: chance of a sentence that has nothing to do with the question.
    """
    weights = [weight for _, _, weight, _ in FAMILIES]
    known = {name: (name, steps, weight, maker) for name, steps, weight, maker in FAMILIES}
    chosen = known[family] if family else rng.choices(FAMILIES, weights)[0]
    while True:
        draft = Draft(rng, people, test, distractors)
        question = " ".join(chosen[3](draft).split())
        if draft.fits_split:
            answer = "\n".join([*draft.lines, f"#### {draft.result}"])
            return Problem(chosen[0], chosen[1], question, answer)
