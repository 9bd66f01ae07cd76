"""Who was due in an open loop, and what became of each, whether or not anybody ever began it.

A worker that cannot keep up has no row for what it never came to, so that the latency of its rows
is that of the lucky ones. Its arrivals are drawn again from the seed, as it drew them: who was due
in the window is known exactly, also where the worker was killed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from workloads.errors import RunError
from workloads.records import COMMITTED, CONFLICT, FAILED, UNKNOWN, Run, WorkerRecord
from workloads.runs import ARRIVALS, Plan, context_of, due_before

MOST_DRAWN = 2_000_000
"""Arrivals of a run that are drawn again in any case (150 MB, a second or two); more only where it
has attempts in proportion: a manifest alone must not make its reader draw for hours."""

SERVED = 0.99
"""Share of the transactions due that must have been committed when the window closed. With less,
the rate that was asked for is not the rate that was measured."""

GRACE_NS = 100_000_000
"""How long a transaction may be under way at the window's end without counting as not served,
where nothing else says it and the window is long."""


class NotDrawn(RunError):
    """Arrivals that cannot be drawn again. why : the reason, without the run's name."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name}: {why}")
        self.why = why


@dataclass(frozen=True, eq=False)
class Due:
    """The transactions of an open loop that were due in a window.

    asked_per_s : the rate that was asked for, of these workers together.
    due_ns      : int64 array, shape (transactions,), intended start, on the run's clock.
    whole_ns    : float array beside it: from the intended start to the end of the COMMIT that
        succeeded, also where that came after the window; infinite where none did. Without those
        that were due a moment before the window closed and still waited (`grace_ns`): at any rate
        somebody is under way then.
    least_ns    : float array beside whole_ns, what is certain of it: the same where it is known,
        else how long the transaction had waited when the window closed; infinite where it was given
        up or failed.
    many        : how many were due. served : committed by the window's end. begun : those with an
        attempt. given_up : left after a conflict or a failure; no more tries were made for them.
        unknown : nobody knows whether they were committed.
    judged, judged_served : of those due before the window's last moment, how many there were and
        how many of them were served by its end.
    oldest_ns   : how long the oldest had waited that still did, whenever it was due; 0 for none.
    """

    asked_per_s: float
    due_ns: np.ndarray
    whole_ns: np.ndarray
    least_ns: np.ndarray
    many: int
    served: int
    begun: int
    given_up: int
    unknown: int
    judged: int
    judged_served: int
    oldest_ns: int

    @property
    def share(self) -> float:
        """Share of those due who were served by the window's end; nan for none due."""
        return self.served / self.many if self.many else float("nan")

    @property
    def met(self) -> bool:
        """The rate that was asked for is the one that was measured."""
        return self.judged_served >= SERVED * self.judged


def grace_ns(window_ns: tuple[int, int], share: float) -> int:
    """A moment before a window's end: GRACE_NS, or less, a share of the window."""
    return int(min(GRACE_NS, max(window_ns[1] - window_ns[0], 0) * share))


def rate_of(run: Run, role: str) -> float:
    """Transactions a second that the workers of a role were asked to start; 0: a closed loop."""
    plan = run.manifest.plan
    return {"writer": plan.rate, "reader": plan.read_rate}.get(role, 0.0)


def arrivals_of(run: Run, worker: WorkerRecord) -> np.ndarray:
    """The intended starts before the window's end of one worker of an open loop, int64 array, in
    order; the index is the transaction's number.

    Raises NotDrawn where its role ran in a closed loop, where the plan cannot be read, where there
    are too many, or where the worker's rows are not those that its seed draws.
    """
    stop, start = run.window_ns[1], run.manifest.window.start_ns
    rate = rate_of(run, worker.role)
    if not rate:
        why = f"a closed loop (its {worker.role}s had no rate) has no intended rate."
        raise NotDrawn(run.name, why)
    if not run.manifest.window.has("start_ns"):
        raise NotDrawn(run.name, "its manifest does not say when it began.")
    try:
        plan = Plan(**run.manifest.plan.data())
        context = context_of(plan, worker.worker)
    except (ValueError, TypeError, IndexError) as error:
        why = f"its arrivals cannot be drawn again ({str(error).splitlines()[0]})."
        raise NotDrawn(run.name, why) from error
    expected = rate * max(stop - start, 0) / 1e9
    made = max(sum(len(w.rows) for w in run.role(worker.role)), len(worker.rows) * context.of)
    limit = max(MOST_DRAWN, 2 * made)
    if expected > limit:
        raise NotDrawn(
            run.name,
            f"about {expected:,.0f} transactions were due, more than the {limit:,} that are drawn "
            "again at most.",
        )
    most = plan.transactions or 2 * limit
    due = due_before(stop, rate / context.of, start, context.rng(ARRIVALS), most)
    if not all(_are_drawn(rows, due) for rows in worker.rows.pieces()):
        raise NotDrawn(
            str(run.folder),
            f"worker {worker.worker}'s intended starts are not those that its seed draws: it was "
            "made by another version of cwkit. Make the run again.",
        )
    return due


