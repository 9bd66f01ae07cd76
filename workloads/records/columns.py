"""A history as columns, in memory and as history.npz: parsing text takes most of a check's time.

A file may come from anybody, so nothing in it is believed before it is checked: no array is made
that the file itself does not hold, no object is unpickled, and the columns must belong together.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from workloads.errors import HistoryError, RunError
from workloads.files import opened, replacing, visible
from workloads.records.values import Literal, Unordered, identity, plain

MODELS = ("list-append", "rw-register")
TXN_OUTCOMES = ("committed", "conflict", "failed", "unknown")
TXN_COMMITTED, TXN_CONFLICT, TXN_FAILED, TXN_UNKNOWN = range(4)
# A predicate read (`rp`) is a read that a range or a WHERE made: the key was seen, or seen to be
# absent, without being asked for by name. Only its anti-dependencies differ: they are G2, not
# G2-item.
READ, WRITE, PREDICATE_READ = range(3)

HISTORY_FILE = "history.npz"
FORMAT = 1
NIL = -(2**62)  # a register's initial state
NOT_KNOWN = -(2**62) - 1  # a read whose result nobody knows
FIRST_OTHER = 2**62  # values that are no 62-bit integer: index in `others` plus this
NEVER = 2**63 - 1  # the end of a transaction that ends nowhere in real time

Op = tuple[str, Any, Any]


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
    Keys, sessions, databases and others are as `values.plain` makes them, none of them twice.
    sets : what those reads of a list saw that were answered with a set: operation -> values, in
        no order. Their length is -1.
    unjudged : parts of the history that the checker does not judge: kind -> count. Where it is not
        empty, no level is ever proven. notes : further sentences for the reader.
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
    sets: dict[int, list[int]] = field(default_factory=dict)
    unjudged: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.txn_outcome)

    def decode(self, value: int) -> Any:
        """The value that `value` stands for."""
        value = int(value)
        if value in (NIL, NOT_KNOWN):
            return None
        return self.others[value - FIRST_OTHER] if value >= FIRST_OTHER else value

    def ops(self, txn: int) -> list[Op]:
        """The operations of a transaction as (f, key, value).

        None is the initial state, or a list that was not seen. Unordered is a set's answer.
        """
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
                in_no_order = self.sets.get(i)
                found.append((f, key, in_no_order and Unordered(map(self.decode, in_no_order))))
            else:
                at = int(self.op_value[i])
                seen = self.elements[at : at + int(self.op_length[i])]
                found.append((f, key, [self.decode(v) for v in seen]))
        return found

    def save(self, path: str | Path) -> None:
        """Write the columnar form; the file appears whole or not at all. Raises OSError."""
        save(self, path)


# Later keys of a file's names are optional: `sets`, `unjudged`, and `edn`, which says of which
# names the text is EDN (a keyword, a ratio), for JSON has no form for those.
DTYPES: dict[str, type] = {
    "txn_session": np.int32,
    "txn_database": np.int32,
    "txn_begin": np.int64,
    "txn_end": np.int64,
    "txn_outcome": np.uint8,
    "txn_label": np.int64,
    "op_start": np.int64,
    "op_kind": np.uint8,
    "op_key": np.int32,
    "op_value": np.int64,
    "op_length": np.int32,
    "elements": np.int64,
}
_NAMED = ("keys", "sessions", "databases", "others")


def save(history: History, path: str | Path) -> None:
    names: dict[str, Any] = {"format": FORMAT, "model": history.model, "notes": history.notes}
    literal: dict[str, list[int]] = {}
    for name in _NAMED:
        values = getattr(history, name)
        places = [at for at, value in enumerate(values) if isinstance(value, Literal)]
        names[name] = (
            [v.text if isinstance(v, Literal) else v for v in values] if places else values
        )
        if places:
            literal[name] = places
    if literal:
        names["edn"] = literal
    if history.sets:
        names["sets"] = list(history.sets.items())
    if history.unjudged:
        names["unjudged"] = history.unjudged
    text = np.frombuffer(json.dumps(names).encode(), np.uint8)
    with replacing(Path(path)) as file:
        np.savez(file, names=text, **{c: getattr(history, c) for c in DTYPES})


def load(path: str | Path, *, named: bool = True) -> History:
    """Read the columnar form. Raises HistoryError for another file, a cut one, a later version.

    named : False for a file in a folder that was named: it may be no link that leads out of it.
    """
    path = Path(path)
    try:
        with opened(path, named=named) as file:
            history = _load(file, path)
    except FileNotFoundError:
        raise HistoryError(f"{path}: there is no such file.") from None
    except HistoryError:
        raise
    except RunError as error:
        raise HistoryError(str(error)) from None
    except Exception as error:  # whatever an archive and a Python literal of somebody's end in
        why = str(error)[:_LONGEST_WHY] or "cut"
        raise HistoryError(
            f"{path}: this is no whole columnar history ({visible(why)}). "
            "It is written whole or not at all, so it was cut or edited; make it again."
        ) from None
    return history


_LONGEST_WHY = 200  # numpy repeats a header that it can't read, whole


def _load(file: BinaryIO, path: Path) -> History:
    with zipfile.ZipFile(file) as archive:
        names = json.loads(_array(archive, "names").tobytes())
        if not isinstance(names, dict):
            raise ValueError("its names are no map")
        form = names.pop("format", None)
        if type(form) is int and form > FORMAT:
            raise HistoryError(f"{path}: written by a later cwkit; this one reads format {FORMAT}.")
        if form != FORMAT:
            raise ValueError("its format is unknown")
        columns: dict[str, Any] = {name: _array(archive, name) for name in DTYPES}
    history = History(**_names(names), **columns)
    _insist(history)
    return history


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """One column, of whole numbers, as large as the file says and no larger than the file holds."""
    entry = archive.getinfo(f"{name}.npy")
    if entry.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{name} is compressed, and ours never are")
    with archive.open(entry) as member:
        version = npy.read_magic(member)
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
        shape, _, dtype = read(member)
        if len(shape) != 1 or dtype.kind not in "iu":
            raise ValueError(f"{name} is no column of whole numbers")
        data = member.read()
    if shape[0] < 0 or shape[0] * dtype.itemsize != len(data):
        raise ValueError(f"{name} claims {shape[0]:,} rows, and {len(data):,} bytes are there")
    column = np.frombuffer(data, dtype)
    kind = DTYPES.get(name, np.uint8)
    if name == "elements" and dtype == np.int32:
        return column
    if len(column) and not np.iinfo(kind).min <= column.min() <= column.max() <= np.iinfo(kind).max:
        raise ValueError(f"{name} has a number that none can be")
    return column.astype(kind, copy=False)


def _names(names: dict[str, Any]) -> dict[str, Any]:
    """The values that belong to the columns, each of its type."""
    literal = names.pop("edn", {})
    for name in _NAMED:
        values, places = names[name], set(literal.get(name, ()))
        if not isinstance(values, list):
            raise ValueError(f"its {name} are no list")
        names[name] = [
            Literal(_text(v)) if at in places else plain(v) for at, v in enumerate(values)
        ]
        if len({identity(value) for value in names[name]}) < len(values):
            raise ValueError(f"its {name} hold one twice")
    names["notes"] = [_text(note) for note in names.get("notes", [])]
    names["unjudged"] = {
        _text(kind): _count(many) for kind, many in names.get("unjudged", {}).items()
    }
    names["sets"] = {
        _count(op): [_count(code, FIRST_OTHER * 2) for code in codes]
        for op, codes in names.get("sets", [])
    }
    return names


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    return value


def _count(value: Any, below: int = 2**62) -> int:
    if type(value) is not int or not -below < value < below:
        raise ValueError(f"{value!r} is no whole number that can be one")
    return value


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
    if h.model not in MODELS or (n and h.txn_outcome.max() >= len(TXN_OUTCOMES)):
        raise ValueError("its model or an outcome is unknown")
    if m and h.op_kind.max() > PREDICATE_READ:
        raise ValueError("an operation is unknown")
    if (np.diff(h.txn_begin) < 0).any() or (h.txn_end < h.txn_begin).any():
        raise ValueError("its transactions are not in the order in which they began and ended")
    if n and min(h.txn_begin.min(), h.txn_label.min()) <= NIL:
        raise ValueError("a time or a number is out of range")
    _insist_on_values(h)


def _insist_on_values(h: History) -> None:
    write = h.op_kind == WRITE
    if any(v is None or (type(v) is int and -(2**62) < v < 2**62) for v in h.others):
        raise ValueError("a value has two names")
    if h.model == "list-append":
        read = ~write & (h.op_length > 0)
        ends = h.op_value[read] + h.op_length[read]
        if read.any() and (h.op_value[read].min() < 0 or ends.max() > len(h.elements)):
            raise ValueError("a read has elements that are not there")
        # Each read has elements of its own: else a small file could claim to hold any number.
        if int(h.op_length[read].astype(np.int64).sum()) > len(h.elements):
            raise ValueError("reads share their elements")
        if len(h.op_length) and h.op_length.min() < -1:
            raise ValueError("a read is shorter than nothing")
        seen = h.elements
    else:
        seen = h.op_value[~write & (h.op_value != NIL) & (h.op_value != NOT_KNOWN)]
        if len(h.elements):
            raise ValueError("registers have elements")
    last = FIRST_OTHER + len(h.others)
    values: Sequence[Any] = (seen, h.op_value[write])
    if any(len(v) and not NIL < v.min() <= v.max() < last for v in values):
        raise ValueError("a value is not there")
    reads = [op for op in h.sets if 0 <= op < len(write) and not write[op]]
    if len(reads) < len(h.sets) or (h.sets and h.model != "list-append"):
        raise ValueError("a set was read by nobody")
    if any(h.op_length[op] != -1 for op in reads) or any(
        not NIL < code < last for codes in h.sets.values() for code in codes
    ):
        raise ValueError("a set's value is not there")
