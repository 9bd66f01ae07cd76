"""Many operation maps of a history in JSON lines at once, by columns.

The usual goes this way: invocations and completions in turn, indexes that grow or none at all,
operations on integers and strings. Anything else is `Unusual` and is left to `elle`, which reads
line by line, knows every case and words every refusal. Nothing that tells is changed before it is
known that all is usual, so both ways make the same history.
"""

from __future__ import annotations

import gc
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, compress, repeat
from typing import Any, Literal, Protocol

import msgspec
import numpy as np

from workloads.records.columns import (
    FIRST_OTHER,
    NEVER,
    NIL,
    NOT_KNOWN,
    PREDICATE_READ,
    READ,
    TXN_COMMITTED,
    TXN_FAILED,
    TXN_UNKNOWN,
    WRITE,
)
from workloads.records.elle_lines import NEMESES, Line
from workloads.records.history import Builder, Names
from workloads.records.values import MOST_BITS

INVOKE, UNKNOWN_TYPE = -1, -2
MISSING = NIL + 1  # stands for none while a column is made; whoever wrote this is unusual
_TYPES = {"invoke": INVOKE, "ok": TXN_COMMITTED, "fail": TXN_FAILED, "info": TXN_UNKNOWN}
_KINDS = {
    "list-append": {"append": WRITE, "r": READ, "rp": PREDICATE_READ},
    "rw-register": {"w": WRITE, "r": READ, "rp": PREDICATE_READ},
}
_Value = str | int | list[int] | None
_DECODE: dict[str, Callable[[bytes], list[list[tuple[Any, Any, Any]]]]] = {
    "list-append": msgspec.json.Decoder(
        list[list[tuple[Literal["append", "r", "rp"], str | int, _Value]]]
    ).decode,
    "rw-register": msgspec.json.Decoder(
        list[list[tuple[Literal["w", "r", "rp"], str | int, _Value]]]
    ).decode,
}

Began = tuple[int, int, Any, int, Any]
"""An invocation: its place, its label, its value, the line that holds it, its :f."""


@contextmanager
def uncollected() -> Iterator[None]:
    """Without looks for garbage in circles: decoding makes none, and they take a fifth of it."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class Unusual(Exception):
    """These lines have to be read one by one."""


class Maps(Protocol):
    """Operation maps that follow one another, as they were decoded, by columns."""

    first: int  # the line of the first

    def __len__(self) -> int: ...

    def kinds(self) -> np.ndarray:
        """Of each its type: INVOKE, an outcome, or UNKNOWN_TYPE."""
        ...

    def sessions(self) -> np.ndarray:
        """The number of each one's process, -1 for a nemesis; new ones are placed in order."""
        ...

    def indexes(self, some: np.ndarray) -> np.ndarray | None:
        """The indexes of some, None where none has one. Raises Unusual where not all have one."""
        ...

    def value(self, line: int) -> msgspec.Raw: ...

    def f(self, line: int) -> msgspec.Raw: ...

    def add_operations(
        self, builder: Builder, places: np.ndarray, carried: Sequence[Any], committed: np.ndarray
    ) -> np.ndarray:
        """Add the operations of transactions, and return how many each has.

        places : the line of each; of one below 0 the value is in `carried`, counted from its end.
        Raises Unusual, and then nothing was added.
        """
        ...


class Decoded:
    """Operation maps as msgspec makes them."""

    def __init__(self, first: int, lines: Sequence[Line], sessions: Names) -> None:
        self.first, self.lines, self._sessions = first, lines, sessions

    def __len__(self) -> int:
        return len(self.lines)

    def kinds(self) -> np.ndarray:
        kinds = [line.type for line in self.lines]
        return _numbers(map(_TYPES.get, kinds, repeat(UNKNOWN_TYPE)), len(kinds))

    def sessions(self) -> np.ndarray:
        processes = [line.process for line in self.lines]
        number = {process: number_of(process, self._sessions)
                  for process in dict.fromkeys(processes)}  # fmt: skip
        return _numbers(map(number.__getitem__, processes), len(processes))

    def indexes(self, some: np.ndarray) -> np.ndarray | None:
        given = [line.index for line in self.lines]
        if len(some) < len(given):
            given = [given[line] for line in some.tolist()]
        if given.count(None) == len(given):
            return None
        try:
            return np.array(array("q", given))  # type: ignore[type-var]
        except (TypeError, OverflowError):  # some have none, or one is too large
            raise Unusual from None

    def value(self, line: int) -> msgspec.Raw:
        value: msgspec.Raw = self.lines[line].value
        return value

    def f(self, line: int) -> msgspec.Raw:
        f: msgspec.Raw = self.lines[line].f
        return f

    def add_operations(
        self, builder: Builder, places: np.ndarray, carried: Sequence[Any], committed: np.ndarray
    ) -> np.ndarray:
        values = [line.value for line in self.lines] + list(carried)
        return decode_operations(builder, [values[at] for at in places.tolist()], committed)


