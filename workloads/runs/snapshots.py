"""Readers that keep their snapshot: a read transaction stays open and reads again and again.

So does a backup, an export or a report beside an application's writers. Meanwhile the log cannot
be copied back beyond what such a reader still needs, and cannot begin again. Whatever it reads
twice must be answered alike, for that is what a snapshot is: each answer is held against the first.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import Any

from workloads.engines import Session
from workloads.scenarios import InvariantBroken, WorkerContext

PAUSE_S = 0.001
"""Between two readings of one snapshot: what holds the log back is its age, not the reads."""

CHANGES_BY_ITSELF = re.compile(
    r"\b(random\w*|current_\w+|now|julianday|strftime|unixepoch|datetime|date|time|clock_\w+|"
    r"changes|total_changes|last_insert_rowid|nextval|txid_\w+|pg_\w+)\b",
    re.IGNORECASE,
)
"""In a query: its answer may differ within a snapshot."""


class OneSnapshot:
    """A reader's session: what its transaction asks twice has to be answered alike.

    checked : false for an engine that stores nothing.
    """

    def __init__(self, real: Session, *, checked: bool = True) -> None:
        self.real = real
        self._checked = checked
        self._answers: dict[Any, int] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def begin(self) -> None:
        self._answers.clear()
        self.real.begin()

    def rows(self, sql: str, params: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        found = self.real.rows(sql, params)
        if self._checked:
            # Sorted: two scans of one snapshot may take its rows in another order.
            seen = hash(tuple(sorted(map(repr, found))))
            before = self._answers.setdefault((sql, params), seen)
            if before != seen and not CHANGES_BY_ITSELF.search(sql):
                raise InvariantBroken(
                    "A reader got two answers to one query within one transaction, so it does not "
                    f"keep its snapshot: {sql}",
                    sql=sql,
                    params=list(params),
                    rows=[list(row) for row in found[:20]],
                )
        return found


def holding(
    bodies: Sequence[Callable[[Any], int | None]], hold_s: float, context: WorkerContext
) -> tuple[Callable[[Any], int | None], ...]:
    """A reader's bodies, each of which reads again and again until so much time is over.

    The result is that of the first reading. A run that ends meanwhile is not waited for.
    """
    hold_ns, clock, stopping = int(hold_s * 1e9), context.clock, context.stopping

    def held(body: Callable[[Any], int | None]) -> Callable[[Any], int | None]:
        def again_and_again(args: Any) -> int | None:
            until = clock() + hold_ns
            result = body(args)
            while (left := until - clock()) > 0 and not stopping():
                time.sleep(min(PAUSE_S, left / 1e9))
                body(args)
            return result

        return again_and_again

    return tuple(held(body) for body in bodies)
