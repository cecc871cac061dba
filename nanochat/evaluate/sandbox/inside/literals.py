"""Values that cross the wall: literals of exact builtin types, in a form of bytes that a stranger may have written.

One byte says the type, then follow a length or count of four bytes and the content. Neither pickle nor marshal: both
run or trust what they read.
"""

import struct

BYTES = 2**20
DEPTH = 100
"""Limits of one value, written or read."""


class LiteralError(Exception):
    """A value is not a literal, too large, too deep, or its bytes are not what `encode` writes."""


def encode(value: object) -> bytes:
    """Write None, bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset and what they hold.

    Raises:
        LiteralError: for another type (subclasses too), or over the limits.
    """
    parts: list[bytes] = []
    _encode(value, parts, [BYTES], DEPTH)
    return b"".join(parts)


def decode(data: bytes) -> object:
    """Read what `encode` wrote.

    Raises:
        LiteralError: if it did not write this.
    """
    if len(data) > BYTES:
        raise LiteralError(f"{len(data)} bytes; at most {BYTES} are read")
    try:
        value, end = _decode(data, 0, DEPTH)
    except (IndexError, struct.error, UnicodeDecodeError, TypeError) as error:
        raise LiteralError(f"damaged: {error}") from None
    if end != len(data):
        raise LiteralError(f"{len(data) - end} bytes too many")
    return value


_CONSTANTS = {b"N": None, b"T": True, b"F": False}
_HELD = {list: b"l", tuple: b"t", set: b"e", frozenset: b"z"}
_MADE = {mark: kind for kind, mark in _HELD.items()}


def _encode(value: object, parts: list[bytes], left: list[int], depth: int) -> None:
    kind = type(value)
    if depth == 0:
        raise LiteralError(f"more than {DEPTH} containers inside each other")
    held: list[object] = []
    if value is None:
        part = b"N"
    elif kind is bool:
        part = b"T" if value else b"F"
    elif kind is int:
        part = _sized(b"i", value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True))
    elif kind is float:
        part = b"f" + struct.pack("<d", value)
    elif kind is complex:
        part = b"c" + struct.pack("<dd", value.real, value.imag)
    elif kind is str:
        part = _sized(b"s", value.encode("utf-8", "surrogatepass"))
    elif kind is bytes:
        part = _sized(b"b", value)
    elif kind is dict:
        part = b"d" + struct.pack("<I", len(value))
        held = [each for pair in value.items() for each in pair]
    elif kind in _HELD:
        part = _HELD[kind] + struct.pack("<I", len(value))
        held = list(value)
    else:
        raise LiteralError(f"{kind.__qualname__} is not a literal's type")
    left[0] -= len(part)
    if left[0] < 0:
        raise LiteralError(f"more than {BYTES} bytes")
    parts.append(part)
    for each in held:
        _encode(each, parts, left, depth - 1)


def _sized(mark: bytes, content: bytes) -> bytes:
    return mark + struct.pack("<I", len(content)) + content


def _decode(data: bytes, at: int, depth: int) -> tuple[object, int]:
    """A value and the place behind it."""
    if depth == 0:
        raise LiteralError(f"more than {DEPTH} containers inside each other")
    mark, at = data[at : at + 1], at + 1
    if mark in _CONSTANTS:
        return _CONSTANTS[mark], at
    if mark == b"f":
        return struct.unpack_from("<d", data, at)[0], at + 8
    if mark == b"c":
        return complex(*struct.unpack_from("<dd", data, at)), at + 16
    (size,) = struct.unpack_from("<I", data, at)
    at += 4
    if size > len(data) - at:
        raise LiteralError(f"a length of {size} with {len(data) - at} bytes left")
    if mark in (b"i", b"s", b"b"):
        content, at = data[at : at + size], at + size
        if mark == b"i":
            return int.from_bytes(content, "little", signed=True), at
        return (content.decode("utf-8", "surrogatepass") if mark == b"s" else content), at
    if mark != b"d" and mark not in _MADE:
        raise LiteralError(f"unknown type {mark!r}")
    held = []
    for _ in range(2 * size if mark == b"d" else size):
        value, at = _decode(data, at, depth - 1)
        held.append(value)
    if mark == b"d":
        return dict(zip(held[::2], held[1::2])), at
    return _MADE[mark](held), at