def number_of(process: Any, sessions: Names) -> int:
    """The number of a process, -1 for a nemesis."""
    return -1 if process in NEMESES else sessions.place(process)


class Block:
    """Operation maps in a row, with what was open before them: each invocation and what ended it.

    open : what is open by session, in order of invocation. at : lines before these. None of what
    is given is changed but for new sessions. Raises Unusual.
    """

    def __init__(self, maps: Maps, at: int, last_index: int, open_: dict[int, Began]) -> None:
        self.maps = maps
        kind, session = maps.kinds(), maps.sessions()
        here = np.unique(session).tolist()
        waiting = [place for place in here if place in open_]
        old = self.carried = [open_[place] for place in waiting]
        client = np.flatnonzero(session >= 0)
        self.nemeses = len(maps) - len(client)
        kind, session = kind[client], session[client]
        if (kind == UNKNOWN_TYPE).any():
            raise Unusual
        moment = at + 1 + client
        index = maps.indexes(client)
        label, self.last_index = moment - 1, last_index
        if index is not None:
            if index[0] <= last_index or index[-1] >= FIRST_OTHER:
                raise Unusual
            if (index[1:] <= index[:-1]).any():
                raise Unusual
            label, self.last_index = index, int(index[-1])
        # What was open before stands in front, as if it had been invoked here.
        self.line = np.concatenate((np.arange(-len(old), 0), client))
        self.session = np.concatenate((np.array(waiting, np.int64), session))
        self.kind = np.concatenate((np.full(len(old), INVOKE), kind))
        self.moment = np.concatenate((np.array([began[0] for began in old], np.int64), moment))
        self.label = np.concatenate((np.array([began[1] for began in old], np.int64), label))
        self._pair()

    def _pair(self) -> None:
        """Find what ended, in the order of its ends, and what is open behind the last line."""
        order = np.argsort(self.session, kind="stable")
        session, invoked = self.session[order], self.kind[order] == INVOKE
        same = session[1:] == session[:-1]
        opened = np.zeros(len(order), bool)  # by the line before it of its session
        opened[1:] = same & invoked[:-1]
        if not (opened | invoked).all():
            raise Unusual  # something ends that never began
        by = np.flatnonzero(opened)
        by = by[np.argsort(order[by])]
        self.by, self.begun = order[by], order[by - 1]
        last = np.ones(len(order), bool)
        last[:-1] = ~same
        self.left = np.sort(order[last & invoked])
        self.code = np.where(self.kind[self.by] == INVOKE, TXN_UNKNOWN, self.kind[self.by])
        # What came back is the answer; otherwise nothing is known but what was asked for.
        self.told = np.where(self.code == TXN_COMMITTED, self.by, self.begun)

    def __len__(self) -> int:
        return len(self.by)

    def value(self, place: int) -> tuple[Any, int]:
        """The operations' text, and the line on which it is."""
        line = int(self.line[place])
        if line < 0:
            return self.carried[line][2:4]
        return self.maps.value(line), self.maps.first + line

    def began(self, place: int) -> Began:
        line = int(self.line[place])
        if line < 0:
            return self.carried[line]
        moment, label = int(self.moment[place]), int(self.label[place])
        return moment, label, self.maps.value(line), self.maps.first + line, self.maps.f(line)

    def one(self, i: int) -> tuple[int, Began, int, int, Any, int]:
        """One that ended: its session, its invocation, when, its outcome, its text and line."""
        by, code = int(self.by[i]), int(self.code[i])
        began = self.began(int(self.begun[i]))
        return int(self.session[by]), began, int(self.moment[by]), code, *self.value(self.told[i])

    def update(self, open_: dict[int, Began]) -> None:
        """Take what ended out of what is open, and what began into it."""
        for place in self.session[self.by].tolist():
            open_.pop(place, None)
        for place in self.left[self.line[self.left] >= 0].tolist():
            moment, label, value, number, f = self.began(place)
            # A view would keep the whole chunk in memory for each transaction that never ends.
            open_[int(self.session[place])] = moment, label, value.copy(), number, f.copy()

    def add(self, builder: Builder) -> None:
        """Add what ended. Raises Unusual, and then nothing was added."""
        code, by, begun = self.code, self.by, self.begun
        places, carried = self.line[self.told], [began[2] for began in self.carried]
        counts = self.maps.add_operations(builder, places, carried, code == TXN_COMMITTED)
        rows = np.zeros((len(code), 7), np.int64)
        rows[:, 0], rows[:, 2] = self.session[by], self.moment[begun]
        rows[:, 3] = np.where(code == TXN_UNKNOWN, NEVER, self.moment[by])
        rows[:, 4], rows[:, 5], rows[:, 6] = code, self.label[begun], counts
        builder.rows.frombytes(rows.tobytes())


