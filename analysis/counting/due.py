"""Who was due in an open loop, and what became of each, whether or not anybody ever began it.

A worker that cannot keep up has no row for what it never came to, so that the latency of its rows
is that of the lucky ones. Its arrivals are drawn again from the seed, as it drew them: who was due
in the window is known exactly, also where the worker was killed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from analysis.counting.committed import KEPT, SMALL, merged, piece_rows
from analysis.counting.transactions import given_up, parts_of, transactions
from analysis.statistics import Series
from workloads.errors import RunError
from workloads.records import (
    ATTEMPT,
    COMMITTED,
    CONFLICT,
    FAILED,
    PIECE_ROWS,
    UNKNOWN,
    Retry,
    Run,
    WorkerRecord,
)
from workloads.runs import ARRIVALS, Plan, context_of, due_in_turn, warp_of

MOST_DRAWN = 2_000_000
"""Arrivals of a run that are drawn again in any case (a second or two); more only where it has
attempts in proportion: a manifest alone must not make its reader draw for hours."""

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
    many        : how many were due. served : committed by the window's end. begun : those with an
        attempt. given_up : left after a conflict or a failure; no more tries were made for them.
        unknown : nobody knows whether they were committed.
    judged, judged_served : of those due before the window's last moment, how many there were and
        how many of them were served by its end.
    oldest_ns   : how long the oldest had waited that still did, whenever it was due; 0 for none.
    sources     : the workers, whose columns are made when they are asked for.

    Columns have a value for each transaction, without those that were due a moment before the
    window closed and still waited (`grace_ns`): at any rate somebody is under way then.
    due   : int64, intended start, on the run's clock.
    whole : float, from the intended start to the end of the COMMIT that succeeded, ns, also where
        that came after the window; infinite where none did.
    least : float, what is certain of it: the same where it is known, else how long the transaction
        had waited when the window closed; infinite where it was given up or failed.
    """

    asked_per_s: float
    many: int
    served: int
    begun: int
    given_up: int
    unknown: int
    judged: int
    judged_served: int
    oldest_ns: int
    sources: tuple[DueSource, ...]

    def __len__(self) -> int:
        """How many values a column has."""
        return sum(source.size for source in self.sources)

    def column(self, name: str) -> np.ndarray:
        """All of a column, one worker after the other; the caller's own."""
        values = np.empty(len(self), np.int64 if name == "due" else float)
        at = 0
        for part in self._pieces(name):
            values[at : at + len(part)] = part
            at += len(part)
        return values

    @property
    def due_ns(self) -> np.ndarray:
        return self.column("due")

    @property
    def whole_ns(self) -> np.ndarray:
        return self.column("whole")

    @property
    def least_ns(self) -> np.ndarray:
        return self.column("least")

    def series(self, name: str) -> Series:
        """A column in any order."""
        return Series(len(self), lambda: self.column(name), lambda: self._pieces(name))

    def series_in_order(self, name: str) -> Series:
        """A column in the order of when the transactions were due; those that were at one moment
        are in the order of the workers.
        """
        return Series(len(self), lambda: self.column(name), lambda: self._in_order(name))

    def _pieces(self, name: str) -> Iterator[np.ndarray]:
        for source in self.sources:
            for (part,) in source.pieces((name,)):
                yield part

    def _in_order(self, name: str) -> Iterator[np.ndarray]:
        most = piece_rows(len(self.sources))
        for _, values in merged([source.pieces(("due", name), most) for source in self.sources]):
            yield values

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


@dataclass(frozen=True, eq=False)
class Arrivals:
    """The intended starts before the window's end of one worker of an open loop, in order; the
    index is the transaction's number. They are drawn again whenever somebody asks for them.

    in_order : the worker's rows are in the order of its transactions' numbers, as ours are.
    """

    draw: Callable[[], Iterator[np.ndarray]]
    size: int
    in_order: bool

    def __len__(self) -> int:
        return self.size

    def whole(self) -> np.ndarray:
        """All of them in memory at once."""
        return np.concatenate([np.zeros(0, np.int64), *self.draw()])

    def beside(
        self, worker: WorkerRecord, most: int = PIECE_ROWS
    ) -> Iterator[tuple[int, np.ndarray, np.ndarray, bool]]:
        """(number of the first, intended starts, the rows of these, others follow) in turn.

        Each transaction's rows come together, and each intended start once, whether or not it has
        rows. Rows may come of transactions that were due after the window's end, with none.
        """
        if not self.in_order:
            yield 0, self.whole(), worker.attempts, False
            return
        taking = _Taking(self.draw())
        for rows, more in parts_of(worker, most):
            if len(rows):
                first = taking.at
                yield first, taking.upto(int(rows["txn"][-1]) + 1), rows, more
        while len(due := taking.upto(taking.at + PIECE_ROWS)):
            yield taking.at - len(due), due, np.zeros(0, ATTEMPT), False


