"""What a run leaves for the checker: transactions, their operations, and what they observed.

A `History` is columnar, because a checker spends most of its time on parsing when it is not.
Text forms (Elle's EDN and JSON) are in `elle_files`, the workers' own records in `records`.
"""

from __future__ import annotations

import json
import os
import zlib
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from workloads.errors import RunError
from workloads.files import opened

MODELS = ("list-append", "rw-register")
OUTCOMES = ("committed", "conflict", "failed", "unknown")
COMMITTED, CONFLICT, FAILED, UNKNOWN = range(4)
# A predicate read (`rp`) is a read that a range or a WHERE made: the key was seen, or seen to be
# absent, without being asked for by name. Only its anti-dependencies differ: they are G2, not
# G2-item.
READ, WRITE, PREDICATE_READ = range(3)

HISTORY_FILE = "history.npz"
FORMAT = 1
NIL = -(2**62)  # a register's initial state
NOT_KNOWN = -(2**62) - 1  # a read whose result nobody knows
_FIRST_OTHER = 2**62  # values that are no 62-bit integer: index in `others` plus this
NEVER = 2**63 - 1  # the end of a transaction that ends nowhere in real time

Op = tuple[str, Any, Any]


class HistoryError(ValueError):
    """A history that can't be read: the file, the line and the rule, in one sentence."""


@dataclass
class History:
    """Transactions in the order in which they began, as columns.

    txn_* : shape (n,). session and database are indexes into `sessions` and `databases`;
        begin and end are of one clock, in its units (ns, or places in the file for Elle's
        histories, as Elle itself orders by index); end is NEVER for `unknown`; label is what the
        file calls the transaction (the index of its first operation, or its number).
    op_start : shape (n + 1,): transaction i has operations op_start[i]:op_start[i + 1].
    op_* : shape (m,). value is what a write wrote, or a register's read saw (NIL, NOT_KNOWN);
        for a read of a list it is the first place in `elements`, and length its length
        (-1: not known, always so unless the transaction is committed).
    Integer values stand for themselves, others for a place in `others`: see `decode`.
    """

    model: str
    keys: list[Any]
    sessions: list[Any]
    databases: list[Any]
    others: list[Any]
    txn_session: np.ndarray
    txn_database: np.ndarray
    txn_begin: np.ndarray
    txn_end: np.ndarray
    txn_outcome: np.ndarray
    txn_label: np.ndarray
    op_start: np.ndarray
    op_kind: np.ndarray
    op_key: np.ndarray
    op_value: np.ndarray
    op_length: np.ndarray
    elements: np.ndarray
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.txn_outcome)

    def decode(self, value: int) -> Any:
        """The value that `value` stands for."""
        value = int(value)
        if value in (NIL, NOT_KNOWN):
            return None
        return self.others[value - _FIRST_OTHER] if value >= _FIRST_OTHER else value

    def ops(self, txn: int) -> list[Op]:
        """The operations of a transaction as (f, key, value); None for what was not seen."""
        write = "append" if self.model == "list-append" else "w"
        found: list[Op] = []
        for i in range(int(self.op_start[txn]), int(self.op_start[txn + 1])):
            kind, key = int(self.op_kind[i]), self.keys[self.op_key[i]]
            if kind == WRITE:
                found.append((write, key, self.decode(self.op_value[i])))
                continue
            f = "r" if kind == READ else "rp"
            if self.model == "rw-register":
                found.append((f, key, self.decode(self.op_value[i])))
            elif self.op_length[i] < 0:
                found.append((f, key, None))
            else:
                at = int(self.op_value[i])
                seen = self.elements[at : at + int(self.op_length[i])]
                found.append((f, key, [self.decode(v) for v in seen]))
        return found

    def save(self, path: str | Path) -> None:
        """Write the columnar form; the file appears whole or not at all."""
        path = Path(path)
        names: dict[str, Any] = {"model": self.model, "keys": self.keys, "sessions": self.sessions}
        names |= {"databases": self.databases, "others": self.others, "notes": self.notes}
        names["format"] = FORMAT
        columns = {c: getattr(self, c) for c in _COLUMNS}
        text = np.frombuffer(json.dumps(names).encode(), np.uint8)
        draft = path.with_name(path.name + ".part")
        with open(draft, "wb") as file:
            np.savez(file, names=text, **columns)
        os.replace(draft, path)


