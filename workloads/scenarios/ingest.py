"""Ingest: rows are only ever added, and every acknowledged one is there exactly once.

Where the keys grow, all writers meet on the last page of the table: the worst case of a page-level
engine and no conflict at all for a row-level one. Random keys spread them over the table; an index
brings the meeting back elsewhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
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
        found: Counter[tuple[int, int]] = Counter(
            (int(worker), int(n)) for worker, n in session.rows("SELECT worker, n FROM event")
        )
        sure: set[tuple[int, int]] = {(LOADED, n) for n in range(self.params.rows)}
        maybe: set[tuple[int, int]] = set()
        for worker in log.workers:
            if worker.role == "writer":
                for draw, row in log.replay(worker):
                    events = {(worker.worker, n) for n, _, _ in draw.args}
                    if row["outcome"] == COMMITTED:
                        sure |= events
                    elif row["outcome"] == UNKNOWN:
                        maybe |= events
        lost = sorted(sure - found.keys())
        extra = sorted(found.keys() - sure - maybe)
        twice = sorted(event for event, times in found.items() if times > 1)
        sentence = f"{found.total():,} events, {len(sure):,} acknowledged or loaded"
        if maybe:
            sentence += f", {len(maybe):,} of unknown outcome"
        for what, some in (("lost", lost), ("not acknowledged", extra), ("twice", twice)):
            if some:
                sentence += f"; {len(some):,} {what}, first {_event(some[0])}"
        return [
            Finding(
                "events",
                not (lost or extra or twice),
                f"{sentence}.",
                {"lost": lost[:20], "extra": extra[:20], "twice": twice[:20]},
            ),
            self._whole(found, log, maybe),
        ]

    def _whole(
        self, found: Counter[tuple[int, int]], log: RunLog, maybe: set[tuple[int, int]]
    ) -> Finding:
        """A transaction of several events is there whole or not at all, unknown or not."""
        torn = []
        if maybe and self.params.operations > 1:
            for worker in log.workers:
                if worker.role == "writer":
                    for draw, row in log.replay(worker):
                        if row["outcome"] == UNKNOWN:
                            there = [(worker.worker, n) in found for n, _, _ in draw.args]
                            if any(there) and not all(there):
                                torn.append((worker.worker, draw.args[0][0]))
        sentence = "no transaction is there in part"
        if torn:
            sentence = f"{len(torn):,} transactions are there in part, first {_event(torn[0])}"
        return Finding("whole transactions", not torn, f"{sentence}.", {"torn": torn[:20]})


def _event(event: tuple[int, int]) -> str:
    worker, n = event
    return f"loaded event {n}" if worker == LOADED else f"event {n} of worker {worker}"
