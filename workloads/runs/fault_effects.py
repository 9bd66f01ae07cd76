"""What the faults of a run did: where each struck, what that worker got, how the others went on.

A fault that was asked for is no trouble of the machine's. What it may not do is in the findings:
nobody but the worker that it struck may be held up beyond the time that a lock is waited for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from workloads.processes import FaultRule, Hit
from workloads.records import (
    BEGIN,
    COMMIT,
    COMMITTED,
    OUTCOMES,
    STATEMENT,
    FaultEntry,
    FaultHit,
    FindingEntry,
    WorkerRecord,
)

KILLED = "killed by a fault"
"""The state of a worker whose process a fault ended, as was asked."""

MOST_TOLD = 20
"""Moments of each fault that are told one by one."""

PHASES = {BEGIN: "BEGIN", STATEMENT: "statement", COMMIT: "COMMIT"}
SLACK_NS, LATE_NS = 2_000_000_000, 10_000_000_000
"""Beyond the busy timeout, on a machine with others on it: from when on nobody at all went on, and
from when on who did was too late.
"""


@dataclass(frozen=True, slots=True)
class Struck:
    """The attempt that a worker was at when a fault struck."""

    worker: WorkerRecord
    phase: str
    outcome: str
    message: str


def entries(
    rules: Sequence[FaultRule],
    matched: Sequence[int],
    fired: Sequence[int],
    hits: Sequence[Hit],
    workers: Sequence[WorkerRecord],
    groups: Sequence[tuple[int, ...]],
) -> tuple[FaultEntry, ...]:
    """What became of each rule. groups : the numbers of the workers in each process."""
    found = []
    for number, rule in enumerate(rules):
        mine = [hit for hit in hits if hit.rule == number]
        struck = [_told(hit, struck_at(hit, workers, groups)) for hit in mine[:MOST_TOLD]]
        found.append(
            FaultEntry(
                rule=str(rule),
                matched=matched[number],
                fired=fired[number],
                hits=tuple(struck),
                longest_block_ns=longest_block_ns(mine, workers, groups),
            )
        )
    return tuple(found)


def carried(hit: Hit, groups: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The workers of the process in which a fault struck: several where they are its threads."""
    return next((group for group in groups if hit.worker in group), ())


def killed(
    rules: Sequence[FaultRule], hits: Sequence[Hit], groups: Sequence[tuple[int, ...]]
) -> set[int]:
    """The workers whose processes a fault ended."""
    deadly = [hit for hit in hits if rules[hit.rule].kills]
    return {worker for hit in deadly for worker in carried(hit, groups)}


def struck_at(
    hit: Hit, workers: Sequence[WorkerRecord], groups: Sequence[tuple[int, ...]]
) -> Struck | None:
    """The attempt of the struck process that was under way; None where none was.

    Of several threads, the one that did not commit is taken for the one that it struck.
    """
    there = set(carried(hit, groups))
    found = [one for w in workers if w.worker in there for one in _under_way(w, hit.at_ns)]
    return min(found, key=lambda one: one.outcome == OUTCOMES[COMMITTED], default=None)


def _under_way(worker: WorkerRecord, at_ns: int) -> list[Struck]:
    found = []
    for rows in worker.rows.pieces():
        ends = np.where(rows["end_ns"] == 0, np.iinfo(np.int64).max, rows["end_ns"])
        for row in rows[(rows["start_ns"] <= at_ns) & (rows["start_ns"] != 0) & (at_ns <= ends)]:
            begun, worked = int(row["begun_ns"]), int(row["worked_ns"])
            if worker.role == "checkpointer":
                phase = "checkpoint"
            elif row["end_ns"] == 0:
                phase = "transaction"
            elif not 0 < begun <= at_ns:
                phase = PHASES[BEGIN]
            else:
                phase = PHASES[COMMIT if 0 < worked <= at_ns else STATEMENT]
            number = int(row["message"])
            text = worker.messages[number - 1] if 0 < number <= len(worker.messages) else ""
            found.append(Struck(worker, phase, OUTCOMES[int(row["outcome"])], text))
    return found


def _told(hit: Hit, struck: Struck | None) -> FaultHit:
    if struck is None:
        return FaultHit(at_ns=hit.at_ns)
    return FaultHit(
        at_ns=hit.at_ns,
        role=struck.worker.role,
        number=struck.worker.number,
        phase=struck.phase,
        outcome=struck.outcome,
        message=struck.message,
    )


