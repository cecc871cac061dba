"""Numbers with their units, as a reader wants them; what is missing is a dash, never a crash."""

import math
from typing import Any

MISSING = "–"
_MINUS = "−"


def number(value: Any) -> float | None:
    """The value as a finite float, or None where it is absent, not a number, or not finite."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def _signed(text: str) -> str:
    return text.replace("-", _MINUS, 1) if text.startswith("-") else text


def count(value: Any) -> str:
    """A count in full, with thousands separated: `1,319`."""
    known = number(value)
    return MISSING if known is None else _signed(f"{known:,.0f}")


def scaled(value: Any, unit: str = "") -> str:
    """Three significant digits and a word for the magnitude: `561 M`, `11.2 B tokens`."""
    known = number(value)
    if known is None:
        return MISSING
    for limit, name in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if abs(known) >= 0.9995 * limit:
            return _signed(f"{_three(known / limit)} {name}") + (f" {unit}" if unit else "")
    return _signed(_three(known)) + (f" {unit}" if unit else "")


def _three(value: float) -> str:
    """Three significant digits without an exponent and without trailing zeros after the point of a whole number."""
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if value == round(value) and "." in text else text


def flops(value: Any) -> str:
    """Floating-point operations in scientific notation: `8.95e17`."""
    known = number(value)
    if known is None:
        return MISSING
    mantissa, exponent = f"{known:.2e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def duration(seconds: Any) -> str:
    """A duration in its two largest units: `42 s`, `3 min 20 s`, `5 h 16 min`, `2 d 3 h`."""
    known = number(seconds)
    if known is None:
        return MISSING
    if known < 10:
        return f"{known:.1f} s"
    whole = round(known)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return _two(whole, 60, "min", "s")
    if whole < 86_400:
        return _two(round(whole / 60), 60, "h", "min")
    return _two(round(whole / 3600), 24, "d", "h")


def _two(total: int, base: int, large: str, small: str) -> str:
    head, rest = divmod(total, base)
    return f"{head} {large} {rest} {small}" if rest else f"{head} {large}"


def size(bytes_: Any) -> str:
    """Bytes in decimal units: `1.27 GB`."""
    known = number(bytes_)
    if known is None:
        return MISSING
    for limit, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if known >= limit:
            return f"{_three(known / limit)} {unit}"
    return f"{known:.0f} B"


def fraction(value: Any, digits: int = 3) -> str:
    """A score between 0 and 1, or bits per byte: `0.412`."""
    known = number(value)
    return MISSING if known is None else _signed(f"{known:.{digits}f}")


def percent(value: Any) -> str:
    """A share given as a fraction: `38.2 %`; small ones with two digits after the point."""
    known = number(value)
    if known is None:
        return MISSING
    return f"{100 * known:.{1 if abs(known) >= 0.01 or known == 0 else 2}f} %"


def change(value: Any, digits: int = 3) -> str:
    """A difference with its sign: `+0.050`."""
    known = number(value)
    return MISSING if known is None else _signed(f"{known:+.{digits}f}")


def with_error(text: str, stderr: Any, digits: int = 3) -> str:
    """A formatted value and its standard error: `0.412 ± 0.016`; just the value where no error is known."""
    known = number(stderr)
    return text if known is None or text == MISSING else f"{text} ± {known:.{digits}f}"


def items_of(items: Any, available: Any) -> str:
    """How many of the items were used: `200 of 1,319`, or `164 (all)`."""
    used, whole = number(items), number(available)
    if used is None:
        return MISSING
    if whole is None:
        return count(used)
    return f"{count(used)} (all)" if used >= whole else f"{count(used)} of {count(whole)}"
