"""Acked: a write acknowledged to one process must be there for the next transaction of another.

Writers insert unique values and publish each on the run's board after COMMIT has returned; a
reader looks at the board, begins, and must find them. The writers are shaped to race checkpoints:
a commit of many frames, a wait until the checkpointers have copied the whole log back, a commit of
one row, which starts the log anew. That is where SQLite 3.7.0 to 3.51.2, and so libSQL, can lose a
commit: a checkpointer that was still inside its PRAGMA takes the new log for the old one and marks
frames as copied that never were (https://sqlite.org/wal.html#walresetbug). One process that
checkpoints is enough, because a writer starts the log anew beside it. FULL, RESTART and TRUNCATE
checkpoints hold the writers' lock meanwhile, if they get it before the busy timeout.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any, ClassVar, NamedTuple

import numpy as np
from pydantic import Field

from workloads.engines import Session
from workloads.records import COMMITTED, UNKNOWN
from workloads.scenarios.loading import fill, payload
from workloads.scenarios.scenario import (
    Draw,
    Finding,
    InvariantBroken,
    RunLog,
    Shape,
    WorkerContext,
)
from workloads.scenarios.told import pages, stretches

BIG, ONE, FOLLOW = range(3)
SHIFT = 24
"""id = writer number << SHIFT | transaction: 16,777,216 transactions of each writer."""

POLL_S = 20e-6
"""The pause between two looks at the board. It is slept, because the race needs the CPUs for the
checkpointers: a writer that wakes up stops one of them anywhere, now and then in the middle."""
MOST_IDLE_NS = 1_000_000
"""A reader that finds nothing new looks again after this."""

# A writer's slots on the board, written in this order and read in the other, so that a reader
# never takes an unacknowledged value for one. FROM: all values from here on were acknowledged
# without a gap (a transaction that was given up leaves one).
FROM, NEWEST, AT_NS = range(3)
# A checkpointer's slots.
LOG, COPIED, REPORTED_NS = range(3)

BALLAST = "UPDATE ballast SET n = ? WHERE id >= ? AND id < ?"
INSERT = "INSERT INTO item(id, n, pad) VALUES (?, ?, ?)"
SEEN = "SELECT count(*) FROM item WHERE id BETWEEN ? AND ?"
WHICH = "SELECT id FROM item WHERE id BETWEEN ? AND ?"
ALL = "SELECT id FROM item WHERE id >= ? ORDER BY id LIMIT ?"


class AckedShape(Shape):
    """Parameters of `acked`. Rows are ballast: about one page each, there to fill the log."""

    rows: int = Field(1_024, ge=1, le=10_000_000, description="rows of ballast, about a page each")
    record_bytes: int = Field(3_000, ge=0, le=1_000_000, description="payload of a ballast row")
    operations: int = Field(1, ge=1, le=1, description="values a transaction: always 1")
    frames: int = Field(8, ge=0, le=100_000, description="ballast rows a large commit updates")
    wait_backfill: bool = Field(
        True, description="a writer waits until the whole log is copied before its small commit"
    )
    wait_ms: float = Field(20, ge=0, le=60_000, description="but no longer than this")
    window: int = Field(64, ge=1, le=100_000, description="newest values a reader looks for")
    item_bytes: int = Field(20, ge=0, le=100_000, description="payload of each value's row")
    index: bool = Field(False, description="an index on the values, another page a commit")


class Acknowledged(NamedTuple):
    """A reader's find on the board: values `low` to `newest` of a writer were acknowledged."""

    writer: int
    low: int
    newest: int
    at_ns: int


