"""Footprints: the rows that a scenario's transactions touch, as chances and for one draw exactly.

`footprint()` and `touches(draw)` are both optional for a scenario. Without them a run is counted
and checked as any other, and only the questions about conflicts stay without an answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

__all__ = ["Footprint", "NoFootprint", "Touch"]


class Touch(NamedTuple):
    """One row that one transaction touches. row : its id. wrote : not only read."""

    table: str
    row: int
    wrote: bool


class NoFootprint(ValueError):
    """A scenario has no footprint; the text is the reason."""


class Footprint(NamedTuple):
    """The rows that one transaction of a scenario's writers touches, as chances.

    table      : whose rows. Their ids are 0 to rows - 1 and were loaded in this order.
    kinds      : the kinds of transactions that may write, and so may be refused.
    operations : how many rows such a transaction draws, each on its own.
    reads      : float array, shape (rows,): chance that one draw only reads the row.
    writes     : float array, shape (rows,): chance that one draw writes it (read before or not).
    appends    : chance that one draw adds a new row after the last. With reads and writes, 1.
    held       : share of its rows that such a transaction has already written at a random moment
                 of its work, on average: in [0, 1].
    """

    table: str
    kinds: tuple[int, ...]
    operations: int
    reads: np.ndarray
    writes: np.ndarray
    appends: float = 0.0
    held: float = 0.0


def only_writes(
    table: str, kind: int, operations: int, chances: np.ndarray, held: float = 0.0
) -> Footprint:
    """The footprint of a transaction that writes every row it draws."""
    nothing = np.zeros(len(chances))
    return Footprint(table, (kind,), operations, nothing, chances, held=held)


def all_written(table: str, rows: Iterable[int]) -> list[Touch]:
    """One Touch for each row, all written."""
    return [Touch(table, row, True) for row in rows]
