"""A history: the transactions of a run with their operations and answers, for the checker.

Its transactions are collected one by one here, and kept as columns (`columns`). Elle's text forms,
EDN and JSON, are read and written in `elle`, the workers' own files in `history_log`.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence, Set
from typing import Any

import numpy as np

from workloads.errors import HistoryError
from workloads.records.columns import (
    FIRST_OTHER,
    HISTORY_FILE,
    MODELS,
    NEVER,
    NIL,
    NOT_KNOWN,
    PREDICATE_READ,
    READ,
    TXN_COMMITTED,
    TXN_CONFLICT,
    TXN_FAILED,
    TXN_OUTCOMES,
    TXN_UNKNOWN,
    WRITE,
    History,
    load,
)
from workloads.records.values import Literal, Tagged, Unordered, identity, plain, show

__all__ = [
    "FIRST_OTHER",
    "HISTORY_FILE",
    "MODELS",
    "NEVER",
    "NIL",
    "NOT_KNOWN",
    "PREDICATE_READ",
    "READ",
    "TXN_COMMITTED",
    "TXN_CONFLICT",
    "TXN_FAILED",
    "TXN_OUTCOMES",
    "TXN_UNKNOWN",
    "WRITE",
    "Builder",
    "History",
    "HistoryError",
    "Names",
    "load",
]


def _narrow(column: array[int]) -> np.ndarray:
    """The column in 32 bits where its values allow that: half the memory, half the traffic."""
    wide = np.frombuffer(column, np.int64) if len(column) else np.zeros(0, np.int64)
    small = len(wide) == 0 or (wide.min() >= -(2**31) and wide.max() < 2**31)
    return wide.astype(np.int32) if small else wide.copy()


class Builder:
    """Collects transactions one by one, in any order, and builds a History.

    >>> b = Builder("list-append")
    >>> b.add("alice", 0, 1, "committed", [("append", "x", 1), ("r", "x", [1])])
    >>> b.build().ops(0)
    [('append', 'x', 1), ('r', 'x', [1])]
    """

    def __init__(self, model: str) -> None:
        if model not in MODELS:
            raise HistoryError(f"model {model!r} is not one of {', '.join(MODELS)}.")
        self.model = model
        self.keys = Names()
        self.sessions = Names()
        self.databases = Names()
        self.others = Names()
        self.notes: list[str] = []
        self.unjudged: dict[str, int] = {}
        self.sets: dict[int, list[int]] = {}
        # One row a transaction: session, database, begin, end, outcome, label, operations.
        self.rows = array("q")
        # One row an operation: kind, key, value, length.
        self.op_rows = array("q")
        self.elements = array("q")
        self._ops = 0  # of whole transactions
        self._coded: list[tuple[int, int]] = []  # where in `elements` codes stand, and not integers

    def encode(self, value: Any) -> int:
        """The integer that stands for a written value. Raises ValueError for None."""
        if type(value) is int and -(2**62) < value < 2**62:
            return value
        if value is None:
            raise ValueError("nil can't be written: it is the name of the initial state")
        return FIRST_OTHER + self.others.place(value)

    def add(
        self,
        session: Any,
        begin: int,
        end: int | None,
        outcome: str | int,
        ops: Iterable[Sequence[Any]],
        database: Any = "",
        label: int | None = None,
    ) -> None:
        """Add one transaction; `ops` are (f, key, value) with f append, w, r or rp.

        end : ignored for an unknown outcome, which ends nowhere in real time.
        Reads count only where the outcome is committed. Raises ValueError naming the rule.
        """
        code = TXN_OUTCOMES.index(outcome) if isinstance(outcome, str) else outcome
        stop = NEVER if code == TXN_UNKNOWN or end is None else end
        for moment in (begin, stop, label or 0):
            if not -(2**62) < moment < 2**62 and moment != NEVER:
                raise ValueError("a time or a number has more than 62 bits")
        count = self.add_ops(ops, code == TXN_COMMITTED)
        session_id, database_id = self.sessions.place(session), self.databases.place(database)
        if label is None:
            label = len(self.rows) // 7
        self.rows.extend((session_id, database_id, begin, stop, code, label, count))

    def add_ops(self, ops: Iterable[Sequence[Any]], reads_known: bool, careful: bool = True) -> int:
        """Add the operations of the next transaction and return how many there were.

        careful : False where keys and values are known to be integers, strings, None or lists of
            integers. True is none of these, and Python takes it for 1.
        Where one of them can't be added, none is. Raises ValueError or TypeError with the reason.
        """
        lists = self.model == "list-append"
        rows, elements, ids = self.op_rows, self.elements, self.keys.ids
        try:
            for f, key, value in ops:
                known = not careful or type(key) is str or type(key) is int
                key_id = ids.get(key) if known else None
                if key_id is None:
                    key_id = self.keys.place(key)
                if f == "r" or f == "rp":
                    kind = READ if f == "r" else PREDICATE_READ
                    if not reads_known:
                        rows.extend((kind, key_id, 0 if lists else NOT_KNOWN, -1))
                    elif not lists:
                        rows.extend((kind, key_id, NIL if value is None else self.encode(value), 0))
                    elif value is None:
                        rows.extend((kind, key_id, 0, 0))
                    elif type(value) is list or type(value) is tuple:
                        rows.extend((kind, key_id, len(elements), len(value)))
                        self._add_elements(value, careful)
                    elif isinstance(value, (Unordered, Set)):
                        self.sets[len(rows) // 4] = [self._seen(v) for v in value]
                        rows.extend((kind, key_id, 0, -1))
                    elif isinstance(value, Tagged):  # a printed object: it tells nothing
                        rows.extend((kind, key_id, 0, -1))
                    else:
                        raise ValueError(f"a read of a list saw {show(plain(value))}, which is no "
                                         "list")  # fmt: skip
                elif f == ("append" if lists else "w"):
                    rows.extend((WRITE, key_id, self.encode(value), 0))
                else:
                    verb = f"'{show(f)}'" if isinstance(f, str) else show(plain(f))
                    raise ValueError(f"operation {verb} is not one of {self._verbs()}")
        except BaseException:
            del rows[4 * self._ops :]
            for op in [op for op in self.sets if op >= self._ops]:
                del self.sets[op]
            raise
        count = len(rows) // 4 - self._ops
        self._ops += count
        return count

    def add_columns(self, rows: np.ndarray) -> None:
        """Add operations of transactions whose rows are added too: kind, key, value, length."""
        self.op_rows.frombytes(rows.tobytes())
        self._ops += len(rows)

    def _verbs(self) -> str:
        return f"{'append' if self.model == 'list-append' else 'w'}, r, rp of {self.model}"

    def _seen(self, value: Any) -> int:
        """The code of an element that was read; of nil, which nobody can have appended, too."""
        return self.encode(Literal("nil") if value is None else value)

    def _add_elements(self, values: Sequence[Any], careful: bool) -> None:
        before = len(self.elements)
        try:
            if careful and not _INTEGERS.issuperset(map(type, values)):
                raise TypeError
            self.elements.extend(values)
        except (TypeError, OverflowError):
            del self.elements[before:]
            self.elements.extend([self._seen(v) for v in values])
            self._coded.append((before, len(self.elements)))

    def _settle(self) -> None:
        """Give integers of 62 bits and more, which were taken as they came, codes of their own.

        Otherwise one would be read back as a place in `others`.
        """
        seen = np.frombuffer(self.elements, np.int64) if len(self.elements) else np.zeros(1, int)
        large = np.flatnonzero((seen >= FIRST_OTHER) | (seen <= NIL))
        del seen  # an array that is looked at can't be changed
        if self._coded and len(large):
            starts, stops = np.array(self._coded, np.int64).T
            at = np.searchsorted(starts, large, side="right") - 1
            large = large[(at < 0) | (large >= stops[np.maximum(at, 0)])]
        for place in large.tolist():
            self.elements[place] = self.encode(self.elements[place])
        self._coded = [(0, len(self.elements))]

    def build(self) -> History:
        """The History of everything added, ordered by begin."""
        self._settle()
        rows = np.array(self.rows, np.int64).reshape(-1, 7)
        op_rows = np.frombuffer(self.op_rows, np.int64) if len(self.op_rows) else np.zeros(0, int)
        op_rows = op_rows.reshape(-1, 4)
        starts = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(rows[:, 6], out=starts[1:])
        order = np.argsort(rows[:, 2], kind="stable")
        sets = self.sets
        if (order[1:] > order[:-1]).all():
            new_starts = starts
        else:
            rows = rows[order]
            new_starts = np.zeros_like(starts)
            np.cumsum(rows[:, 6], out=new_starts[1:])
            moved = np.repeat(starts[order] - new_starts[:-1], rows[:, 6])
            came_from = np.arange(len(op_rows)) + moved
            op_rows = op_rows[came_from]
            if sets:
                sets = {new: sets[old] for new, old in enumerate(came_from.tolist()) if old in sets}
        return History(
            model=self.model,
            keys=list(self.keys.names),
            sessions=list(self.sessions.names),
            databases=list(self.databases.names),
            others=list(self.others.names),
            txn_session=rows[:, 0].astype(np.int32),
            txn_database=rows[:, 1].astype(np.int32),
            txn_begin=rows[:, 2].copy(),
            txn_end=rows[:, 3].copy(),
            txn_outcome=rows[:, 4].astype(np.uint8),
            txn_label=rows[:, 5].copy(),
            op_start=new_starts,
            op_kind=op_rows[:, 0].astype(np.uint8),
            op_key=op_rows[:, 1].astype(np.int32),
            op_value=op_rows[:, 2].copy(),
            op_length=op_rows[:, 3].astype(np.int32),
            elements=_narrow(self.elements),
            notes=list(self.notes),
            sets=dict(sets),
            unjudged=dict(self.unjudged),
        )


_INTEGERS = frozenset((int,))


class Names:
    """Numbers for keys, sessions, databases or values, each type and content its own.

    >>> names = Names()
    >>> [names.place(name) for name in ("x", 1, 1.0, True, "1", 1)]
    [0, 1, 2, 3, 4, 1]
    """

    def __init__(self) -> None:
        self.names: list[Any] = []
        self.ids: dict[Any, int] = {}

    def place(self, name: Any) -> int:
        """The number of a name. Raises ValueError for one that is nested without end."""
        name = plain(name)
        known = self.ids.setdefault(identity(name), len(self.names))
        if known == len(self.names):
            self.names.append(name)
        return known