class Acked:
    """Large and small commits in turn by writers; readers follow the acknowledgements.

    result of a commit: its value (the transaction's number); of a look: values that it found.
    """

    name: ClassVar[str] = "acked"
    story: ClassVar[str] = (
        "Every acknowledged commit must be visible to the next transaction of another process. "
        "With --checkpointers 3 it finds the commits that SQLite before 3.51.3, and libSQL, lose."
    )
    kinds: ClassVar[tuple[str, ...]] = ("large", "small", "look")
    Params: ClassVar[type[Shape]] = AckedShape
    # Each race needs a checkpoint first, and a checkpoint waits twice for the disk: without that
    # there are three to five times as many races a second. `synchronous` decides what a power cut
    # may take, not what another process sees, so nothing here is excused by it.
    suggests: ClassVar[Mapping[str, Any]] = {
        # How often it races decides what it finds: with fsync it commits a few hundred times a
        # second, without a thousand. `off` is about power cuts, not about what processes see.
        "synchronous": "off",
        "warmup_s": 0,
        "duration_s": 60,  # it ends at the first loss
        "readers": 1,
    }

    def __init__(self, params: AckedShape) -> None:
        self.params = params

    def schema(self) -> Sequence[str]:
        ddl = [
            "CREATE TABLE ballast(id INTEGER PRIMARY KEY, n INTEGER NOT NULL, pad TEXT NOT NULL)",
            "CREATE TABLE item(id INTEGER PRIMARY KEY, n INTEGER NOT NULL, pad TEXT NOT NULL)",
        ]
        return [*ddl, "CREATE INDEX item_n ON item(n)"] if self.params.index else ddl

    def load(self, session: Session, rng: np.random.Generator) -> None:
        tail = f",0,'{payload(rng, self.params.record_bytes)}')"
        fill(
            session,
            "INSERT INTO ballast(id, n, pad) VALUES",
            (f"({i}{tail}" for i in range(self.params.rows)),
        )

    def draw(self, context: WorkerContext) -> Callable[[], Draw]:
        if context.role == "reader":
            return self._follower(context)
        number = count()
        wait = self._wait_for_backfill(context)

        def drawn() -> Draw:
            n = next(number)
            if n % 2 == 0:
                return Draw(BIG, n)
            wait()
            return Draw(ONE, n)

        return drawn

    def _follower(self, context: WorkerContext) -> Callable[[], Draw]:
        """Looks at the board. The runner draws before BEGIN, so each value read here was
        acknowledged before the reader's transaction began.
        """
        board, window = context.board, self.params.window
        if board is None:
            return lambda: Draw(FOLLOW, [])  # a replay: nobody is there to be followed
        writers = [
            (w, number) for w, (role, number) in enumerate(context.places) if role == "writer"
        ]
        clock, stopping, sleep = context.clock, context.stopping, time.sleep
        seen_ns = 0

        def wait_for_news() -> None:
            nonlocal seen_ns
            until = clock() + MOST_IDLE_NS
            while clock() < until and not stopping():
                newest_ns = max((board[8 * w + AT_NS] for w, _ in writers), default=0)
                if newest_ns != seen_ns:
                    seen_ns = newest_ns
                    return
                sleep(POLL_S)

        def drawn() -> Draw:
            wait_for_news()
            found = []
            for worker, number in writers:
                line = 8 * worker
                at_ns = board[line + AT_NS]
                if at_ns:
                    newest = board[line + NEWEST]
                    # FROM may be of a later value than NEWEST: then only NEWEST is sure.
                    low = min(max(board[line + FROM], newest - window + 1), newest)
                    found.append(Acknowledged(number, low, newest, at_ns))
            return Draw(FOLLOW, found)

        return drawn

    def _wait_for_backfill(self, context: WorkerContext) -> Callable[[], None]:
        board, clock, stopping = context.board, context.clock, context.stopping
        lines = [8 * w for w, (role, _) in enumerate(context.places) if role == "checkpointer"]
        if context.session is None or not lines or not self.params.wait_backfill:
            return lambda: None
        mine, sleep = 8 * context.worker + AT_NS, time.sleep
        limit_ns = int(self.params.wait_ms * 1e6)

        def wait() -> None:
            since = board[mine]
            until = clock() + limit_ns
            while clock() < until and not stopping():
                for line in lines:
                    reported = board[line + REPORTED_NS] > since
                    if reported and board[line + LOG] == board[line + COPIED]:
                        return
                sleep(POLL_S)

        return wait

    def bodies(self, context: WorkerContext) -> Sequence[Callable[[Any], int | None]]:
        assert context.session is not None
        run, rows, think = context.session.run, context.session.rows, context.think
        base = context.number << SHIFT
        frames = min(self.params.frames, self.params.rows)
        first = context.number * frames % (self.params.rows - frames + 1)
        pad = "." * self.params.item_bytes

        def large(n: int) -> int:
            run(BALLAST, (n, first, first + frames))
            return small(n)

        def small(n: int) -> int:
            think()
            run(INSERT, (base | n, n, pad))
            return n

        def look(acknowledged: list[Acknowledged]) -> int:
            seen = 0
            for one in acknowledged:
                ids = (one.writer << SHIFT | one.low, one.writer << SHIFT | one.newest)
                here = rows(SEEN, ids)[0][0]
                if here != one.newest - one.low + 1 and context.checked:
                    raise self._lost(context, one, [row[0] for row in rows(WHICH, ids)])
                seen += here
            think()
            return seen

        return large, small, look

    def _lost(
        self, context: WorkerContext, one: Acknowledged, ids: Sequence[int]
    ) -> InvariantBroken:
        now_ns = context.clock()
        read = {i - (one.writer << SHIFT) for i in ids}
        missing = [n for n in range(one.low, one.newest + 1) if n not in read]
        shown = ", ".join(str(n) for n in missing[-5:])
        most = "…, " if len(missing) > 5 else ""
        return InvariantBroken(
            f"Writer {one.writer} was told that its transactions {one.low} to {one.newest} are "
            f"committed, the last {(now_ns - one.at_ns) / 1e6:.3f} ms before reader "
            f"{context.number} looked; the reader, which began after that, found {len(read)} of "
            f"{one.newest - one.low + 1} values: {most}{shown} "
            f"{'is' if len(missing) == 1 else 'are'} not there.",
            writer=one.writer,
            acknowledged=[one.low, one.newest],
            acknowledged_ns=one.at_ns,
            read_ns=now_ns,
            reader=context.number,
            read=len(read),
            missing=missing[:1000],
        )

    def acknowledged(self, context: WorkerContext) -> Callable[[Draw, int], None] | None:
        if context.role != "writer":
            return None
        board, clock, line = context.board, context.clock, 8 * context.worker
        before = -2

        def publish(draw: Draw, result: int) -> None:
            nonlocal before
            n = draw.args
            if n != before + 1:
                board[line + FROM] = n
            board[line + NEWEST] = n
            board[line + AT_NS] = clock()
            before = n

        return publish

    def checkpointed(self, context: WorkerContext) -> Callable[[int, int, int], None]:
        board, clock, line = context.board, context.clock, 8 * context.worker

        def report(busy: int, log: int, copied: int) -> None:
            board[line + LOG] = log
            board[line + COPIED] = copied
            board[line + REPORTED_NS] = clock()

        return report

    def check(self, session: Session, log: RunLog) -> list[Finding]:
        writers = [worker for worker in log.workers if worker.role == "writer"]
        wanted, maybe = _Ids(), _Ids()
        for worker in writers:
            for rows in log.finals_in_turn(worker):
                ids = (np.int64(worker.number) << SHIFT) | rows["txn"].astype(np.int64)
                wanted.add(ids[rows["outcome"] == COMMITTED])
                maybe.add(ids[rows["outcome"] == UNKNOWN])
        wanted.ready()
        maybe.ready()
        lost, extra = _Listed(), _Listed()
        for page in pages(session, ALL, 1):
            found = page.rows[:, 0]
            for told in wanted.within(page.low, page.high):
                lost.add(np.setdiff1d(told, found))
            extra.add(found[~(wanted.has(found) | maybe.has(found))])
        more = f", {len(maybe):,} of unknown outcome aside" if len(maybe) else ""
        sentence = f"{len(wanted) - lost.count:,} of {len(wanted):,} acknowledged values are there"
        if lost.count:
            sentence += f"; lost: {lost.named()}"
        return [
            Finding(
                "acknowledged values",
                lost.count == 0,
                f"{sentence}{more}.",
                {"acknowledged": len(wanted), "lost": lost.pairs(), "unknown": len(maybe)},
            ),
            Finding(
                "only told values",
                extra.count == 0,
                f"{extra.count:,} values are there that no writer was told of"
                + (f": {extra.named()}." if extra.count else "."),
                {"extra": extra.pairs()},
            ),
        ]