class _Taking:
    """Takes what comes in blocks in stretches of another length. at : how many are taken."""

    def __init__(self, blocks: Iterator[np.ndarray]) -> None:
        self.blocks, self.at = blocks, 0
        self._block = np.zeros(0, np.int64)

    def upto(self, end: int) -> np.ndarray:
        """Those from `at` to `end`, fewer where there are no more."""
        taken = [self._block[: max(end - self.at, 0)]]
        self._block = self._block[len(taken[0]) :]
        self.at += len(taken[0])
        while self.at < end and (block := next(self.blocks, None)) is not None:
            taken.append(block[: end - self.at])
            self._block = block[len(taken[-1]) :]
            self.at += len(taken[-1])
        return taken[0] if len(taken) == 1 else np.concatenate(taken)


def arrivals_of(run: Run, worker: WorkerRecord) -> Arrivals:
    """The intended starts of one worker of an open loop.

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
    most, warp = plan.transactions or 2 * limit, warp_of(plan, worker.role)

    def draw() -> Iterator[np.ndarray]:
        return due_in_turn(stop, rate / context.of, start, context.rng(ARRIVALS), most, warp)

    drawn, found = _held_against(worker, draw)
    if not drawn:
        raise NotDrawn(
            str(run.folder),
            f"worker {worker.worker}'s intended starts are not those that its seed draws: it was "
            "made by another version of cwkit. Make the run again.",
        )
    return found


def _held_against(
    worker: WorkerRecord, draw: Callable[[], Iterator[np.ndarray]]
) -> tuple[bool, Arrivals]:
    """Whether a worker's intended starts are those drawn, and these."""
    taking = _Taking(draw())
    for rows in worker.rows.transactions():
        if not len(rows):
            continue
        txn, first = rows["txn"], taking.at
        if txn[0] < first or (txn[1:] < txn[:-1]).any():  # no worker of ours wrote them
            due = np.concatenate([np.zeros(0, np.int64), *draw()])
            drawn = all(_are_drawn(piece, due) for piece in worker.rows.pieces())
            return drawn, Arrivals(draw, len(due), in_order=False)
        if not _are_drawn(rows, taking.upto(int(txn[-1]) + 1), first):
            return False, Arrivals(draw, 0, in_order=True)
    while len(taking.upto(taking.at + PIECE_ROWS)):
        pass
    return True, Arrivals(draw, taking.at, in_order=True)


def _are_drawn(rows: np.ndarray, due: np.ndarray, first: int = 0) -> bool:
    """Whether the intended starts of these rows are those that were drawn.

    first : the number of the first of those drawn.
    """
    at = rows["txn"].astype(np.int64) - first
    opened = (rows["attempt"] == 1) & (at < due.size)
    return np.array_equal(rows["intended_ns"][opened], due[at[opened]])


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

    def add(
        self,
        rows: np.ndarray,
        lasts: np.ndarray,
        left: np.ndarray,
        due: np.ndarray,
        first: int = 0,
    ) -> None:
        """Some transactions of the worker.

        lasts : index of each one's last row. left : those given up by the policy's word.
        first : the number of the first of these arrivals.
        """
        each = rows["txn"][lasts].astype(np.int64) - first
        known = each < due.size
        final, left, at = rows[lasts][known], left[known], each[known]
        outcome = final["outcome"]
        self.begun[at] = True
        self.unknown[at[outcome == UNKNOWN]] = True
        over = at[(outcome == FAILED) | ((outcome == CONFLICT) & left)]
        self.given_up[over], self.least_ns[over] = True, np.inf
        # Nobody knows whether it was committed, and if so when: no sooner than it came so far.
        lost, places = final[outcome == UNKNOWN], at[outcome == UNKNOWN]
        seen = np.maximum(np.maximum(lost["start_ns"], lost["begun_ns"]), lost["worked_ns"])
        self.least_ns[places] = np.maximum(seen - due[places], 0)
        committed, places = final[outcome == COMMITTED], at[outcome == COMMITTED]
        self.done_ns[places] = committed["end_ns"]
        self.least_ns[places] = committed["end_ns"] - due[places]

    @property
    def waiting(self) -> np.ndarray:
        """Those that were not served, and may still be."""
        return (self.done_ns == 0) & ~self.given_up & ~self.unknown


