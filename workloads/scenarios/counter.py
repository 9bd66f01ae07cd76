"""Counter: increments on a few hot rows, each read first and then written.

The new value is computed here from the value that was read, so two transactions that read the
same value and both commit leave a counter one too low: a lost update, and nothing hides it.
"""

from __future__ import annotations

from array import array
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
    cold_start: ClassVar[bool] = True
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

    def holds(self, session: Session) -> list[str]:
        """Counters are never deleted, and none was ever below 0."""
        count, least = session.rows("SELECT count(*), min(n) FROM counter")[0]
        if count == self.params.rows and least >= 0:
            return []
        return [
            f"{count} counters are there, the least at {least}; {self.params.rows:,} begin at 0"
        ]

    def check(self, session: Session, log: RunLog) -> list[Finding]:
        found: dict[int, int] = dict(session.rows("SELECT id, n FROM counter"))
        increments = [0] * self.params.rows
        unknown: Tally[int] = Tally()
        written = Written()
        one = self.params.operations == 1
        for worker in log.workers:
            if worker.role != "writer":
                continue
            for outcome, n, (_, args) in log.answers(worker, "result"):
                if outcome == COMMITTED:
                    for key in args:
                        increments[key] += 1
                    if one:
                        written.add(key, n)
                elif outcome == UNKNOWN:
                    unknown.update(args)
        committed = Tally({key: times for key, times in enumerate(increments) if times})
        findings = [self._counts(found, committed, unknown)]
        if one:
            different, values = written.twice()
            twice = self._who_wrote(values, log) if values else []
            findings.append(written_twice(twice, different))
        return findings

    def _who_wrote(self, values: set[int], log: RunLog) -> list[dict[str, Any]]:
        """The transactions that wrote a value which another had written. values : packed."""
        firsts: dict[int, tuple[int, int]] = {}
        twice = []
        for worker in (worker for worker in log.workers if worker.role == "writer"):
            for outcome, n, txn, (_, args) in log.answers(worker, "result", "txn"):
                value = packed(args[0], n)
                if outcome == COMMITTED and value in values:
                    who = (worker.worker, txn)
                    first = firsts.setdefault(value, who)
                    if first is not who:
                        twice.append({"counter": args[0], "n": n, "by": [first, who]})
        return twice

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


def packed(counter: int, n: int) -> int:
    """A counter and a value of it in one number, which has 64 bits unless the value is odd."""
    return counter << 32 | n if 0 <= n < 1 << 32 else (counter << 64 | n + (1 << 63)) + (1 << 96)


class Written:
    """The values that committed increments wrote, 8 bytes each: there may be 24 million."""

    def __init__(self) -> None:
        self._values = array("Q")
        self._odd: list[int] = []

    def add(self, counter: int, n: int) -> None:
        if 0 <= n < 1 << 32:
            self._values.append(counter << 32 | n)
        else:
            self._odd.append(packed(counter, n))

    def twice(self) -> tuple[int, set[int]]:
        """How many different ones there are, and those that were written more than once, packed.

        Asked once: they are sorted in their place.
        """
        values = np.frombuffer(self._values, np.uint64) if self._values else np.zeros(0, np.uint64)
        values.sort()
        again = values[1:][values[1:] == values[:-1]]
        odd = Tally(self._odd)
        several = {value for value, times in odd.items() if times > 1}
        return len(values) - len(again) + len(odd), {*again.tolist(), *several}


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