_COLUMNS: tuple[str, ...] = ("txn_session", "txn_database", "txn_begin", "txn_end")
_COLUMNS += ("txn_outcome", "txn_label")
_COLUMNS += ("op_start", "op_kind", "op_key", "op_value", "op_length", "elements")


def load(path: str | Path) -> History:
    """Read the columnar form. Raises HistoryError where it is none, cut, or of a later version."""
    path = Path(path)
    try:
        with opened(path, named=True) as raw, np.load(raw) as file:
            names = json.loads(file["names"].tobytes())
            columns = {c: file[c] for c in _COLUMNS}
            form = names.pop("format")
            history = History(**names, **columns) if form == FORMAT else None
        if history is not None:
            _insist(history)
    except FileNotFoundError:
        raise HistoryError(f"{path}: there is no such file.") from None
    except RunError as error:  # a FIFO would be waited for without end
        raise HistoryError(str(error)) from None
    except _DAMAGE as error:
        raise HistoryError(
            f"{path}: this is no whole columnar history ({error}). "
            "It is written whole or not at all, so it was cut or edited; make it again."
        ) from None
    if history is None:
        raise HistoryError(f"{path}: written by a later cwkit; this one reads format {FORMAT}.")
    return history


# What numpy, zipfile and json say of a file that is cut, edited, or another one altogether.
_DAMAGE: tuple[type[Exception], ...] = (BadZipFile, ValueError, LookupError, EOFError, OSError)
_DAMAGE += (TypeError, AttributeError, RecursionError, NotImplementedError, zlib.error)


