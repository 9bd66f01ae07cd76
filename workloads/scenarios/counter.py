"""Counter: increments on a few hot rows, each read first and then written.

The new value is computed here from the value that was read, so two transactions that read the
same value and both commit leave a counter one too low: a lost update, and nothing hides it.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from workloads.engines import Session
from workloads.records import COMMITTED, UNKNOWN
from workloads.scenarios import keys
from workloads.scenarios.drawing import draws_of, stream
from workloads.scenarios.footprint import Footprint, Touch, all_written, only_writes
from workloads.scenarios.keys import BLOCK
from workloads.scenarios.loading import fill, payload
from workloads.scenarios.scenario import (
    Draw,
    Finding,
    InvariantBroken,
    RunLog,
    Shape,
    WorkerContext,
)

INCREMENT, LOOK = range(2)
READ = "SELECT n FROM counter WHERE id = ?"
WRITE = "UPDATE counter SET n = ? WHERE id = ?"


class CounterShape(Shape):
    """Parameters of `counter`. Few rows, so that transactions meet."""

    rows: int = Field(10, ge=1, le=10_000_000, description="counters")
    operations: int = Field(
        1, ge=1, le=1_000, description="increments a transaction; a counter drawn twice counts once"
    )


class Counter:
    """Increments by writers, looks at single counters by readers.

    result of an increment: the value it wrote (the sum of them where there are several); of a
    look: the value it saw.
    """

    name: ClassVar[str] = "counter"
    story: ClassVar[str] = (
        "Writers read a counter and write back one more. Each counter ends at the number of its "
        "committed increments, so a lost update shows; a reader never sees one go back."
    )
    kinds: ClassVar[tuple[str, ...]] = ("increment", "look")
    Params: ClassVar[type[Shape]] = CounterShape

    def __init__(self, params: CounterShape) -> None:
        self.params = params

    def schema(self) -> Sequence[str]:
        return (
            "CREATE TABLE counter(id INTEGER PRIMARY KEY, n INTEGER NOT NULL, pad TEXT NOT NULL)",
        )

    def load(self, session: Session, rng: np.random.Generator) -> None:
        tail = f",0,'{payload(rng, self.params.record_bytes)}')"
        fill(
            session,
            "INSERT INTO counter(id, n, pad) VALUES",
            (f"({i}{tail}" for i in range(self.params.rows)),
        )

    def draw(self, context: WorkerContext) -> Callable[[], Draw]:
        key = keys.sampler(self.params.keys, self.params.rows, context.rng())
        if context.role == "reader":
            return stream(lambda: draws_of(LOOK, zip(key(BLOCK).tolist())))
        each = self.params.operations
        if each == 1:
            return stream(lambda: draws_of(INCREMENT, zip(key(BLOCK).tolist())))

        def block() -> list[Draw]:
            sets = key(max(BLOCK // each, 1) * each).reshape(-1, each).tolist()
            return draws_of(INCREMENT, (tuple(dict.fromkeys(some)) for some in sets))

        return stream(block)

    def bodies(self, context: WorkerContext) -> Sequence[Callable[[Any], int | None]]:
        assert context.session is not None
        run, rows, think = context.session.run, context.session.rows, context.think
        highest: dict[int, int] = {}

        def increment(args: tuple[int]) -> int:
            try:
                n = rows(READ, args)[0][0] + 1
            except IndexError:
                raise missing(args[0]) from None
            think()
            run(WRITE, (n, args[0]))
            return n

        def increments(args: tuple[int, ...]) -> int:
            values = []
            for key in args:
                read = rows(READ, (key,))
                if not read:
                    raise missing(key)
                values.append(read[0][0] + 1)
            think()
            for key, n in zip(args, values, strict=True):
                run(WRITE, (n, key))
            return sum(values)

        def look(args: tuple[int]) -> int:
            read = rows(READ, args)
            if not read:
                raise missing(args[0])
            n, before = read[0][0], highest.get(args[0], 0)
            if n < before and context.checked:
                raise InvariantBroken(
                    f"Counter {args[0]} was {before:,} and then, in a later transaction of the "
                    f"same reader, {n:,}. Counters only grow.",
                    counter=args[0],
                    before=before,
                    now=n,
                )
            highest[args[0]] = n
            think()
            return n

        return (increment if self.params.operations == 1 else increments), look

    def footprint(self) -> Footprint:
        chances = keys.probabilities(self.params.keys, self.params.rows)
        return only_writes("counter", INCREMENT, self.params.operations, chances)

    def touches(self, draw: Draw) -> Sequence[Touch]:
        if draw.kind == LOOK:
            return [Touch("counter", draw.args[0], False)]
        return all_written("counter", draw.args)

    def acknowledged(self, context: WorkerContext) -> None:
        return None

    def checkpointed(self, context: WorkerContext) -> None:
        return None

    def check(self, session: Session, log: RunLog) -> list[Finding]:
        found: dict[int, int] = dict(session.rows("SELECT id, n FROM counter"))
        committed: Tally[int] = Tally()
        unknown: Tally[int] = Tally()
        written: dict[tuple[int, int], tuple[int, int]] = {}
        twice: list[dict[str, Any]] = []
        one = self.params.operations == 1
        for worker in log.workers:
            if worker.role != "writer":
                continue
            for draw, row in log.replay(worker):
                if row["outcome"] == COMMITTED:
                    committed.update(draw.args)
                    if one:
                        value = (draw.args[0], int(row["result"]))
                        who = (worker.worker, int(row["txn"]))
                        first = written.setdefault(value, who)
                        if first is not who:
                            twice.append({"counter": value[0], "n": value[1], "by": [first, who]})
                elif row["outcome"] == UNKNOWN:
                    unknown.update(draw.args)
        findings = [self._counts(found, committed, unknown)]
        if one:
            findings.append(written_twice(twice, len(written)))
        return findings

    def _counts(self, found: dict[int, int], committed: Tally[int], unknown: Tally[int]) -> Finding:
        wrong = [
            {"counter": k, "n": found.get(k), "committed": committed[k], "unknown": unknown[k]}
            for k in range(self.params.rows)
            if not committed[k] <= found.get(k, -1) <= committed[k] + unknown[k]
        ]
        unsure = sum(unknown.values())
        more = f" and {unsure:,} of unknown outcome" if unsure else ""
        source = f"{committed.total():,} committed increments{more}"
        if not wrong and len(found) == self.params.rows:
            sentence = f"{len(found):,} counters add up to {sum(found.values()):,}, from {source}."
        else:
            sentence = (
                f"{len(wrong):,} of {self.params.rows:,} counters do not hold their increments "
                f"({len(found):,} rows add up to {sum(found.values()):,}, from {source}): "
                + "; ".join(_describe(w) for w in wrong[:3])
                + "."
            )
        return Finding(
            "counters",
            not wrong and len(found) == self.params.rows,
            sentence,
            {"committed": committed.total(), "unknown": unsure, "wrong": wrong[:20]},
        )


def _describe(wrong: dict[str, Any]) -> str:
    held = "is missing" if wrong["n"] is None else f"holds {wrong['n']:,}"
    more = f" (and {wrong['unknown']:,} unknown)" if wrong["unknown"] else ""
    return f"counter {wrong['counter']} {held} after {wrong['committed']:,} committed{more}"


def written_twice(twice: Sequence[dict[str, Any]], values: int) -> Finding:
    """No two committed increments of a counter wrote the same value: the lost update by name."""
    if not twice:
        return Finding("lost updates", True, f"{values:,} increments wrote {values:,} values.", {})
    first = twice[0]
    (worker, txn), (other, other_txn) = first["by"]
    return Finding(
        "lost updates",
        False,
        f"{len(twice):,} increments wrote a value that another had written: counter "
        f"{first['counter']} was set to {first['n']:,} by transaction {txn} of worker {worker} and "
        f"by transaction {other_txn} of worker {other}, both committed.",
        {"twice": list(twice[:20])},
    )


def missing(key: int) -> InvariantBroken:
    return InvariantBroken(f"Counter {key} is gone; counters are never deleted.", counter=key)