def _are_drawn(rows: np.ndarray, due: np.ndarray) -> bool:
    """Whether the intended starts of these rows are those that were drawn."""
    opened = rows[(rows["attempt"] == 1) & (rows["txn"] < due.size)]
    return np.array_equal(opened["intended_ns"], due[opened["txn"]])


class Became(NamedTuple):
    """How each arrival of one worker ended; arrays of one length, times in ns.

    done_ns  : the end of the COMMIT that succeeded, 0 where none did.
    least_ns : float, what is certain of the whole time; see `Due`.
    begun    : there was an attempt. given_up : no more are made. unknown : nobody knows.
    """

    done_ns: np.ndarray
    least_ns: np.ndarray
    begun: np.ndarray
    given_up: np.ndarray
    unknown: np.ndarray

    @classmethod
    def of(cls, due: np.ndarray, stop: int) -> Became:
        """None of them begun at the end of a window."""
        waited = np.maximum(stop - due, 0).astype(float)
        flags = (np.zeros(due.size, bool) for _ in range(3))
        return cls(np.zeros(due.size, np.int64), waited, *flags)

    def add(self, rows: np.ndarray, lasts: np.ndarray, left: np.ndarray, due: np.ndarray) -> None:
        """Some transactions of the worker.

        lasts : index of each one's last row. left : those given up by the policy's word.
        """
        known = rows["txn"][lasts] < due.size
        final, left = rows[lasts][known], left[known]
        at, outcome = final["txn"], final["outcome"]
        self.begun[at] = True
        self.unknown[at[outcome == UNKNOWN]] = True
        over = at[(outcome == FAILED) | ((outcome == CONFLICT) & left)]
        self.given_up[over], self.least_ns[over] = True, np.inf
        # Nobody knows whether it was committed, and if so when: no sooner than it came so far.
        lost = final[outcome == UNKNOWN]
        seen = np.maximum(np.maximum(lost["start_ns"], lost["begun_ns"]), lost["worked_ns"])
        self.least_ns[lost["txn"]] = np.maximum(seen - due[lost["txn"]], 0)
        committed = final[outcome == COMMITTED]
        self.done_ns[committed["txn"]] = committed["end_ns"]
        self.least_ns[committed["txn"]] = committed["end_ns"] - due[committed["txn"]]

    @property
    def waiting(self) -> np.ndarray:
        """Those that were not served, and may still be."""
        return (self.done_ns == 0) & ~self.given_up & ~self.unknown


def due_in(due: np.ndarray, each: Became, window_ns: tuple[int, int], per_s: float) -> Due:
    """One worker's transactions that were due in a window.

    due : as of `arrivals_of`, each: what became of them. per_s : asked of this worker.
    """
    first, stop = window_ns
    mine, done = (due >= first) & (due < stop), each.done_ns
    in_time = mine & (done > 0) & (done <= stop)
    known = mine & ~(each.waiting & (due >= stop - grace_ns(window_ns, 0.01)))
    judged = mine & (due < stop - grace_ns(window_ns, 0.1))
    return Due(
        asked_per_s=per_s,
        due_ns=due[known],
        whole_ns=np.where(done > 0, each.least_ns, np.inf)[known],
        least_ns=each.least_ns[known],
        many=int(mine.sum()),
        served=int(in_time.sum()),
        begun=int((each.begun & mine).sum()),
        given_up=int((each.given_up & mine).sum()),
        judged=int(judged.sum()),
        judged_served=int((judged & in_time).sum()),
        unknown=int((each.unknown & mine).sum()),
        oldest_ns=int(stop - due[each.waiting].min()) if each.waiting.any() else 0,
    )


def added(parts: Sequence[Due | None], asked_per_s: float) -> Due | None:
    """Several workers' or runs' as one; None where one of them has none."""
    known = [part for part in parts if part is not None]
    if len(known) < len(parts) or not known:
        return None
    counts: dict[str, Any] = {
        name: sum(getattr(part, name) for part in known)
        for name in ("many", "served", "begun", "given_up", "unknown", "judged", "judged_served")
    }
    arrays: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in known])
        for name in ("due_ns", "whole_ns", "least_ns")
    }
    oldest = max(part.oldest_ns for part in known)
    return Due(asked_per_s=asked_per_s, oldest_ns=oldest, **arrays, **counts)
