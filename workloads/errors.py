"""What a user can mend, one sentence each: raised anywhere, told by the commands with status 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from itertools import islice
from typing import Any

LONGEST_NAME, MOST_NAMES = 200, 1000
"""Beyond them nobody mistyped anything, and comparing takes time that grows with both squared."""


def nearest(name: str, known: Iterable[str], cutoff: float = 0.4) -> str:
    """The name that was probably meant, "" where none is near.

    cutoff : how alike they must be, from 0 (there is always one) to 1.

    >>> nearest("writer", ["rows", "writers"]), nearest("zzz", ["rows", "writers"])
    ('writers', '')
    """
    among = list(islice(known, MOST_NAMES))
    found = difflib.get_close_matches(name[:LONGEST_NAME], among, n=1, cutoff=cutoff)
    return found[0] if found else ""


def shortened(value: Any, most: int = 80) -> str:
    """A value as a complaint names it: as Python writes it, and not longer than a line.

    >>> shortened("it"), shortened("x" * 200, 10)
    ("'it'", "'xxxxxxxx…")
    """
    if isinstance(value, (str, bytes)):
        value = value[: most + 1]
    try:
        said = repr(value)
    except (ValueError, RecursionError):  # 5,000 digits; lists in lists in lists
        return f"a value that is too large to show ({type(value).__name__})"
    return said if len(said) <= most else f"{said[: most - 1]}…"


class RunError(ValueError):
    """A folder or a file that cannot be read; the text says which, why, and the way out."""


class LaterVersion(RunError):
    """A file that a later cwkit wrote: what it says is not known here, so nothing is made of it."""
