"""Writers of several modes on one database: "2:concurrent,2:immediate", as a plan's `begin`.

A manifest may come from anybody, so a text that is no such mix is a mode's name like any other.
"""

from __future__ import annotations

import re
from functools import lru_cache

PART = re.compile(r"(?P<many>[1-9]\d{0,2}):(?P<mode>[a-z][a-z_-]{0,40})")


@lru_cache(maxsize=64)
def parts_of_mix(text: str) -> tuple[tuple[int, str], ...]:
    """(how many, their mode) of each part of a mix; () for a text that is none.

    >>> parts_of_mix("2:concurrent,1:immediate"), parts_of_mix("concurrent")
    (((2, 'concurrent'), (1, 'immediate')), ())
    """
    found = [PART.fullmatch(part) for part in text.split(",", 64)]
    if not all(found):
        return ()
    return tuple((int(one["many"]), one["mode"]) for one in found if one)


def modes_of_mix(text: str, workers: int) -> list[str]:
    """The mode of each of so many workers: those of the mix if it has as many, else its text."""
    parts = parts_of_mix(text)
    if sum(many for many, _ in parts) != workers:
        return [text] * workers
    return [mode for many, mode in parts for _ in range(many)]