class _Ids:
    """Ids that writers were told of, 8 bytes each: there may be 24 million."""

    def __init__(self) -> None:
        self._told = array("q")
        self._sorted = np.zeros(0, np.int64)

    def add(self, ids: np.ndarray) -> None:
        self._told.frombytes(ids.tobytes())

    def ready(self) -> None:
        """All are told. Sorted in place."""
        if self._told:
            self._sorted = np.frombuffer(self._told, np.int64)
            self._sorted.sort()

    def __len__(self) -> int:
        return len(self._told)

    def within(self, low: int, high: int) -> Iterator[np.ndarray]:
        """Those from one id to another, both included, some at a time."""
        begin = int(np.searchsorted(self._sorted, low))
        end = int(np.searchsorted(self._sorted, high, side="right"))
        for at, upto in stretches(self._sorted, begin, end):
            yield self._sorted[at:upto]

    def has(self, ids: np.ndarray) -> np.ndarray:
        """Whether each id was told: bool array, as many as ids."""
        if not len(self._sorted):
            return np.zeros(len(ids), bool)
        at = np.minimum(np.searchsorted(self._sorted, ids), len(self._sorted) - 1)
        found: np.ndarray = self._sorted[at] == ids
        return found


class _Listed:
    """How many ids there are, and the first thousand of them, which come in ascending order."""

    MOST = 1000

    def __init__(self) -> None:
        self.count = 0
        self._first: list[int] = []

    def add(self, ids: np.ndarray) -> None:
        self.count += len(ids)
        self._first += ids[: self.MOST - len(self._first)].tolist()

    def pairs(self) -> list[list[int]]:
        """[writer, transaction] of each id."""
        return [[i >> SHIFT, i & ((1 << SHIFT) - 1)] for i in self._first]

    def named(self) -> str:
        named = ", ".join(f"transaction {n} of writer {w}" for w, n in self.pairs()[:5])
        return f"{named}, …" if self.count > 5 else named
