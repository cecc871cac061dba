"""Which items are held out for testing: decided by a hash of the item's key, never by order or chance."""

import hashlib


def held_out(key: str, fraction: float, salt: str = "") -> bool:
    """Whether the item with this key belongs to the held-out part.

    The answer depends on the key and the salt only: it stays when items are added, removed or reordered, and it is
    the same in every process and on every machine.

    Args:
        key: stable text that names the item, such as a word, a question or `"person|Anna"`.
        fraction: share of all keys to hold out, from 0 (none) to 1 (all). A larger fraction holds out a superset.
        salt: separates independent splits over the same keys.

    Raises:
        ValueError: if the fraction is outside of 0 to 1.
    """
    if not 0.0 <= fraction <= 1.0:
        raise ValueError(f"held_out: fraction = {fraction}, expected a share from 0 to 1")
    digest = hashlib.sha256(f"{salt}|{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < fraction * 2.0**64
