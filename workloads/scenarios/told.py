"""What workers were told, beside a table that is read page by page: for checks of large runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from workloads.engines import Session

PAGE = 50_000
"""Rows of a table that are read at once."""

FIRST_ID, LAST_ID = -(1 << 63), (1 << 63) - 1


class Page(NamedTuple):
    """Some rows of a table, and the ids from `low` to `high`, between which it has no others.

    rows : int64 array, shape (rows, columns), the id first, each id once, in ascending order.
    """

    low: int
    high: int
    rows: np.ndarray


def pages(session: Session, sql: str, columns: int) -> Iterator[Page]:
    """A table in the order of its ids; from the lowest id that there can be to the highest.

    sql : asks for so many columns of rows, the id first, beginning with an id, at most so many, as
        in "SELECT id FROM item WHERE id >= ? ORDER BY id LIMIT ?".
    """
    low = FIRST_ID
    while True:
        found = session.rows(sql, (low, PAGE))
        last = int(found[-1][0]) if found else LAST_ID
        # A damaged table may go back: then there is no end that it would come to by itself.
        over = len(found) < PAGE or not low <= last < LAST_ID
        rows = np.array(found, np.int64).reshape(len(found), columns)
        high = LAST_ID if over else last
        yield Page(low, high, _ascending(rows))
        if over:
            return
        low = last + 1


def _ascending(rows: np.ndarray) -> np.ndarray:
    ids = rows[:, 0]
    if (ids[1:] > ids[:-1]).all():
        return rows
    rows = rows[np.argsort(ids, kind="stable")]  # damaged: of an id that is there twice the last
    last: np.ndarray = np.append(rows[1:, 0] != rows[:-1, 0], True)
    return rows[last]


class Places(NamedTuple):
    """Where numbers are told, grouped: each of `ids` once, ascending, with when it was told.

    begins : where the places of each begin in `places`, and last where they end. places : counted
    from 0 in the order in which all numbers were told, ascending within an id.
    """

    ids: np.ndarray
    begins: np.ndarray
    places: np.ndarray

    @property
    def first(self) -> np.ndarray:
        """The first place of each id."""
        return self.places[self.begins[:-1]]


class Told:
    """Numbers that workers were told, in 8 bytes each: how often, and in which order.

    many : of them.
    """

    def __init__(self, numbers: Callable[[], Iterable[np.ndarray]]) -> None:
        """Ask for them twice, and hold them.

        numbers : gives all of them in the order in which they were told, some at a time.
        """
        self.many, self._lowest, highest = 0, 0, 0
        for some in numbers():
            if len(some):
                low, high = int(some.min()), int(some.max())
                self._lowest = min(low, self._lowest) if self.many else low
                highest = max(high, highest) if self.many else high
                self.many += len(some)
        self._each: np.ndarray | None = None
        if (highest - self._lowest + 1) * self.many > LAST_ID:  # none of ours are so large
            self._each = np.unique(np.concatenate(list(numbers())))
        self._codes = np.empty(self.many, np.int64)
        at = 0
        for some in numbers():
            part = self._codes[at : at + len(some)]
            part[:] = some - self._lowest if self._each is None else self._rank(some)
            part *= self.many
            part += np.arange(at, at + len(some))
            at += len(some)
        self._codes.sort()

    def _rank(self, numbers: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.searchsorted(self._each, numbers)  # type: ignore[arg-type]
        return found

    def within(self, low: int, high: int) -> Iterator[Places]:
        """Those from one number to another, both included, some numbers at a time."""
        for begin, end in stretches(
            self._codes, self._place(low), self._place(high + 1), self.many
        ):
            yield self._places(self._codes[begin:end])

    def _places(self, codes: np.ndarray) -> Places:
        ids = codes // self.many
        places = codes - ids * self.many
        begins = np.flatnonzero(np.append(True, ids[1:] != ids[:-1])[: len(ids)])
        ids = ids[begins]
        ids = ids + self._lowest if self._each is None else self._each[ids]
        return Places(ids, np.append(begins, len(codes)), places)

    def _place(self, number: int) -> int:
        """How many are lower than a number."""
        if self._each is not None:
            rank = len(self._each)
            if number <= LAST_ID:
                rank = int(np.searchsorted(self._each, np.int64(number)))
        else:
            rank = max(number - self._lowest, 0)
        code = rank * self.many
        return len(self._codes) if code > LAST_ID else int(np.searchsorted(self._codes, code))


def stretches(codes: np.ndarray, begin: int, end: int, apart: int = 1) -> Iterator[tuple[int, int]]:
    """(begin, end) of parts of ascending codes, PAGE or somewhat more at a time.

    Codes that are alike when divided by `apart` are in one part.
    """
    while begin < end:
        upto = end
        if begin + PAGE < end:
            after = (int(codes[begin + PAGE]) // apart + 1) * apart
            if after <= LAST_ID:
                upto = min(int(np.searchsorted(codes, after)), end)
        yield begin, upto
        begin = upto


class Firsts:
    """How many there are of something, and the first of them by place, `most` at most."""

    def __init__(self, most: int) -> None:
        self.count = 0
        self._most = most
        self._kept: list[tuple[int, Any]] = []

    def add(self, places: np.ndarray, what: Callable[[int], Any]) -> None:
        """Count some more.

        places : of these. what : of the index of one of these, what is kept of it.
        """
        self.count += len(places)
        order = np.argsort(places, kind="stable")[: self._most]
        some = [(int(places[at]), int(at)) for at in order]
        if len(self._kept) == self._most:
            some = [pair for pair in some if pair[0] < self._kept[-1][0]]
        kept = self._kept + [(place, what(at)) for place, at in some]
        self._kept = sorted(kept, key=lambda pair: pair[0])[: self._most]

    def __iter__(self) -> Iterator[Any]:
        return (what for _, what in self._kept)

    def __bool__(self) -> bool:
        return self.count > 0
