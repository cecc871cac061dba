"""Messages over a pipe: eight bytes of length, then as many bytes."""

import os

from . import literals

RESULT, ERROR, UNSENDABLE, READY = b"R", b"E", b"U", b"H"
"""First byte of an answer: a value, an exception (its type's name and message), a value of a type that is not sent
(the type's name), or, before all calls, that the program's definitions have been executed."""
BYTES = literals.BYTES + 1


class ChannelError(Exception):
    """The other side sends what is not a message."""


def send(descriptor: int, message: bytes) -> None:
    """Write a message.

    Raises:
        OSError: if the other side has closed the pipe.
    """
    data = memoryview(len(message).to_bytes(8, "little") + message)
    while data:
        data = data[os.write(descriptor, data) :]


def receive(descriptor: int) -> bytes:
    """Read a message.

    Raises:
        EOFError: if the other side has closed the pipe.
        ChannelError: if the message is longer than any can be.
    """
    size = int.from_bytes(_read(descriptor, 8), "little")
    if size > BYTES:
        raise ChannelError(f"a message of {size} bytes; at most {BYTES} are sent")
    return _read(descriptor, size)


def _read(descriptor: int, size: int) -> bytes:
    parts = []
    while size:
        part = os.read(descriptor, size)
        if not part:
            raise EOFError("the other side has closed the pipe")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