def _insist(h: History) -> None:
    """Raise ValueError where the columns do not belong together."""
    n, m = len(h.txn_outcome), len(h.op_kind)
    txns = (h.txn_session, h.txn_database, h.txn_begin, h.txn_end, h.txn_label)
    ops = (h.op_key, h.op_value, h.op_length)
    if any(c.shape != (n,) for c in txns) or any(c.shape != (m,) for c in ops):
        raise ValueError("its columns differ in length")
    starts = h.op_start
    if starts.shape != (n + 1,) or starts[0] != 0 or starts[-1] != m or (np.diff(starts) < 0).any():
        raise ValueError("op_start does not divide the operations among the transactions")
    places = ((h.op_key, h.keys), (h.txn_session, h.sessions), (h.txn_database, h.databases))
    if any(len(c) and not 0 <= c.min() <= c.max() < len(names) for c, names in places):
        raise ValueError("a key, session or database has no name")
    lists = h.model == "list-append"
    reads = (h.op_kind != WRITE) & (h.op_length > 0) if lists else np.zeros(m, bool)
    ends = h.op_value[reads] + h.op_length[reads]
    if len(ends) and (h.op_value[reads].min() < 0 or ends.max() > len(h.elements)):
        raise ValueError("a read has elements that are not there")
    values = h.elements if lists else h.op_value
    if len(values) and values.max() >= _FIRST_OTHER + len(h.others):
        raise ValueError("a value is not there")
    if h.model not in MODELS or (n and h.txn_outcome.max() >= len(OUTCOMES)):
        raise ValueError("its model or an outcome is none that there is")


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
        self.key_ids: dict[Any, int] = {}
        self.session_ids: dict[Any, int] = {}
        self.database_ids: dict[Any, int] = {}
        self.others: list[Any] = []
        self.notes: list[str] = []
        self._other_ids: dict[str, int] = {}
        # One row a transaction: session, database, begin, end, outcome, label, operations.
        self.rows = array("q")
        # One row an operation: kind, key, value, length.
        self.op_rows = array("q")
        self.elements = array("q")

    def encode(self, value: Any) -> int:
        """The integer that stands for a written value. Raises ValueError for None."""
        if type(value) is int and -(2**62) < value < 2**62:
            return value
        if value is None:
            raise ValueError("nil can't be written: it is the name of the initial state")
        text = f"{type(value).__name__} {value!r}"
        at = self._other_ids.setdefault(text, len(self.others))
        if at == len(self.others):
            self.others.append(value)
        return _FIRST_OTHER + at

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

        end : None or anything for an unknown outcome: it ends nowhere in real time.
        Reads count only where the outcome is committed. Raises ValueError naming the rule.
        """
        code = OUTCOMES.index(outcome) if isinstance(outcome, str) else outcome
        count = self.add_ops(ops, code == COMMITTED)
        session_id = self.session_ids.setdefault(session, len(self.session_ids))
        database_id = self.database_ids.setdefault(database, len(self.database_ids))
        stop = NEVER if code == UNKNOWN or end is None else end
        if label is None:
            label = len(self.rows) // 7
        self.rows.extend((session_id, database_id, begin, stop, code, label, count))

    def add_ops(self, ops: Iterable[Sequence[Any]], reads_known: bool) -> int:
        """Add the operations of the next transaction and return how many there were."""
        count = 0
        lists = self.model == "list-append"
        key_ids, rows, elements = self.key_ids, self.op_rows, self.elements
        for f, key, value in ops:
            count += 1
            key_id = key_ids.get(key)
            if key_id is None:
                key_id = key_ids[key] = len(key_ids)
            if f == "r" or f == "rp":
                kind = READ if f == "r" else PREDICATE_READ
                if not reads_known:
                    rows.extend((kind, key_id, 0 if lists else NOT_KNOWN, -1))
                elif not lists:
                    rows.extend((kind, key_id, NIL if value is None else self.encode(value), 0))
                elif value is None:
                    rows.extend((kind, key_id, 0, 0))
                else:
                    if type(value) is not list and not isinstance(value, tuple):
                        raise ValueError(f"a read of a list saw {value!r}, which is no list")
                    rows.extend((kind, key_id, len(elements), len(value)))
                    self._add_elements(value)
            elif f == ("append" if lists else "w"):
                rows.extend((WRITE, key_id, self.encode(value), 0))
            else:
                raise ValueError(f"operation {f!r} is not one of {self._verbs()}")
        return count

    def _verbs(self) -> str:
        return f"{'append' if self.model == 'list-append' else 'w'}, r, rp of {self.model}"

    def _add_elements(self, values: Sequence[Any]) -> None:
        before = len(self.elements)
        try:
            self.elements.extend(values)
        except (TypeError, OverflowError):
            del self.elements[before:]
            self.elements.extend([self.encode(v) for v in values])

    def build(self) -> History:
        """The History of everything added, ordered by begin. Raises HistoryError (see below)."""
        # array.extend took the integers as they came; one of 62 bits or more would be read back
        # as a place in `others`, so it is refused rather than misread.
        seen = np.frombuffer(self.elements, np.int64) if len(self.elements) else np.zeros(1, int)
        if seen.max() >= _FIRST_OTHER + len(self.others) or seen.min() <= NIL:
            raise HistoryError("a read saw an integer of more than 62 bits; write it as a string.")
        rows = np.array(self.rows, np.int64).reshape(-1, 7)
        op_rows = np.frombuffer(self.op_rows, np.int64) if len(self.op_rows) else np.zeros(0, int)
        op_rows = op_rows.reshape(-1, 4)
        starts = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(rows[:, 6], out=starts[1:])
        order = np.argsort(rows[:, 2], kind="stable")
        if (order[1:] > order[:-1]).all():
            new_starts = starts
        else:
            rows = rows[order]
            new_starts = np.zeros_like(starts)
            np.cumsum(rows[:, 6], out=new_starts[1:])
            moved = np.repeat(starts[order] - new_starts[:-1], rows[:, 6])
            op_rows = op_rows[np.arange(len(op_rows)) + moved]
        return History(
            model=self.model,
            keys=list(self.key_ids),
            sessions=list(self.session_ids),
            databases=list(self.database_ids),
            others=self.others,
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
            notes=self.notes,
        )
