"""Number facts: sampling operand pairs of one split, and the number sentences of the pretraining text."""

from random import Random

from nanochat.data.world.splits import is_test_pair
from nanochat.data.world.tables import NUMBER_WORDS

WORDS = {"+": "plus", "-": "minus", "*": "times", "/": "divided by"}


def calculate(operation: str, a: int, b: int) -> int:
    """Result of `a operation b`; `/` must divide exactly.

    Raises:
        ValueError: for an unknown operation or an inexact division.
    """
    if operation == "+":
        return a + b
    if operation == "-":
        return a - b
    if operation == "*":
        return a * b
    if operation == "/" and b and a % b == 0:
        return a // b
    raise ValueError(f"calculate: {a} {operation} {b} is not an exact + - * /")


def sample_pair(rng: Random, operation: str, *, test: bool, largest: int = 20) -> tuple[int, int]:
    """Operands of one split, at least 1, with a result of at least 0 (1 for quotients).

    Args:
        rng: source of randomness.
        operation: one of `+ - * /`.
        test: draw from the held-out pairs, else from all others.
        largest: largest operand of sums and minuend of differences; factors and quotients go up to 10.
    """
    while True:
        a, b = rng.randint(1, largest), rng.randint(1, largest)
        if operation == "-" and a < b:
            a, b = b, a
        elif operation == "*":
            a, b = 1 + a % 10, 1 + b % 10
        elif operation == "/":
            b = 1 + b % 10
            a = b * (1 + a % 10)
        if is_test_pair(operation, a, b) == test:
            return a, b


def sum_question(rng: Random, operation: str, a: int, b: int) -> str:
    """A bare question for the result, in figures and words."""
    word = WORDS[operation]
    forms = (f"What is {a} {operation} {b}?", f"What is {a} {word} {b}?", f"How much is {a} {word} {b}?")
    return rng.choice(forms)


def number_sentences(rng: Random) -> str:
    """A document of number facts (training pairs only), countings and comparisons."""
    makers = (_table, _sentences, _sentences, _counting, _comparisons, _questions)
    return makers[int(rng.random() * len(makers))](rng)


def _draw(rng: Random) -> tuple[str, int, int, int]:
    operation = rng.choice("+++--*/")
    a, b = sample_pair(rng, operation, test=False, largest=rng.choice((9, 20, 20, 60)))
    return operation, a, b, calculate(operation, a, b)


def _sentences(rng: Random) -> str:
    parts = []
    for _ in range(rng.randint(4, 9)):
        operation, a, b, result = _draw(rng)
        forms = (
            f"{a} {operation} {b} = {result}.",
            f"{a} {WORDS[operation]} {b} is {result}.",
            f"{a} {WORDS[operation]} {b} makes {result}.",
            f"The result of {a} {operation} {b} is {result}.",
        )
        parts.append(rng.choice(forms))
    return " ".join(parts)


def _table(rng: Random) -> str:
    operation = rng.choice("+-*")
    b = rng.randint(1, 10)
    start = rng.randint(1, 10) + (b if operation == "-" else 0)
    rows = [(a, calculate(operation, a, b)) for a in range(start, start + 8) if not is_test_pair(operation, a, b)]
    return "\n".join(f"{a} {operation} {b} = {result}" for a, result in rows)


def _questions(rng: Random) -> str:
    blocks = []
    for _ in range(rng.randint(3, 6)):
        operation, a, b, result = _draw(rng)
        blocks.append(f"Question: {sum_question(rng, operation, a, b)}\nAnswer: {result}")
    return "\n\n".join(blocks)


def _counting(rng: Random) -> str:
    step, start = rng.choice((1, 1, 2, 5, 10)), rng.randint(0, 40)
    numbers = [start + step * k for k in range(rng.randint(6, 12))]
    if rng.random() < 0.3:
        numbers.reverse()
    lead = rng.choice(("Let us count: ", "Counting: ", f"In steps of {step}: ", ""))
    text = lead + ", ".join(map(str, numbers)) + "."
    words = rng.sample(range(len(NUMBER_WORDS)), 4)
    return text + " " + " ".join(f"The word for {n} is {NUMBER_WORDS[n]}." for n in words)


def _comparisons(rng: Random) -> str:
    parts = []
    for _ in range(rng.randint(4, 8)):
        a, b = rng.sample(range(1, 61), 2)
        low, high = min(a, b), max(a, b)
        forms = (
            f"{high} is more than {low}.",
            f"{low} is less than {high}.",
            f"Of {a} and {b}, the larger number is {high}.",
            f"Of {a} and {b}, the smaller number is {low}.",
            f"{a} is {'an even' if a % 2 == 0 else 'an odd'} number.",
            f"After {a} comes {a + 1}.",
        )
        parts.append(rng.choice(forms))
    return " ".join(parts)