def decode_operations(builder: Builder, texts: Sequence[Any], committed: np.ndarray) -> np.ndarray:
    """Decode the operations of transactions, add them, and return how many each has."""
    try:
        txns = _DECODE[builder.model](b"[" + b",".join(texts) + b"]")
    except (TypeError, ValueError, RecursionError):  # no text, or no such operations
        raise Unusual from None
    if len(txns) != len(texts):
        raise Unusual
    counts = _numbers(map(len, txns), len(txns))
    flat = list(chain.from_iterable(txns))
    if not flat:
        return counts
    verbs, keys, values = zip(*flat, strict=True)
    kinds = _KINDS[builder.model]
    rows = np.empty((len(flat), 4), np.int64)
    rows[:, 0] = kind = _numbers(map(kinds.__getitem__, verbs), len(verbs))
    numbers = list(map(builder.keys.ids.get, keys))
    new = [i for i, number in enumerate(numbers) if number is None] if None in numbers else []
    if any(type(keys[i]) is int and keys[i].bit_length() > MOST_BITS for i in new):
        raise Unusual
    fill = _lists if builder.model == "list-append" else _registers
    rows[:, 2], rows[:, 3] = fill(builder, kind == WRITE, np.repeat(committed, counts), values)
    for i in new:
        numbers[i] = builder.keys.place(keys[i])
    rows[:, 1] = np.array(numbers)
    builder.add_columns(rows)
    return counts


Columns = tuple[np.ndarray, np.ndarray]  # of each operation its value and its length


def _registers(
    builder: Builder, write: np.ndarray, known: np.ndarray, values: Sequence[Any]
) -> Columns:
    column = _integers([MISSING if value is None else value for value in values])
    missing = column == MISSING
    if column is None or np.count_nonzero(missing) > values.count(None):
        column, missing = None, np.array([value is None for value in values])
    if (write & missing).any():
        raise Unusual
    if column is None:
        wanted, encode = (~missing & (write | known)).tolist(), builder.encode
        column = np.array([encode(v) if w else 0 for v, w in zip(values, wanted, strict=True)])
    column[missing] = NIL
    column[unknown := ~write & ~known] = NOT_KNOWN
    return column, np.where(unknown, -1, 0)


def _lists(
    builder: Builder, write: np.ndarray, known: np.ndarray, values: Sequence[Any]
) -> Columns:
    answered = known & ~write
    written = list(compress(values, write.tolist()))
    answers = list(compress(values, answered.tolist()))
    if None in written or not _ANSWERS.issuperset(map(type, answers)):
        raise Unusual
    elements, before = builder.elements, len(builder.elements)
    add = elements.fromlist
    try:
        for answer in answers:
            if answer:
                add(answer)
    except OverflowError:
        del elements[before:]
        raise Unusual from None
    codes = _integers(written)
    value, length = np.zeros(len(values), np.int64), np.where(write, 0, -1)
    value[write] = [builder.encode(v) for v in written] if codes is None else codes
    count = np.array([len(answer) if answer else 0 for answer in answers], np.int64)
    seen = np.array([answer is not None for answer in answers], bool)
    value[answered] = np.where(seen, before + np.cumsum(count) - count, 0)
    length[answered] = count
    return value, length


_ANSWERS = frozenset((list, type(None)))


def _numbers(values: Iterable[int], count: int) -> np.ndarray:
    return np.fromiter(values, np.int64, count)


def _integers(values: list[Any]) -> np.ndarray | None:
    """The values as a column where all are integers that stand for themselves, else None."""
    try:
        column = np.array(array("q", values))
    except (TypeError, OverflowError):
        return None
    own = not len(column) or NIL < column.min() <= column.max() < FIRST_OTHER
    return column if own else None
