"""The ways in which workers come by their connections, by the names that a plan has for them."""

from __future__ import annotations

import re

KEPT, PER_TRANSACTION = "kept", "per-transaction"
POOL = re.compile(r"pool:(?P<many>[1-9]\d{0,2})")


def pool_of(connection: str) -> int:
    """How many connections the workers share; 0 where each has its own.

    Raises ValueError for a text that is no way to connect.

    >>> pool_of("kept"), pool_of("shared"), pool_of("pool:3")
    (0, 1, 3)
    """
    if connection in (KEPT, PER_TRANSACTION):
        return 0
    if connection == "shared":
        return 1
    if found := POOL.fullmatch(connection):
        return int(found["many"])
    raise ValueError("give kept, per-transaction, shared, or pool:N with N from 1 to 999")
