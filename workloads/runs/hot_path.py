"""The part that is the same in every transaction: clocks, its row, BEGIN, the body, COMMIT.

It is written twice. `python_tries` is the specification, and what runs where there is no C
compiler; hot_path.c does the same and takes less of the time that it measures. Both stop at
whatever is unusual. What then becomes of a transaction is decided in workloads.runs.worker alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from workloads import records as rec
from workloads.engines import c_hot_path
from workloads.runs.pacing import wait_until


class Parts(NamedTuple):
    """What transactions are made of.

    due          : gives the next intended start of an open loop; None: a closed loop.
    acknowledged : the scenario's hook, called after COMMIT returned; None where it wants none.
    stopping     : whether the run is over, for a wait.
    numbers      : the control block's; the run is over where `numbers[state] == stop`.
    most         : transactions to make; -1: until the run ends.
    """

    begin: Callable[[], Any]
    commit: Callable[[], Any]
    draw: Callable[[], Any]
    bodies: tuple[Callable[[Any], int | None], ...]
    due: Callable[[], int] | None
    acknowledged: Callable[[Any, int], None] | None
    stopping: Callable[[], bool]
    numbers: memoryview
    state: int
    stop: int
    stop_ns: int
    most: int


class Tries(Protocol):
    """Tries of transactions, one after the other, as long as they commit.

    run(buffer, offset, limit, txn, tries) makes transactions from number `txn` on, into the rows
    from `offset` to `limit` of a buffer. With `tries` above 1 it first tries the last transaction
    again, as that try. True: the run is over. False: the rows are full. The attributes then are
    the next transaction's number and row.

    It raises what BEGIN, the body or COMMIT raised. The row of that try is open. The attributes say
    which it is: phase (BEGIN, STATEMENT, COMMIT of workloads.records.outcomes), number, row and
    try, and its times, ns: start, begun and worked (0: not reached), end (when the exception was
    there). An exception with phase 0 came from anything around the tries.
    """

    @property
    def run(self) -> Callable[[Any, int, int, int, int], bool]: ...
    @property
    def txn(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def tries(self) -> int: ...
    @property
    def phase(self) -> int: ...
    @property
    def start(self) -> int: ...
    @property
    def begun(self) -> int: ...
    @property
    def worked(self) -> int: ...
    @property
    def end(self) -> int: ...


def tries_of(parts: Parts) -> Tries:
    """The tries in C where this process has that loop, else in Python."""
    module = c_hot_path()
    return python_tries(parts) if module is None else c_tries(module, parts)


def c_tries(module: Any, parts: Parts) -> Tries:
    made: Tries = module.Tries(
        wait_until=wait_until,
        unpacked=_unpacked,
        open_row=rec.OPEN_PART.pack_into,
        close_row=rec.CLOSE_PART.pack_into,
        **parts._asdict(),
    )
    return made


def _unpacked(drawn: Any) -> tuple[Any, Any]:
    """The kind and the arguments of a draw that is no tuple of two."""
    kind, args = drawn
    return kind, args


class _Left:
    """The attributes of `Tries`, of the tries in Python."""

    __slots__ = ("begun", "end", "offset", "phase", "run", "start", "tries", "txn", "worked")


def python_tries(parts: Parts) -> Tries:
    begin, commit, draw, bodies, due, acknowledged, stopping = parts[:7]
    numbers, state, stop, stop_ns, most = parts[7:]
    open_row, close_row = rec.OPEN_PART.pack_into, rec.CLOSE_PART.pack_into
    close_at, row_bytes, now = rec.CLOSE_AT, rec.ROW_BYTES, time.monotonic_ns
    left: Any = _Left()
    drawn: Any = None
    body: Any = None
    kind = intended = 0
    args: Any = None

    def run(buffer: Any, offset: int, limit: int, txn: int, tries: int) -> bool:
        """The hot loop: everything that it needs is a variable of this function or the outer."""
        nonlocal drawn, kind, args, body, intended
        start = begun = worked = phase = 0
        try:
            if tries > 1:
                start = now()
            while True:
                if tries == 1:
                    if txn == most:
                        return True
                    intended = start = now()
                    if start >= stop_ns or numbers[state] == stop:
                        return True
                    drawn = draw()
                    kind, args = drawn
                    body = bodies[kind]
                    if due is not None:
                        intended = due()
                        if intended > start:
                            wait_until(min(intended, stop_ns), stopping)
                            start = now()
                            if start >= stop_ns or numbers[state] == stop:
                                return True
                open_row(buffer, offset, intended, start, txn, tries, kind, 0)
                begun = worked = 0
                phase = 1  # BEGIN, STATEMENT, COMMIT of workloads.records.outcomes
                begin()
                begun = now()
                phase = 2
                result = body(args)
                worked = now()
                phase = 3
                commit()
                end = now()
                phase = 0
                close_row(buffer, offset + close_at, begun, worked, end, result or 0, 0, 1, 0, 0)
                if acknowledged is not None:
                    acknowledged(drawn, result or 0)
                offset += row_bytes
                txn += 1
                tries = 1
                if offset == limit:
                    return False
        finally:
            left.end = now()
            left.txn, left.offset, left.tries, left.phase = txn, offset, tries, phase
            left.start, left.begun, left.worked = start, begun, worked

    left.run = run
    return left
