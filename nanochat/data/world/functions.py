"""Simple Python functions with tests, in the shape of HumanEval items, and Python lines for the pretraining text."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from nanochat.data.world.arithmetic import calculate, sample_pair
from nanochat.data.world.splits import is_test_function

_INTEGERS = ((3,), (8,), (0,), (21,), (14,), (7,), (30,), (1,))
_LISTS = (([1, 2, 3],), ([10, 4, 25],), ([],), ([7, 30, 2, 16],), ([12, 5, 8, 1, 40],))
_STRINGS = (("banana",), ("tree",), ("hello",), ("sun",), ("little",))
_SUFFIXES = ("s", "ing", "ed", "er", "ly", "ful", "less", "ness", "ish", "y")
_PREFIXES = ("un", "re", "pre", "over", "mis", "out", "non", "sub")


@dataclass(frozen=True)
class Function:
    """A function of one argument.

    Attributes:
        family: id of the family.
        variant: its constants; `family|variant` is the key of the split.
        names: possible function names.
        doc: what it returns, one sentence.
        argument: name of the argument.
        expression: source of the returned value.
        call: the same in Python, for expected values.
        inputs: argument tuples to test it on.
    """

    family: str
    variant: str
    names: tuple[str, ...]
    doc: str
    argument: str
    expression: str
    call: Callable[[Any], Any]
    inputs: tuple[tuple[Any, ...], ...]

    @property
    def test(self) -> bool:
        """Whether the variant is kept for the test set."""
        return is_test_function(self.family, self.variant)

    def prompt(self, name: str, *, example: bool) -> str:
        """Signature and docstring, with a worked example where asked for (those of lists are too long)."""
        telling = [values for values in self.inputs if self.call(*values)]
        shown = min(telling, key=lambda values: len(repr((values, self.call(*values)))))
        lines = (
            f"\n    >>> {name}({shown[0]!r})\n    {self.call(*shown)!r}\n    "
            if example and self.argument != "xs"
            else ""
        )
        return f'def {name}({self.argument}):\n    """{self.doc}{lines}"""\n'

    @property
    def solution(self) -> str:
        """The body."""
        return f"    return {self.expression}\n"

    def checks(self, rng: Random) -> str:
        """A `check(candidate)` function; its expected values are never all the same."""
        inputs = list(self.inputs)
        rng.shuffle(inputs)
        first = inputs[0]
        other = next(values for values in inputs if self.call(*values) != self.call(*first))
        chosen = [first, other, *[values for values in inputs[1:] if values != other][:2]]
        asserts = "".join(f"    assert candidate({v[0]!r}) == {self.call(*v)!r}\n" for v in chosen)
        return f"def check(candidate):\n{asserts}"


def all_functions() -> tuple[Function, ...]:
    """Every function variant, in a fixed order."""
    return tuple([*_on_integers(), *_on_strings(), *_on_lists()])


def _on_integers() -> Iterator[Function]:
    def make(
        family: str, variant: str, names: tuple[str, ...], doc: str, expression: str, call: Callable[[int], Any]
    ) -> Function:
        return Function(family, variant, names, doc, "x", expression, call, _INTEGERS)

    for k in range(1, 21):
        names = (f"add_{k}", f"plus_{k}", f"more_by_{k}")
        yield make("add", f"{k}", names, f"Return x plus {k}.", f"x + {k}", lambda x, k=k: x + k)
        names = (f"subtract_{k}", f"minus_{k}", f"less_by_{k}")
        yield make("subtract", f"{k}", names, f"Return x minus {k}.", f"x - {k}", lambda x, k=k: x - k)
        names = (f"above_{k}", f"more_than_{k}")
        yield make("above", f"{k}", names, f"Return True if x is more than {k}.", f"x > {k}", lambda x, k=k: x > k)
    for k in range(2, 13):
        names = (f"times_{k}", f"multiply_by_{k}")
        yield make("times", f"{k}", names, f"Return x times {k}.", f"x * {k}", lambda x, k=k: x * k)
    for k in range(2, 8):
        names = (f"remainder_{k}", f"modulo_{k}")
        doc = f"Return the remainder of x divided by {k}."
        yield make("remainder", f"{k}", names, doc, f"x % {k}", lambda x, k=k: x % k)
        names = (f"divides_{k}", f"is_multiple_of_{k}")
        doc = f"Return True if {k} divides x."
        yield make("divides", f"{k}", names, doc, f"x % {k} == 0", lambda x, k=k: x % k == 0)
        for m in range(1, 8):
            names, doc = (f"times_{k}_plus_{m}",), f"Return x times {k}, plus {m}."
            yield make("times_plus", f"{k},{m}", names, doc, f"x * {k} + {m}", lambda x, k=k, m=m: x * k + m)
            names, doc = (f"plus_{m}_times_{k}",), f"Return the sum of x and {m}, times {k}."
            yield make("plus_times", f"{m},{k}", names, doc, f"(x + {m}) * {k}", lambda x, k=k, m=m: (x + m) * k)


def _on_strings() -> Iterator[Function]:
    def make(
        family: str, variant: str, names: tuple[str, ...], doc: str, expression: str, call: Callable[[str], Any]
    ) -> Function:
        inputs = _STRINGS
        if len({call(*values) for values in inputs}) < 2:  # a rare letter: add a word where it makes a difference
            inputs = (*inputs, (variant + "ab" + variant,))
        return Function(family, variant, names, doc, "s", expression, call, inputs)

    for k in range(1, 6):
        names = (f"first_{k}", f"start_{k}")
        yield make("first", f"{k}", names, f"Return the first {k} letters of s.", f"s[:{k}]", lambda s, k=k: s[:k])
        names = (f"last_{k}", f"end_{k}")
        yield make("last", f"{k}", names, f"Return the last {k} letters of s.", f"s[-{k}:]", lambda s, k=k: s[-k:])
        names = (f"repeat_{k + 1}", f"say_{k + 1}_times")
        doc = f"Return s written {k + 1} times."
        yield make("repeat", f"{k + 1}", names, doc, f"s * {k + 1}", lambda s, k=k: s * (k + 1))
    for end in _SUFFIXES:
        names, doc = (f"add_{end}", f"with_{end}"), f"Return s with {end} at the end."
        yield make("suffix", end, names, doc, f's + "{end}"', lambda s, e=end: s + e)
    for start in _PREFIXES:
        names, doc = (f"put_{start}", f"{start}_first"), f"Return s with {start} at the start."
        yield make("prefix", start, names, doc, f'"{start}" + s', lambda s, e=start: e + s)
    for c in "abcdefghilmnoprstu":
        names, doc = (f"count_{c}", f"how_many_{c}"), f"Return how many times {c} is in s."
        yield make("count", c, names, doc, f's.count("{c}")', lambda s, c=c: s.count(c))
        names, doc = (f"starts_with_{c}",), f"Return True if s starts with {c}."
        yield make("starts", c, names, doc, f's.startswith("{c}")', lambda s, c=c: s.startswith(c))
        names, doc = (f"has_{c}",), f"Return True if {c} is in s."
        yield make("has", c, names, doc, f'"{c}" in s', lambda s, c=c: c in s)


def _on_lists() -> Iterator[Function]:
    def make(
        family: str, variant: str, names: tuple[str, ...], doc: str, expression: str, call: Callable[[list[int]], Any]
    ) -> Function:
        return Function(family, variant, names, doc, "xs", expression, call, _LISTS)

    for k in range(1, 16):
        names, doc = (f"add_{k}_to_all", f"raise_all_by_{k}"), f"Return xs with {k} added to each."
        yield make("add_all", f"{k}", names, doc, f"[x + {k} for x in xs]", lambda xs, k=k: [x + k for x in xs])
        names, doc = (f"keep_above_{k}", f"only_above_{k}"), f"Return the numbers in xs that are more than {k}."
        yield make("keep", f"{k}", names, doc, f"[x for x in xs if x > {k}]", lambda xs, k=k: [x for x in xs if x > k])
        names, doc = (f"sum_plus_{k}", f"total_plus_{k}"), f"Return the sum of xs, plus {k}."
        yield make("sum_plus", f"{k}", names, doc, f"sum(xs) + {k}", lambda xs, k=k: sum(xs) + k)
    for k in range(2, 9):
        names, doc = (f"times_{k}_all", f"multiply_all_by_{k}"), f"Return xs with each times {k}."
        yield make("times_all", f"{k}", names, doc, f"[x * {k} for x in xs]", lambda xs, k=k: [x * k for x in xs])
    for k in range(1, 5):
        names, doc = (f"first_{k}_of", f"take_{k}"), f"Return the first {k} numbers of xs."
        yield make("take", f"{k}", names, doc, f"xs[:{k}]", lambda xs, k=k: xs[:k])
        names, doc = (f"drop_{k}", f"skip_{k}"), f"Return xs without its first {k} numbers."
        yield make("drop", f"{k}", names, doc, f"xs[{k}:]", lambda xs, k=k: xs[k:])


def python_text(rng: Random, functions: Sequence[Function], words: Sequence[str]) -> str:
    """A document of Python: training functions, or lines at the prompt with their results.

    Args:
        rng: source of randomness.
        functions: training functions.
        words: training words.
    """
    if rng.random() < 0.5:
        chosen = [functions[int(rng.random() * len(functions))] for _ in range(rng.randint(2, 3))]
        blocks = [f.prompt(rng.choice(f.names), example=rng.random() < 0.3) + f.solution for f in chosen]
        return "\n\n".join(blocks).rstrip()
    return "\n".join(_line(rng, rng.choice(words)) for _ in range(rng.randint(3, 7)))


def _line(rng: Random, word: str) -> str:
    kind = rng.randint(0, 5)
    if kind == 0:
        return f'>>> len("{word}")\n{len(word)}'
    if kind == 1:
        return f'>>> "{word}".upper()\n{word.upper()!r}'
    if kind == 2:
        k = rng.randint(1, 3)
        return f'>>> "{word}"[:{k}]\n{word[:k]!r}'
    if kind == 3:
        letter = rng.choice(word)
        return f">>> '{word}'.count('{letter}')\n{word.count(letter)}"
    if kind == 4:
        numbers = [rng.randint(1, 20) for _ in range(rng.randint(2, 4))]
        name, result = rng.choice((("max", max(numbers)), ("min", min(numbers)), ("len", len(numbers))))
        return f">>> {name}({numbers})\n{result}"
    operation = rng.choice("+-*")
    a, b = sample_pair(rng, operation, test=False)
    return f">>> {a} {operation} {b}\n{calculate(operation, a, b)}"
