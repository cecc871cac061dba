"""The calculator: arithmetic and letter counting in model-written expressions, without `eval`."""

import ast
import math
import operator
import re
from collections.abc import Callable

MAX_LENGTH = 100
MAX_DEPTH = 20
MAX_OPERAND = 1e15
_COMMA_IN_NUMBER = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_LEADING_ZEROS = re.compile(r"(?<![\d.\w])0+(?=\d)")
_STRING = re.compile(r"('[^'\\]*'|\"[^\"\\]*\")")

Number = int | float
_OPERATORS: dict[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}


class _NotCalculableError(Exception):
    pass


def calculate(expression: str) -> str | None:
    """The value of an expression as a model writes it between `<|python_start|>` and `<|python_end|>`.

    Knows + - * / // %, brackets, signs, integer and decimal numbers (thousands commas and leading zeros allowed) and
    `'text'.count('t')`. Results read as in GSM8K: whole numbers without a point, others with up to ten significant
    digits. Parsed to a syntax tree of which only the nodes above are taken, so that nothing is ever executed; safe
    in any thread.

    Returns:
        The result, or None where the expression is anything else, too long, too large, or divides by zero.
    """
    text = expression.strip()
    if not text or len(text) > MAX_LENGTH or not text.isprintable() or "\\" in text:
        return None
    try:
        tree = ast.parse(_plain_numbers(text), mode="eval")
        return _format(_value(tree.body, MAX_DEPTH))
    except (
        _NotCalculableError,
        SyntaxError,
        ValueError,
        ZeroDivisionError,
        OverflowError,
        RecursionError,
        MemoryError,
    ):
        return None


def _plain_numbers(text: str) -> str:
    parts = _STRING.split(text)
    # Split by a group: odd parts are the string literals, which stay as they are.
    parts[::2] = [_LEADING_ZEROS.sub("", _COMMA_IN_NUMBER.sub("", part)) for part in parts[::2]]
    return "".join(parts)


def _checked(value: Number) -> Number:
    if not math.isfinite(value) or abs(value) >= MAX_OPERAND:
        raise _NotCalculableError
    return value


def _value(node: ast.expr, depth: int) -> Number:
    if depth == 0:
        raise _NotCalculableError
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return _checked(node.value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        value = _value(node.operand, depth - 1)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp):
        if type(node.op) not in _OPERATORS:
            raise _NotCalculableError
        return _checked(_OPERATORS[type(node.op)](_value(node.left, depth - 1), _value(node.right, depth - 1)))
    if isinstance(node, ast.Call):
        return _count(node)
    raise _NotCalculableError


def _count(call: ast.Call) -> int:
    """`'strawberry'.count('r')`, and no other call."""
    function = call.func
    if not (isinstance(function, ast.Attribute) and function.attr == "count" and len(call.args) == 1):
        raise _NotCalculableError
    texts = [node.value if isinstance(node, ast.Constant) else None for node in (function.value, call.args[0])]
    if call.keywords or not all(isinstance(text, str) and 0 < len(text) <= 64 for text in texts):
        raise _NotCalculableError
    return texts[0].count(texts[1])


def _format(value: Number) -> str:
    if isinstance(value, int):
        return str(value)
    rounded = float(f"{value:.10g}")
    if rounded == int(rounded):
        return str(int(rounded))
    return f"{rounded:.15f}".rstrip("0").rstrip(".")