def fates(
    worker: WorkerRecord, arrivals: Arrivals, stop: int, retry: Retry, most: int = PIECE_ROWS
) -> Iterator[tuple[np.ndarray, Became]]:
    """A worker's arrivals, and how each stood at the end of a window, some at a time."""
    for first, due, rows, more in arrivals.beside(worker, most):
        each = Became.of(due, stop)
        if len(rows):
            _, lasts, _ = transactions(rows)
            each.add(rows, lasts, given_up(rows, lasts, retry, more), due, first)
        yield due, each


@dataclass(frozen=True, eq=False)
class DueSource:
    """One worker's transactions that were due in a window. size : values of a column of `Due`."""

    worker: WorkerRecord
    arrivals: Arrivals
    window_ns: tuple[int, int]
    retry: Retry
    size: int

    def pieces(
        self, names: Sequence[str], most: int = PIECE_ROWS
    ) -> Iterator[tuple[np.ndarray, ...]]:
        """These columns, in the order of the arrivals, some of them at a time."""
        if self.size > SMALL:
            for due, each in fates(self.worker, self.arrivals, self.window_ns[1], self.retry, most):
                found = _columns(due, each, self.window_ns)
                yield tuple(found[name] for name in names)
            return
        columns = KEPT.get(self)
        if columns is None:
            made = fates(self.worker, self.arrivals, self.window_ns[1], self.retry)
            columns = self.keep([_columns(due, each, self.window_ns) for due, each in made])
        for at in range(0, self.size, most):
            yield tuple(columns[name][at : at + most] for name in names)

    def keep(self, parts: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Keep all columns a while, and return them."""
        none = {"due": np.zeros(0, np.int64), "whole": np.zeros(0), "least": np.zeros(0)}
        columns = {
            name: np.concatenate([empty, *(part[name] for part in parts)])
            for name, empty in none.items()
        }
        KEPT.put(self, columns, sum(column.nbytes for column in columns.values()))
        return columns


def _columns(due: np.ndarray, each: Became, window_ns: tuple[int, int]) -> dict[str, np.ndarray]:
    """Some values of each column of `Due`."""
    first, stop = window_ns
    mine = (due >= first) & (due < stop)
    known = mine & ~(each.waiting & (due >= stop - grace_ns(window_ns, 0.01)))
    whole = np.where(each.done_ns > 0, each.least_ns, np.inf)
    return {"due": due[known], "whole": whole[known], "least": each.least_ns[known]}


def due_of(
    worker: WorkerRecord,
    arrivals: Arrivals,
    window_ns: tuple[int, int],
    retry: Retry,
    per_s: float,
) -> Due:
    """One worker's transactions that were due in a window. per_s : asked of this worker."""
    first, stop = window_ns
    counts: Counter[str] = Counter()
    oldest, size = 0, 0
    parts: list[dict[str, np.ndarray]] = []
    for due, each in fates(worker, arrivals, stop, retry):
        mine = (due >= first) & (due < stop)
        in_time = mine & (each.done_ns > 0) & (each.done_ns <= stop)
        judged = mine & (due < stop - grace_ns(window_ns, 0.1))
        for name, flags in (
            ("many", mine),
            ("served", in_time),
            ("begun", each.begun & mine),
            ("given_up", each.given_up & mine),
            ("unknown", each.unknown & mine),
            ("judged", judged),
            ("judged_served", judged & in_time),
        ):
            counts[name] += int(flags.sum())
        if (waiting := each.waiting).any():
            oldest = max(oldest, int(stop - due[waiting].min()))
        found = _columns(due, each, window_ns)
        size += len(found["due"])
        if size <= SMALL:
            parts.append(found)
    source = DueSource(worker, arrivals, window_ns, retry, size)
    if size <= SMALL:
        source.keep(parts)
    of = {name: counts[name] for name in COUNTS}
    return Due(asked_per_s=per_s, oldest_ns=oldest, sources=(source,), **of)


COUNTS = ("many", "served", "begun", "given_up", "unknown", "judged", "judged_served")


def added(parts: Sequence[Due | None], asked_per_s: float) -> Due | None:
    """Several workers' or runs' as one; None where one of them has none."""
    known = [part for part in parts if part is not None]
    if len(known) < len(parts) or not known:
        return None
    counts: dict[str, Any] = {name: sum(getattr(part, name) for part in known) for name in COUNTS}
    sources = tuple(source for part in known for source in part.sources)
    oldest = max(part.oldest_ns for part in known)
    return Due(asked_per_s=asked_per_s, oldest_ns=oldest, sources=sources, **counts)
