"""Request: an application's request asks for several rows, one query after the other.

Each query waits for the answer to the one before, as code that walks from a customer to orders to
items does. So a request pays the way to the database once a query, and the scenario shows what that
costs. The fair opponents pay it once: all keys in one statement, or all queries in a pipeline.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from workloads.engines import Session
from workloads.records import COMMITTED, CONFLICT, STATEMENT, UNKNOWN
from workloads.scenarios import keys
from workloads.scenarios.drawing import BLOCK, draws_of, stream
from workloads.scenarios.footprint import Footprint, Touch, all_written, only_writes
from workloads.scenarios.loading import fill, payload
from workloads.scenarios.scenario import (
    Draw,
    Finding,
    InvariantBroken,
    RunLog,
    Shape,
    WorkerContext,
)

UPDATE, REQUEST = range(2)
READ = "SELECT id, n, pad FROM request WHERE id = ?"
WRITE = "UPDATE request SET n = n + 1 WHERE id = ?"
MOST_QUERIES = 500

How = Literal["one-by-one", "one-statement", "pipeline"]


class RequestShape(Shape):
    """Parameters of `request`."""

    queries: int = Field(10, ge=1, le=MOST_QUERIES, description="queries of a reader's request")
    how: How = Field(
        "one-by-one",
        description="how they are sent: one-by-one, one-statement (all keys in one SELECT) or "
        "pipeline (all before the first answer, where the engine has a pipeline)",
    )


class Request:
    """Requests of several point reads by readers, updates by key by writers.

    result of a request: the sum of the ids of its rows; of an update: 0. In one statement a key
    that was drawn twice is one row.
    """

    name: ClassVar[str] = "request"
    story: ClassVar[str] = (
        "A reader's request is several reads by key, one after the other, in one statement or in a "
        "pipeline; a writer updates a row by key. Each request gets the rows that it asked for, "
        "and each row counts its updates."
    )
    kinds: ClassVar[tuple[str, ...]] = ("update", "request")
    cold_start: ClassVar[bool] = True
    Params: ClassVar[type[Shape]] = RequestShape
    loaded_by: ClassVar[tuple[str, ...]] = ("rows", "record_bytes")
    autocommit: ClassVar[bool] = True
    needs: tuple[str, ...] = ()

    def __init__(self, params: RequestShape) -> None:
        self.params = params
        if params.how == "pipeline":
            self.needs = ("pipeline",)

    def schema(self) -> Sequence[str]:
        return (
            "CREATE TABLE request(id INTEGER PRIMARY KEY, n INTEGER NOT NULL, pad TEXT NOT NULL)",
        )

    def load(self, session: Session, rng: np.random.Generator) -> None:
        tail = f",0,'{payload(rng, self.params.record_bytes)}')"
        fill(
            session,
            "INSERT INTO request(id, n, pad) VALUES",
            (f"({i}{tail}" for i in range(self.params.rows)),
        )

    def draw(self, context: WorkerContext) -> Callable[[], Draw]:
        key = keys.sampler(self.params.keys, self.params.rows, context.rng())
        if context.role == "writer":
            return stream(lambda: draws_of(UPDATE, zip(key(BLOCK).tolist())))
        each = self.params.queries

        def block() -> list[Draw]:
            sets = key(max(BLOCK // each, 1) * each).reshape(-1, each)
            return draws_of(REQUEST, map(tuple, sets.tolist()))

        return stream(block)

    def bodies(self, context: WorkerContext) -> Sequence[Callable[[Any], int | None]]:
        assert context.session is not None
        run, think = context.session.run, context.think
        ask = self._asker(context.session)
        if context.role == "reader" and not hasattr(context.session, "finished"):
            # An engine may prepare a statement when it is first used, which takes a trip of its
            # own. A connection that has been in use has done so: no request is to pay for it. One
            # that each transaction opens or borrows is not there yet.
            try:
                if self.params.how == "one-statement":
                    ask((0,) * self.params.queries)
                else:
                    context.session.rows(READ, (0,))
            except Exception as error:
                if context.session.refusal(error, STATEMENT).outcome != CONFLICT:
                    raise

        def update(args: tuple[int]) -> None:
            think()
            run(WRITE, args)

        def request(args: tuple[int, ...]) -> int:
            total = ask(args)
            think()
            return total

        return update, request

    def _asker(self, session: Session) -> Callable[[tuple[int, ...]], int]:
        """A function that makes a request: keys -> the sum of the ids of the rows it got."""
        rows = session.rows

        def one_by_one(args: tuple[int, ...]) -> int:
            total = 0
            for key in args:
                found = rows(READ, (key,))
                if not found:
                    raise missing(key)
                total += found[0][0]
            return total

        marks = ", ".join("?" * self.params.queries)
        many = f"SELECT id, n, pad FROM request WHERE id IN ({marks})"

        def one_statement(args: tuple[int, ...]) -> int:
            return sum(row[0] for row in rows(many, args))

        pipeline: Any = getattr(session, "pipeline", None)

        def in_a_pipeline(args: tuple[int, ...]) -> int:
            answers = pipeline([(READ, (key,)) for key in args])
            return sum(found[0][0] for found in answers if found)

        return {
            "one-by-one": one_by_one,
            "one-statement": one_statement,
            "pipeline": in_a_pipeline,
        }[self.params.how]

    def footprint(self) -> Footprint:
        chances = keys.probabilities(self.params.keys, self.params.rows)
        return only_writes("request", UPDATE, 1, chances)

    def touches(self, draw: Draw) -> Sequence[Touch]:
        if draw.kind == UPDATE:
            return all_written("request", draw.args)
        return [Touch("request", row, False) for row in dict.fromkeys(draw.args)]

    def acknowledged(self, context: WorkerContext) -> None:
        return None

    def checkpointed(self, context: WorkerContext) -> None:
        return None

    def check(self, session: Session, log: RunLog) -> list[Finding]:
        found = {int(key): int(n) for key, n in session.rows("SELECT id, n FROM request")}
        return [self._updates(found, log), self._answers(log)]

    def _updates(self, found: dict[int, int], log: RunLog) -> Finding:
        """Each row's number is that of its committed updates, or of those that may have been."""
        committed: Counter[int] = Counter()
        unknown: Counter[int] = Counter()
        for worker in log.workers:
            if worker.role == "writer":
                for outcome, (_, args) in log.answers(worker):
                    if outcome in (COMMITTED, UNKNOWN):
                        (committed if outcome == COMMITTED else unknown)[args[0]] += 1
        wrong = [
            {"id": key, "n": found.get(key), "committed": committed[key], "unknown": unknown[key]}
            for key in range(self.params.rows)
            if not committed[key] <= found.get(key, -1) <= committed[key] + unknown[key]
        ]
        more = f" and {unknown.total():,} of unknown outcome" if unknown else ""
        source = f"{committed.total():,} committed updates{more}"
        total = f"{len(found):,} rows were updated {sum(found.values()):,} times, by {source}"
        ok = not wrong and len(found) == self.params.rows
        sentence = f"{total}."
        if not ok:
            each = "; ".join(map(_described, wrong[:3]))
            sentence = f"{len(wrong):,} of {self.params.rows:,} rows are wrong ({total}): {each}."
        return Finding("updates", ok, sentence, {"wrong": wrong[:20], "committed": len(committed)})

    def _answers(self, log: RunLog) -> Finding:
        """Each request got the rows that it asked for, and no others."""
        requests, wrong = 0, []
        once = self.params.how == "one-statement"
        for worker in log.workers:
            if worker.role != "reader":
                continue
            for outcome, got, txn, (_, args) in log.answers(worker, "result", "txn"):
                if outcome != COMMITTED:
                    continue
                requests += 1
                if got != sum(set(args) if once else args):
                    asked = list(args[:20])
                    wrong.append({"worker": worker.worker, "txn": txn, "asked": asked, "sum": got})
        sentence = f"{requests:,} requests got the rows that they asked for."
        if wrong:
            first = wrong[0]
            sentence = (
                f"{len(wrong):,} of {requests:,} requests got other rows than they asked for, as "
                f"transaction {first['txn']} of worker {first['worker']}: its keys are "
                f"{_few(first['asked'])}, and the ids that it got add up to {first['sum']:,}."
            )
        return Finding("answers", not wrong, sentence, {"wrong": wrong[:20]})


def _described(wrong: dict[str, Any]) -> str:
    held = "is missing" if wrong["n"] is None else f"counts {wrong['n']:,}"
    more = f" (and {wrong['unknown']:,} unknown)" if wrong["unknown"] else ""
    return f"row {wrong['id']} {held} after {wrong['committed']:,} committed{more}"


def _few(asked: Iterable[int]) -> str:
    shown = [str(key) for key in asked]
    return ", ".join(shown[:5]) + (", …" if len(shown) > 5 else "")


def missing(key: int) -> InvariantBroken:
    return InvariantBroken(f"Row {key} is gone; rows are never deleted.", row=key)
