"""Ingest: rows are only ever added, and every acknowledged one is there exactly once.

Where the keys grow, all writers meet on the last page of the table: the worst case of a page-level
engine and no conflict at all for a row-level one. Random keys spread them over the table; an index
brings the meeting back elsewhere.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from workloads.engines import Session
from workloads.records import COMMITTED, UNKNOWN
from workloads.scenarios.drawing import always, stream
from workloads.scenarios.footprint import Touch, all_written
from workloads.scenarios.keys import BLOCK
from workloads.scenarios.loading import fill, payload
from workloads.scenarios.scenario import Draw, Finding, RunLog, Shape, WorkerContext

APPEND, LOOK = range(2)
SPREAD = 1_640_531_527
"""Odd, so that multiples of it modulo 2**31 repeat only after 2**31: scattered and never twice."""

NEWEST = "SELECT id, worker, n FROM event ORDER BY id DESC LIMIT 10"
ALLOCATED = "INSERT INTO event(worker, n, tag, body) VALUES (?, ?, ?, ?)"
CHOSEN = "INSERT INTO event(worker, n, tag, body, id) VALUES (?, ?, ?, ?, ?)"
LOADED = -1
"""The `worker` of rows that were loaded before the run."""
NEXT = -1
"""In `touches`: the next free id, whichever it is."""


EVENTS = "SELECT id, worker, n FROM event WHERE id > ? ORDER BY id LIMIT ?"


class IngestShape(Shape):
    """Parameters of `ingest`."""

    rows: int = Field(10_000, ge=0, le=100_000_000, description="events loaded before the run")
    ids: Literal["sequential", "random", "autoincrement"] = Field(
        "sequential", description="sequential: the engine allocates; random: scattered over 2**31"
    )
    index: bool = Field(False, description="a secondary index on a column of random values")


class Ingest:
    """Appends by writers; readers look at the newest ten.

    result of an append: the number of its first event; of a look: the newest id it saw.
    """

    name: ClassVar[str] = "ingest"
    story: ClassVar[str] = (
        "Events are appended by sequential, random or AUTOINCREMENT ids: every acknowledged one is "
        "there exactly once, and none that nobody wrote."
    )
    kinds: ClassVar[tuple[str, ...]] = ("append", "look")
    cold_start: ClassVar[bool] = True
    late: ClassVar[tuple[int, ...]] = (APPEND,)
    Params: ClassVar[type[Shape]] = IngestShape

    def __init__(self, params: IngestShape) -> None:
        self.params = params

    def schema(self) -> Sequence[str]:
        key = "INTEGER PRIMARY KEY"
        if self.params.ids == "autoincrement":
            key += " AUTOINCREMENT"
        table = (
            f"CREATE TABLE event(id {key}, worker INTEGER NOT NULL, n INTEGER NOT NULL, "
            "tag INTEGER NOT NULL, body TEXT NOT NULL)"
        )
        return (table, "CREATE INDEX event_tag ON event(tag)") if self.params.index else (table,)

    def load(self, session: Session, rng: np.random.Generator) -> None:
        count = self.params.rows
        tags = rng.integers(0, 2**31, max(count, 1)).tolist()
        tail = f",'{payload(rng, self.params.record_bytes)}')"
        fill(
            session,
            "INSERT INTO event(id, worker, n, tag, body) VALUES",
            (f"({self._id(i)},{LOADED},{i},{tags[i]}{tail}" for i in range(count)),
        )

    def _id(self, number: int) -> int:
        return (number * SPREAD) % 2**31 if self.params.ids == "random" else number + 1

    def draw(self, context: WorkerContext) -> Callable[[], Draw]:
        if context.role == "reader":
            return always(Draw(LOOK, ()))
        rng, each, loaded = context.rng(), self.params.operations, self.params.rows
        drawn = 0

        def block() -> list[Draw]:
            nonlocal drawn
            count = max(BLOCK // each, 1) * each
            n = np.arange(drawn, drawn + count)
            drawn += count
            ids = (loaded + n * context.of + context.number) * SPREAD % 2**31
            tags = rng.integers(0, 2**31, count)
            events = list(zip(n.tolist(), tags.tolist(), ids.tolist(), strict=True))
            return [Draw(APPEND, tuple(events[i : i + each])) for i in range(0, count, each)]

        return stream(block)

    @property
    def autocommit(self) -> bool:
        """One event is one INSERT, which can stand alone; the events of one transaction cannot."""
        return self.params.operations == 1

    def bodies(self, context: WorkerContext) -> Sequence[Callable[[Any], int | None]]:
        assert context.session is not None
        run, rows, think, worker = (
            context.session.run,
            context.session.rows,
            context.think,
            context.worker,
        )
        body = payload(np.random.default_rng(7), self.params.record_bytes)
        chosen = self.params.ids == "random"

        def append(events: tuple[tuple[int, int, int], ...]) -> int:
            think()
            for n, tag, key in events:
                if chosen:
                    run(CHOSEN, (worker, n, tag, body, key))
                else:
                    run(ALLOCATED, (worker, n, tag, body))
            return events[0][0]

        def look(_: Any) -> int:
            newest = rows(NEWEST)
            think()
            return int(newest[0][0]) if newest else 0

        return append, look

    def touches(self, draw: Draw) -> Sequence[Touch]:
        """Scattered ids are rows of their own. Those that the engine allocates count as one row,
        NEXT: of one snapshot all insert the same. AUTOINCREMENT writes its table's counter too.
        """
        if draw.kind == LOOK:
            return []
        if self.params.ids == "random":
            return all_written("event", [key for _, _, key in draw.args])
        counter = [Touch("sqlite_sequence", 0, True)] * (self.params.ids == "autoincrement")
        return [Touch("event", NEXT, True), *counter]

    def acknowledged(self, context: WorkerContext) -> None:
        return None

    def checkpointed(self, context: WorkerContext) -> None:
        return None

    def check(self, session: Session, log: RunLog) -> list[Finding]:
        found = Found(session)
        sure = self.params.rows
        lost = _Events(found.missing(codes(LOADED, np.arange(self.params.rows))))
        maybe = 0
        for _, outcome, events in self._appended(log):
            here = events[outcome == COMMITTED].ravel()
            sure += len(here)
            lost.add(found.missing(here))
            unsure = events[outcome == UNKNOWN].ravel()
            maybe += len(unsure)
            found.missing(unsure)
        again = Counter(event for event, times in found.odd.items() if times > 1)
        several = {
            "lost": lost,
            "not acknowledged": _Events(found.untold(), found.odd),
            "twice": _Events(found.twice, again),
        }
        sentence = f"{found.total:,} events, {sure:,} acknowledged or loaded"
        if maybe:
            sentence += f", {maybe:,} of unknown outcome"
        for what, some in several.items():
            if some.count:
                sentence += f"; {some.count:,} {what}, first {_event(some.first[0])}"
        names = zip(("lost", "extra", "twice"), several.values(), strict=True)
        return [
            Finding(
                "events",
                not any(some.count for some in several.values()),
                f"{sentence}.",
                {name: some.first for name, some in names},
            ),
            self._whole(found, log, maybe),
        ]

    def _appended(self, log: RunLog) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """(worker, outcomes, events of each) of the writers' transactions, some at a time.

        Nothing is drawn again: the numbers of a worker's events follow each other (`draw`).
        """
        each = np.arange(self.params.operations)
        for worker in (worker for worker in log.workers if worker.role == "writer"):
            at = 0
            for rows in log.finals_in_turn(worker):
                n = np.arange(at, at + len(rows))[:, None] * len(each) + each
                yield worker.worker, rows["outcome"], codes(worker.worker, n)
                at += len(rows)

    def _whole(self, found: Found, log: RunLog, maybe: int) -> Finding:
        """A transaction of several events is there whole or not at all, unknown or not."""
        torn = []
        if maybe and self.params.operations > 1:
            for worker, outcome, events in self._appended(log):
                unsure = events[outcome == UNKNOWN]
                there = found.has(unsure)
                part = there.any(axis=1) & ~there.all(axis=1)
                torn += [(worker, n) for _, n in _events(unsure[part, 0])]
        sentence = "no transaction is there in part"
        if torn:
            sentence = f"{len(torn):,} transactions are there in part, first {_event(torn[0])}"
        return Finding("whole transactions", not torn, f"{sentence}.", {"torn": torn[:20]})


PAGE = 50_000
"""Rows of the table that are read at once."""

NUMBERS = 40
"""Bits of an event's number; its worker's, from LOADED on, is above."""


def codes(worker: int, n: np.ndarray) -> np.ndarray:
    """Events as one number each, in the order of (worker, n): int64, as many as there are `n`."""
    return (worker - LOADED << NUMBERS) + n.astype(np.int64)


def _events(found: np.ndarray) -> list[tuple[int, int]]:
    """(worker, n) of each code."""
    workers, numbers = (found >> NUMBERS) + LOADED, found & ((1 << NUMBERS) - 1)
    return list(zip(workers.tolist(), numbers.tolist(), strict=True))


class _Events:
    """How many events there are, in codes and odd ones, and the first 20: all may be lost."""

    def __init__(self, found: np.ndarray, odd: Collection[tuple[int, int]] = ()) -> None:
        self.count, self.first = len(odd), sorted(odd)[:20]
        self.add(found)

    def add(self, found: np.ndarray) -> None:
        self.count += len(found)
        self.first = sorted([*self.first, *_events(np.sort(found)[:20])])[:20]


class Found:
    """The events in the table, 9 bytes each: there may be 24 million.

    total : all of them. twice : those that are there more than once. odd : those that are none of
    ours, as in a damaged table, and how often each is there.
    """

    def __init__(self, session: Session) -> None:
        read = array("q")
        self.odd: Counter[tuple[int, int]] = Counter()
        after = -(1 << 63)
        while True:
            page = session.rows(EVENTS, (after, PAGE))
            for _, worker, n in page:
                worker, n = int(worker), int(n)
                if LOADED <= worker < 1 << 20 and 0 <= n < 1 << NUMBERS:
                    read.append((worker - LOADED << NUMBERS) + n)
                else:
                    self.odd[worker, n] += 1
            if len(page) < PAGE or page[-1][0] <= after:
                break
            after = page[-1][0]
        every = np.frombuffer(read, np.int64) if read else np.zeros(0, np.int64)
        every.sort()
        self.total = len(every) + self.odd.total()
        again = every[1:] == every[:-1]
        self.twice = np.unique(every[1:][again])
        self._codes = every
        self._told = np.zeros(len(every), bool)

    def missing(self, events: np.ndarray) -> np.ndarray:
        """Those of these events that are not there. The others were told of, from now on."""
        at, there = self._places(events)
        self._told[at[there]] = True
        return events[~there]

    def has(self, events: np.ndarray) -> np.ndarray:
        """Whether each event is there: bools of the shape of `events`."""
        return self._places(events)[1]

    def untold(self) -> np.ndarray:
        """The events that nobody was told of, each once."""
        # Of an event that is there twice the first place is the one that is told.
        first = np.append(True, self._codes[1:] != self._codes[:-1])[: len(self._codes)]
        return self._codes[first & ~self._told]

    def _places(self, events: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if not len(self._codes):
            return np.zeros(events.shape, int), np.zeros(events.shape, bool)
        at = np.minimum(np.searchsorted(self._codes, events), len(self._codes) - 1)
        return at, self._codes[at] == events


def _event(event: tuple[int, int]) -> str:
    worker, n = event
    return f"loaded event {n}" if worker == LOADED else f"event {n} of worker {worker}"
