"""The times of committed transactions, a column at a time.

Of a run of 24 million attempts one column has 200 MB. It is made from the rows when somebody asks
for it, and let go with its last use; a small run's columns are kept a while.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.statistics import Series
from workloads.records import COMMITTED, PIECE_ROWS, Recent, Rows

STAGES = ("queueing", "begin", "work", "commit", "service", "whole")
"""Parts of a committed transaction's time; see `Tally.latency_ns`."""

ENDS = "ends"
"""The column of when each COMMIT returned."""

KIND = "kind"
"""The column of their kinds, which few ask for: it is in none of what is kept."""

COLUMNS = (*STAGES, ENDS)

SMALL = 500_000
"""Transactions of a worker whose columns are kept a while."""

LEAST_ROWS = 1024
"""Rows of a piece, where very many workers' pieces are in memory together."""

KEPT = Recent(64 << 20)


@dataclass(frozen=True, eq=False)
class Source:
    """One worker's committed transactions that ended in a window.

    many : how many they are. ascending : each ended no sooner than the one before.
    brief : the columns of times of less than four seconds.
    """

    rows: Rows
    window_ns: tuple[int, int]
    many: int
    ascending: bool
    brief: frozenset[str]

    def pieces(
        self, names: Sequence[str], most: int = PIECE_ROWS
    ) -> Iterator[tuple[np.ndarray, ...]]:
        """These columns, int64, in the order of the rows, some transactions at a time."""
        if self.many > SMALL or KIND in names:
            for part in self.rows.transactions(most):
                found = times_of(part, self.window_ns, names)
                yield tuple(found[name] for name in names)
            return
        columns = KEPT.get(self)
        if columns is None:
            parts = [times_of(part, self.window_ns) for part in self.rows.transactions()]
            columns = self.keep(parts)
        for at in range(0, self.many, most):
            yield tuple(columns[name][at : at + most].astype(np.int64) for name in names)

    def keep(self, parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Keep all columns, in few bytes, and return them."""
        columns = {name: short(np.concatenate([part[name] for part in parts])) for name in COLUMNS}
        KEPT.put(self, columns, sum(column.nbytes for column in columns.values()))
        return columns


def short(values: np.ndarray) -> np.ndarray:
    """The same integers in half the bytes, where they are times of less than four seconds."""
    return values.astype(np.uint32) if is_brief(values) else values


def is_brief(values: np.ndarray) -> bool:
    """Whether all of them fit into 32 bits."""
    return not len(values) or bool(values.min() >= 0 and values.max() < 1 << 32)


def times_of(
    rows: np.ndarray, window_ns: tuple[int, int], names: Iterable[str] = COLUMNS
) -> dict[str, np.ndarray]:
    """Columns of the transactions, all of them whole in `rows`, that committed in a window."""
    first, stop = window_ns
    outcome, end = rows["outcome"], rows["end_ns"]
    # One that committed has an end; where a forged row has none, it is the window's.
    ends = np.where(end == 0, stop, end)
    hit = (outcome == COMMITTED) & (ends >= first) & (ends <= stop) & (rows["start_ns"] <= stop)
    did = np.flatnonzero(hit)
    found: dict[str, np.ndarray] = {}
    names = set(names)
    if names & {"queueing", "whole"}:
        firsts = first_tries(rows)[did]
        intended = rows["intended_ns"][firsts]
        if "queueing" in names:
            found["queueing"] = np.maximum(rows["start_ns"][firsts] - intended, 0)
        if "whole" in names:
            found["whole"] = end[did] - intended
    for name, since, until in (
        ("begin", "start_ns", "begun_ns"),
        ("work", "begun_ns", "worked_ns"),
        ("commit", "worked_ns", "end_ns"),
        ("service", "start_ns", "end_ns"),
    ):
        if name in names:
            found[name] = rows[until][did] - rows[since][did]
    if KIND in names:
        found[KIND] = rows["kind"][did].astype(np.int64)
    if ENDS in names:
        found[ENDS] = end[did]
    return found


def first_tries(rows: np.ndarray) -> np.ndarray:
    """The place of the first row of each row's transaction, shape (attempts,)."""
    at = np.arange(len(rows))
    txn = rows["txn"]
    if len(rows):
        at[1:][txn[1:] == txn[:-1]] = 0
    first: np.ndarray = np.maximum.accumulate(at)
    return first


class Committed:
    """Columns of the committed transactions of some workers, one worker after the other."""

    def __init__(self, sources: Iterable[Source] = ()) -> None:
        self.sources = tuple(sources)

    def __len__(self) -> int:
        return sum(source.many for source in self.sources)

    @classmethod
    def joined(cls, parts: Iterable[Committed]) -> Committed:
        return cls(source for part in parts for source in part.sources)

    def column(self, name: str, around: int = 0) -> np.ndarray:
        """All of a column: int64, shape (transactions + 2 * around,), the caller's own.

        around : places left free before and behind it.
        """
        return self._filled(name, np.empty(len(self) + 2 * around, np.int64), around)

    def brief(self, name: str) -> np.ndarray:
        """The same in half the bytes where it can be, uint32."""
        fit = all(name in source.brief for source in self.sources)
        return self._filled(name, np.empty(len(self), np.uint32 if fit else np.int64))

    def _filled(self, name: str, values: np.ndarray, around: int = 0) -> np.ndarray:
        at = around
        for source in self.sources:
            for (part,) in source.pieces((name,)):
                values[at : at + len(part)] = part
                at += len(part)
        return values

    def in_order(self, name: str) -> Iterator[np.ndarray]:
        """A column in the order of when the transactions ended, some at a time. Those that ended
        at one moment are in the order of the workers, as a stable sort has them.
        """
        if not all(source.ascending for source in self.sources):  # no clock of ours made these
            values = self.column(name)[np.argsort(self.column(ENDS), kind="stable")]
            yield from (values[at : at + PIECE_ROWS] for at in range(0, len(values), PIECE_ROWS))
            return
        most = piece_rows(len(self.sources))
        streams = [source.pieces((ENDS, name), most) for source in self.sources]
        for _, values in merged(streams):
            yield values

    def series(self, name: str) -> Series:
        """A column in any order, for percentiles."""
        return Series(len(self), lambda: self.brief(name), lambda: self._pieces(name))

    def series_in_order(self, name: str) -> Series:
        """A column in the order of time, for percentiles with intervals."""
        return Series(len(self), lambda: self.brief(name), lambda: self.in_order(name))

    def _pieces(self, name: str) -> Iterator[np.ndarray]:
        for source in self.sources:
            for (part,) in source.pieces((name,)):
                yield part


class Latencies(Mapping[str, np.ndarray]):
    """Stage -> its column, made when it is asked for."""

    def __init__(self, column: Callable[[str], np.ndarray]) -> None:
        self._column = column

    def __getitem__(self, stage: str) -> np.ndarray:
        if stage not in STAGES:
            raise KeyError(stage)
        return self._column(stage)

    def __iter__(self) -> Iterator[str]:
        return iter(STAGES)

    def __len__(self) -> int:
        return len(STAGES)


def piece_rows(workers: int) -> int:
    """Rows of a piece, where so many workers' are in memory together."""
    return max(2 * PIECE_ROWS // (workers + 1), LEAST_ROWS)


def merged(
    streams: Sequence[Iterator[tuple[np.ndarray, ...]]],
) -> Iterator[tuple[np.ndarray, ...]]:
    """Columns of several streams as one, in ascending order of their first column, piece by piece.

    Each stream is ascending by itself. Equal ones are in the order of the streams.
    """
    waiting: dict[int, tuple[np.ndarray, ...]] = {}
    left = dict(enumerate(streams))

    def refill(number: int) -> None:
        for piece in left[number]:
            if len(piece[0]):
                before = waiting.get(number)
                waiting[number] = piece if before is None else _behind(before, piece)
                return
        del left[number]

    for number in list(left):
        refill(number)
    while waiting:
        # What a stream has yet to give is no smaller than the last that it gave.
        lasts = {number: waiting[number][0][-1] for number in left}
        bound = min(lasts.values(), default=None)
        taken = []
        for number in sorted(waiting):
            columns = waiting[number]
            upto = len(columns[0]) if bound is None else int(np.searchsorted(columns[0], bound))
            if upto:
                taken.append(tuple(column[:upto] for column in columns))
            if upto == len(columns[0]):
                del waiting[number]
            elif upto:
                waiting[number] = tuple(column[upto:] for column in columns)
        if taken:
            columns = _behind(*taken)
            order = np.argsort(columns[0], kind="stable")
            yield tuple(column[order] for column in columns)
        for number, last in lasts.items():
            if last == bound:
                refill(number)


def _behind(*parts: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    if len(parts) == 1:
        return parts[0]
    return tuple(np.concatenate(columns) for columns in zip(*parts, strict=True))