def _commits(worker: WorkerRecord) -> np.ndarray:
    """When its commits ended, ns, ascending."""
    ends = [rows["end_ns"][rows["outcome"] == COMMITTED] for rows in worker.rows.pieces()]
    return np.sort(np.concatenate([np.zeros(0, np.int64), *ends]))


def longest_block_ns(
    hits: Sequence[Hit], workers: Sequence[WorkerRecord], groups: Sequence[tuple[int, ...]]
) -> int | None:
    """The longest time from a hit to the next commit of another process's writer that went on.

    None where there was none.
    """
    longest = None
    for worker in workers:
        if worker.role != "writer" or not hits:
            continue
        ends = _commits(worker)
        for hit in hits:
            if worker.worker in carried(hit, groups):
                continue
            at = int(np.searchsorted(ends, hit.at_ns))
            if at < len(ends):
                longest = max(longest or 0, int(ends[at]) - hit.at_ns)
    return longest


def went_on(
    rules: Sequence[FaultRule],
    hits: Sequence[Hit],
    workers: Sequence[WorkerRecord],
    groups: Sequence[tuple[int, ...]],
    *,
    stop_ns: int,
    patience_ns: int,
) -> FindingEntry | None:
    """Whether the writers that no fault ended went on afterwards, soon enough.

    stop_ns : of the window. patience_ns : the busy timeout. One of several may be the last to get
    the lock, whatever a fault did; so it is looked at whether any of them got it. None where too
    little of the window was left to tell.
    """
    gone = killed(rules, hits, groups)
    rest = [w for w in workers if w.role == "writer" and w.worker not in gone]
    if not hits or not rest:
        return None
    waits_ns = max(int(rules[hit.rule].waits_s * 1e9) for hit in hits)
    limit_ns = patience_ns + waits_ns + SLACK_NS
    last = max(hit.at_ns for hit in hits)
    # Not later: where a worker keeps a lock, it gives it up as it ends.
    after = [(ends := _commits(w))[(ends > last) & (ends < stop_ns)] for w in rest]
    first = min((int(ends[0]) for ends in after if len(ends)), default=None)
    if first is None and stop_ns - last < limit_ns:
        return None
    pause_ns = (first if first is not None else stop_ns) - last
    active = sum(len(ends) > 0 for ends in after)
    words = f"within {pause_ns / 1e6:,.0f} ms" if first is not None else "not at all"
    return FindingEntry(
        check="going on",
        ok=first is not None and pause_ns <= limit_ns - SLACK_NS + LATE_NS,
        sentence=f"After the last fault {active} of {len(rest)} writers that were left committed "
        f"again, the first {words}: {sum(map(len, after)):,} transactions in "
        f"{max(stop_ns - last, 0) / 1e9:.1f} s.",
        evidence={"pause_ns": pause_ns, "limit_ns": limit_ns},
    )


def fault_sentence(entry: FaultEntry) -> str:
    r"""What a fault did, as one clause.

    >>> hit = FaultHit(role="writer", number=2, phase="COMMIT", outcome="failed", message="no")
    >>> fault_sentence(FaultEntry(rule="sync:*:5:EIO", matched=9, fired=1, hits=(hit,)))
    'fault sync:*:5:EIO: fired 1 time, at writer 2\'s COMMIT; it got "no"'
    """
    times = f"{entry.fired:,} time{'' if entry.fired == 1 else 's'}"
    if not entry.fired:
        calls = f"{entry.matched:,} call{'' if entry.matched == 1 else 's'}"
        return f"fault {entry.rule}: never fired, {calls} matched it"
    if not entry.hits:
        return f"fault {entry.rule}: fired {times}"
    first = entry.hits[0]
    if not first.role:
        return f"fault {entry.rule}: fired {times}{', first' * (entry.fired > 1)} between attempts"
    where = f"{first.role} {first.number}'s {first.phase}"
    if first.message:
        got = f'; it got "{first.message}"'
    elif first.outcome == OUTCOMES[COMMITTED]:
        got = ", which was acknowledged"
    else:
        got = ", which never ended"
    return f"fault {entry.rule}: fired {times},{' first' * (entry.fired > 1)} at {where}{got}"
