"""What the world's test sets hold out: entities, operand pairs, words, function variants, stories.

Every fact about every entity is told in the pretraining text. What is held out is asking: question and answer, multiple
choice, cloze and chat forms occur in training for the other entities only.
"""

from nanochat.data.splits import held_out

QA_FRACTION = 0.25
PAIR_FRACTION = 0.1
WORD_FRACTION = 0.1
FUNCTION_FRACTION = 0.15
STORY_FRACTION = 0.1


def is_test_entity(kind: str, name: str) -> bool:
    """Whether questions about this entity (`kind` is `person`, `town`, …) are kept for the test sets."""
    return held_out(f"{kind}|{name}", QA_FRACTION, "qa")


def is_test_word(word: str) -> bool:
    """Whether this word is spelled and its letters counted in tests only."""
    return held_out(word, WORD_FRACTION, "word")


def is_test_function(family: str, variant: str) -> bool:
    """Whether this variant (constants, composition) of a function family is kept for the test set."""
    return held_out(f"{family}|{variant}", FUNCTION_FRACTION, "function")


def is_test_story(*parts: str) -> bool:
    """Whether this combination of people and things is told in tests only."""
    return held_out("|".join(parts), STORY_FRACTION, "story")


def is_test_pair(operation: str, a: int, b: int) -> bool:
    """Whether the sum, difference, product or quotient of these numbers is kept for the test sets.

    One number fact goes by one key: `12 + 7`, `7 + 12`, `19 - 7` and `19 - 12` share the pair {7, 12}; `3 * 4`,
    `4 * 3`, `12 / 3` and `12 / 4` share {3, 4}. So no test sum is told in training in another guise.

    Args:
        operation: one of `+ - * /`.
        a: first operand.
        b: second operand; for `/` it divides `a` exactly.

    Raises:
        ValueError: for another operation.
    """
    if operation == "+":
        kind, low, high = "add", a, b
    elif operation == "-":
        kind, low, high = "add", a - b, b
    elif operation == "*":
        kind, low, high = "multiply", a, b
    elif operation == "/":
        kind, low, high = "multiply", a // b, b
    else:
        raise ValueError(f"is_test_pair: operation {operation!r}, expected one of + - * /")
    return held_out(f"{kind}|{min(low, high)}|{max(low, high)}", PAIR_FRACTION, "pair")
