"""Append: lists that are read whole and appended to, or registers that are read and set.

Every value is written once, so a read shows whose writes it saw and in what order. From these reads
alone the isolation checker finds anomalies (Elle's list-append and rw-register). `cwkit check RUN`
judges the history that such a run leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain, count
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from workloads.engines import Session
from workloads.records import COMMITTED, UNKNOWN
from workloads.scenarios import keys
from workloads.scenarios.drawing import stream
from workloads.scenarios.footprint import Touch
from workloads.scenarios.keys import BLOCK
from workloads.scenarios.scenario import Draw, Finding, RunLog, Shape, WorkerContext

WORKERS = 1024
"""Values are a worker's own count times this, plus its number: unique, and within 32 bits for the
first two million, beyond which the libSQL binding is slower and no less exact."""
MOST_LONG = 100_000
"""Elements that one list can have where each is a row: its key times this is its first id."""

UPSERT = {
    "text": "INSERT INTO list(id, value) VALUES (?, ?) "
    "ON CONFLICT(id) DO UPDATE SET value = list.value || excluded.value",
    "register": "INSERT INTO list(id, value) VALUES (?, ?) "
    "ON CONFLICT(id) DO UPDATE SET value = excluded.value",
}
READ = "SELECT value FROM list WHERE id = ?"
READ_ROWS = "SELECT value FROM element WHERE id BETWEEN ? AND ? ORDER BY id"
# The place comes after the last one that this transaction sees. Two transactions that see the same
# list choose the same place and so write the same row: engines that look at rows must notice.
APPEND_ROW = (
    "INSERT INTO element(id, value) SELECT coalesce(max(id), ?) + 1, ? FROM element "
    "WHERE id BETWEEN ? AND ?"
)


class AppendShape(Shape):
    """Parameters of `append`."""

    rows: int = Field(10, ge=1, le=10_000, description="lists in use at a time")
    operations: int = Field(4, ge=1, le=100, description="most operations a transaction")
    storage: Literal["text", "rows", "register"] = Field(
        "text", description="text: a list is one row's text; rows: a row an element; register"
    )
    reads: float = Field(0.5, ge=0, le=1, description="share of the operations that only read")
    draws: int = Field(
        200, ge=1, le=1_000_000, description="transactions of a worker until it takes new lists"
    )


class Append:
    """Transactions of reads and appends. result : how many appends it made."""

    name: ClassVar[str] = "append"
    story: ClassVar[str] = (
        "Workers read whole lists and append to them, every value once; what they saw tells "
        "which isolation they got, and `cwkit check` says so."
    )
    kinds: ClassVar[tuple[str, ...]] = ("transaction", "look")
    cold_start: ClassVar[bool] = True
    Params: ClassVar[type[Shape]] = AppendShape

    def __init__(self, params: AppendShape) -> None:
        self.params = params
        self.logged = "rw-register" if params.storage == "register" else "list-append"
        """The model of the history that a run of this leaves; makes the runner log it."""

    def schema(self) -> Sequence[str]:
        if self.params.storage == "rows":
            return ("CREATE TABLE element(id INTEGER PRIMARY KEY, value INTEGER NOT NULL)",)
        kind = "INTEGER" if self.params.storage == "register" else "TEXT"
        return (f"CREATE TABLE list(id INTEGER PRIMARY KEY, value {kind} NOT NULL)",)

    def load(self, session: Session, rng: np.random.Generator) -> None:
        """Loads nothing: a list begins with its first element."""

    def _blocks(self, context: WorkerContext) -> Callable[[], tuple[np.ndarray, ...]]:
        """A function that draws many transactions at once: of each how many operations it has, then
        as many keys as it may have, and whether each operation only reads.
        """
        p, rng = self.params, context.rng()
        key = keys.sampler(p.keys, p.rows, rng)
        share = 1.0 if context.role == "reader" else p.reads
        many = max(BLOCK // p.operations, 1)

        def block() -> tuple[np.ndarray, ...]:
            sizes = rng.integers(1, p.operations + 1, many)
            chosen = key(many * p.operations).reshape(many, p.operations)
            return sizes, chosen, rng.random((many, p.operations)) < share

        return block

    def written(self, context: WorkerContext) -> Callable[[], int]:
        """How many of its operations write, of each draw: a check needs no more of it."""
        numbers, places = self._blocks(context), np.arange(self.params.operations)

        def block() -> list[int]:
            sizes, _, look = numbers()
            counts: list[int] = (~look & (places < sizes[:, None])).sum(axis=1).tolist()
            return counts

        return chain.from_iterable(iter(block, None)).__next__

    def draw(self, context: WorkerContext) -> Callable[[], Draw]:
        p, numbers = self.params, self._blocks(context)
        kind, drawn = int(context.role == "reader"), count()

        def block() -> list[Draw]:
            made = []
            for size, some, only in zip(*(each.tolist() for each in numbers()), strict=True):
                # Long lists cost their length at every read: after a while all take new ones.
                first = next(drawn) // p.draws * p.rows
                pairs = zip(some[:size], only[:size], strict=True)
                made.append(Draw(kind, tuple((first + k, r) for k, r in pairs)))
            return made

        draws = stream(block)
        if context.session is None:
            return draws  # a replay

        wanted: list[Draw] = [Draw(0, ())]
        values = count()
        write = "w" if p.storage == "register" else "append"

        def plan() -> list[tuple[str, int, Any]]:
            return [
                ("r", k, None) if r else (write, k, next(values) * WORKERS + context.worker)
                for k, r in wanted[0].args
            ]

        def draw() -> Draw:
            wanted[0] = drawn_now = draws()
            return drawn_now

        context.session.plan = plan  # type: ignore[attr-defined]  # a LoggedSession
        return draw

    def bodies(self, context: WorkerContext) -> Sequence[Callable[[Any], int | None]]:
        session = context.session
        assert session is not None
        run, rows, think = session.run, session.rows, context.think
        storage = self.params.storage

        def read(key: int) -> Any:
            if storage == "rows":
                first = key * MOST_LONG
                return [row[0] for row in rows(READ_ROWS, (first, first + MOST_LONG - 1))]
            found = rows(READ, (key,))
            if storage == "register":
                return found[0][0] if found else None
            return [int(word) for word in found[0][0].split()] if found else []

        def append(key: int, value: int) -> None:
            if storage == "rows":
                first = key * MOST_LONG
                run(APPEND_ROW, (first, value, first, first + MOST_LONG - 1))
            else:
                run(UPSERT[storage], (key, f"{value} " if storage == "text" else value))

        def transaction(_: Any) -> int:
            ops = session.ops  # type: ignore[attr-defined]
            written = 0
            for place, (f, key, value) in enumerate(ops):
                if f == "r":
                    ops[place] = (f, key, read(key))
                else:
                    append(key, value)
                    written += 1
            think()
            return written

        return transaction, transaction

    def touches(self, draw: Draw) -> Sequence[Touch]:
        """A list counts as one row, however it is stored: transactions meet at its next place."""
        found: dict[int, bool] = {}
        for key, only_read in draw.args:
            found[key] = found.get(key, False) or not only_read
        table = "element" if self.params.storage == "rows" else "list"
        return [Touch(table, key, wrote) for key, wrote in found.items()]

    def acknowledged(self, context: WorkerContext) -> None:
        return None

    def checkpointed(self, context: WorkerContext) -> None:
        return None

    def check(self, session: Session, log: RunLog) -> list[Finding]:
        """There are as many elements as committed appends. The checker judges their order."""
        if self.params.storage == "register":
            return []
        committed = unknown = 0
        for worker in log.workers:
            for outcome, written in log.answers(worker, drawn=self.written):
                if outcome == COMMITTED:
                    committed += written
                elif outcome == UNKNOWN:
                    unknown += written
        if self.params.storage == "rows":
            found = int(session.rows("SELECT count(*) FROM element")[0][0])
        else:
            found = sum(len(row[0].split()) for row in session.rows("SELECT value FROM list"))
        ok = committed <= found <= committed + unknown
        more = f" and {unknown:,} of unknown outcome" if unknown else ""
        return [
            Finding(
                "elements",
                ok,
                f"{found:,} elements after {committed:,} committed appends{more}.",
                {"found": found, "committed": committed, "unknown": unknown},
            )
        ]
