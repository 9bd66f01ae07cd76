"""Attempts to rates: what a run's rows say about throughput, aborts, latency and fairness.

`count(run)` is the door. It counts each worker alone (`Tally`), and `together` adds tallies up, so
that a pooled number and its parts come from the same rows: a pooled p99 looks excellent while one
writer holds the lock for the whole run, and only the parts show it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from analysis.counting.due import Due, NotDrawn, added, arrivals_of, became, due_in, rate_of
from analysis.counting.refusals import RefusalKey, joined
from analysis.counting.standstill import Standstill, standstill
from analysis.counting.steady import Steady, steady_state
from analysis.counting.wal_growth import Wal, wal_of
from analysis.statistics import PERCENTILES, abort_rate, jain_index, percentiles
from workloads.records import (
    COMMITTED,
    CONFLICT,
    CONFLICTS,
    FAILED,
    OUTCOMES,
    PHASES,
    UNKNOWN,
    Retry,
    Run,
    WorkerRecord,
    reason,
    within_ns,
)

STAGES = ("queueing", "begin", "work", "commit", "service", "whole")
"""Parts of a committed transaction's time; see `Tally.latency_ns`."""


@dataclass(frozen=True)
class Tally:
    """The attempts of one worker, or of several together, that ended in the measured window.

    workers      : how many workers are in it. seconds : length of the window.
    outcomes     : int array, shape (5,), attempts by outcome number (workloads.records.attempts).
    conflicts    : int array, shape (kinds, phases), conflicts by kind and phase.
    tries        : int array; tries[k] transactions committed at their k-th try, tries[0] is 0.
    given_up     : transactions left after a conflict because the retry policy said so.
    worker_ns    : the window's length times the workers: the time that there was.
    attempts_ns  : the part of it inside attempts, each cut to the window. It is the sum of
        committed_ns (attempts that had committed when the window closed), wasted_ns (those that had
        not) and waiting_ns (BEGIN of attempts still open when it closed: waiting for a lock). The
        rest is outside_ns: waiting between tries (back-off) or for the next one that is due.
    open_ns      : the part of wasted_ns that lies in attempts still open when the window closed,
        after their BEGIN. Some of them commit later: nobody had anything of them by then.
    latency_ns   : stage -> int64 array, one value for each committed transaction:
        queueing  its first start - its intended start (0 in a closed loop),
        begin     BEGIN of the try that committed (waiting for a lock is here),
        work      from BEGIN to the end of the body (the asked-for work is here),
        commit    COMMIT,
        service   the try that committed, start to end,
        whole     intended start to the end of COMMIT, refused tries and back-off included.
    due          : of an open loop, everybody who was due in the window; None in a closed loop.
    ends_ns      : int64 array, when each of those ended, on the run's clock.
    unfinished   : transactions begun but not over when the window closed; `oldest_ns` is how long
        the oldest of them had lasted (in an open loop, of those due and not begun, too). In a
        closed loop they are in no latency: without them a worker that waits for the whole run
        would look as if it had never waited.
    cpu_s, cpu_transactions : CPU seconds over the whole run and the transactions committed in it
        (warm-up included, as the CPU time is); nan where the manifest has no CPU time.
    waits_ns     : (phase, conflict kind, engine's own words) -> int64 array, for each attempt that
        an engine's word ended: how long that call took at most
        (workloads.records.attempts.within_ns).
    commits_each : int array, shape (workers,), committed transactions of each worker.
    """

    workers: int
    seconds: float
    outcomes: np.ndarray
    conflicts: np.ndarray
    tries: np.ndarray
    given_up: int
    worker_ns: int
    committed_ns: int
    wasted_ns: int
    open_ns: int
    waiting_ns: int
    latency_ns: Mapping[str, np.ndarray] = field(repr=False)
    ends_ns: np.ndarray = field(repr=False)
    unfinished: int
    oldest_ns: int
    cpu_s: float
    cpu_transactions: int
    waits_ns: Mapping[RefusalKey, np.ndarray] = field(repr=False)
    commits_each: np.ndarray
    due: Due | None = field(default=None, repr=False)

    @property
    def messages(self) -> Counter[RefusalKey]:
        """(phase, conflict kind, the engine's message) -> attempts."""
        return Counter({key: len(waits) for key, waits in self.waits_ns.items()})

    @property
    def committed(self) -> int:
        return int(self.outcomes[COMMITTED])

    @property
    def conflicted(self) -> int:
        return int(self.outcomes[CONFLICT])

    @property
    def failed(self) -> int:
        return int(self.outcomes[FAILED])

    @property
    def unknown(self) -> int:
        return int(self.outcomes[UNKNOWN])

    @property
    def attempts(self) -> int:
        """All: commits + conflicts of every kind + failed + unknown."""
        return int(self.outcomes.sum())

    @property
    def finished(self) -> int:
        """Attempts whose outcome is known."""
        return self.attempts - self.unknown

    @property
    def per_s(self) -> float:
        """Committed transactions a second."""
        return self.committed / self.seconds if self.seconds > 0 else float("nan")

    @property
    def abort_rate(self) -> tuple[float, float, float]:
        """low, rate, high. Treats attempts as independent, which they nearly are."""
        return abort_rate(self.conflicted, self.finished)

    @property
    def attempts_ns(self) -> int:
        return self.committed_ns + self.wasted_ns + self.waiting_ns

    @property
    def outside_ns(self) -> int:
        """Worker time between attempts."""
        return self.worker_ns - self.attempts_ns

    @property
    def wasted(self) -> float:
        """Share of the time inside attempts that went into attempts that had not committed."""
        return self.of_attempts(self.wasted_ns)

    def of_attempts(self, part_ns: int) -> float:
        """A time as a share of that inside attempts; nan where there were none."""
        return part_ns / self.attempts_ns if self.attempts_ns else float("nan")

    @property
    def whole_ns(self) -> np.ndarray:
        """Latencies, ns, that percentiles of whole transactions are taken over.

        In an open loop those of all that were due in the window, infinite for those never served;
        else `latency_ns["whole"]`.
        """
        return self.latency_ns["whole"] if self.due is None else self.due.whole_ns

    @property
    def least_ns(self) -> np.ndarray:
        """The same with what is certain of those not served: how long they had waited."""
        return self.latency_ns["whole"] if self.due is None else self.due.least_ns

    def whole(self) -> np.ndarray:
        """p50, p90, p99, p99.9 and maximum of whole transactions, ns; shape (5, 2): the value, and
        what is certain of it (`least_ns`), which differs only where the value is infinite.
        """
        return np.stack([percentiles(self.whole_ns), percentiles(self.least_ns)], axis=-1)

    @property
    def cpu_us(self) -> float:
        """CPU microseconds of the workers for each committed transaction."""
        if not self.cpu_transactions:
            return float("nan")
        return self.cpu_s * 1e6 / self.cpu_transactions

    @property
    def fairness(self) -> float:
        return jain_index(self.commits_each)

    @property
    def worst_share(self) -> float:
        """The least that any worker got of all commits; an even share is 1 / workers."""
        total = self.commits_each.sum()
        return float(self.commits_each.min() / total) if total else float("nan")

    @property
    def longest_ns(self) -> int:
        """The longest that any transaction lasted, finished or not."""
        whole = self.latency_ns["whole"]
        return max(int(whole.max()) if whole.size else 0, self.oldest_ns)

    def latency(self) -> dict[str, np.ndarray]:
        """Stage -> percentiles (ns), shape (5,) each; "whole" is over `whole_ns`."""
        found = {stage: percentiles(self.latency_ns[stage]) for stage in STAGES}
        return found | {"whole": self.whole()[:, 0]}

    def conflict_table(self) -> list[tuple[str, str, int]]:
        """(kind, phase, attempts) where there are any, the most frequent first."""
        rows = [
            (CONFLICTS[kind], PHASES[phase], int(self.conflicts[kind, phase]))
            for kind, phase in np.argwhere(self.conflicts)
        ]
        return sorted(rows, key=lambda row: (-row[2], row))


@dataclass(frozen=True)
class WorkerTally:
    """One worker's Tally beside what it was."""

    worker: int
    role: str
    number: int
    engine: str
    begin: str
    state: str
    tally: Tally


@dataclass(frozen=True)
class Count:
    """A run, counted: every worker, and each role's workers together.

    roles  : role -> Tally, only roles that the run had.
    steady : from where on the run was steady, and so was counted; None where the window was given.
    undrawn : role -> why nobody knows who was due, for roles that ran in an open loop.
    window_ns : (first, last) of what was counted. wal : the log, None where there was none.
    standstill : a time in which nobody committed, None without one (analysis.counting.standstill).
    """

    run: str
    seconds: float
    workers: tuple[WorkerTally, ...]
    roles: Mapping[str, Tally]
    steady: Steady | None = None
    undrawn: Mapping[str, str] = field(default_factory=dict)
    window_ns: tuple[int, int] = (0, 0)
    wal: Wal | None = None
    standstill: Standstill | None = None

    def of(self, role: str) -> tuple[WorkerTally, ...]:
        return tuple(w for w in self.workers if w.role == role)

    def worst_p99(self, role: str) -> tuple[float, float]:
        """The worst worker's p99 of whole transactions, ns, and what is certain of it (as of
        `Tally.whole`); nan where none has enough samples.
        """
        each = [tuple(w.tally.whole()[2].tolist()) for w in self.of(role)]
        return max((p for p in each if not np.isnan(p[0])), default=(float("nan"),) * 2)


def count(run: Run, window_ns: tuple[int, int] | None = None) -> Count:
    """Count a run: only attempts that ended in its measured window. Never an error for odd rows.

    window_ns : (first, last) of what is counted. Without it the window begins where MSER-5 finds
        the run steady, and never before the plan's own (analysis.counting.steady).
    """
    steady = None if window_ns else steady_state(run)
    window = window_ns or (steady.window_ns if steady else run.window_ns)
    seconds = max(window[1] - window[0], 0) / 1e9
    retry = run.manifest.plan.retry
    due, undrawn = _due(run)
    workers = tuple(
        WorkerTally(
            worker=w.worker,
            role=w.role,
            number=w.number,
            engine=w.engine,
            begin=w.begin,
            state=w.entry.state,
            tally=count_worker(w, window, retry, due.get(w.worker)),
        )
        for w in run.workers
    )
    roles: dict[str, Tally] = {}
    for role in dict.fromkeys(w.role for w in workers):
        roles[role] = together([w.tally for w in workers if w.role == role])
    ends = [tally.ends_ns for role, tally in roles.items() if role in ("writer", "reader")]
    still = standstill(np.concatenate([np.zeros(0, np.int64), *ends]), window)
    wal = wal_of(run, window)
    return Count(run.name, seconds, workers, roles, steady, undrawn, window, wal, still)


Asked = tuple[np.ndarray, float]
"""The intended starts of one worker of an open loop, and its rate, a second."""


def _due(run: Run) -> tuple[dict[int, Asked], dict[str, str]]:
    """Arrivals asked of each worker of an open loop, and why nobody knows them for some roles."""
    asked: dict[int, Asked] = {}
    undrawn = {}
    for role in ("writer", "reader"):
        rate, workers = rate_of(run, role), run.role(role)
        if rate and workers:
            try:
                asked |= {w.worker: (arrivals_of(run, w), rate / len(workers)) for w in workers}
            except NotDrawn as error:
                undrawn[role] = error.why
    return asked, undrawn


def ends_ns(rows: np.ndarray, stop_ns: int) -> np.ndarray:
    """When each attempt ended. One never closed counts as ended when the window did.

    A worker killed in its first COMMIT has only such a row: dropped for having no end, the run
    would show no `unknown` at all.
    """
    return np.where(rows["end_ns"] == 0, stop_ns, rows["end_ns"])


def within(rows: np.ndarray, window_ns: tuple[int, int]) -> np.ndarray:
    """Which attempts are counted in a window: they ended in it, or had not ended when it did."""
    first, stop = window_ns
    end = ends_ns(rows, stop)
    inside: np.ndarray = (end >= first) & (end <= stop) & (rows["start_ns"] <= stop)
    return inside


def count_worker(
    worker: WorkerRecord,
    window_ns: tuple[int, int],
    retry: Retry | None = None,
    asked: Asked | None = None,
) -> Tally:
    """The Tally of one worker. window_ns is (first, last), retry the plan's policy, asked what it
    was asked for in an open loop.
    """
    first, stop = window_ns
    rows = worker.attempts
    end, inside = ends_ns(rows, stop), within(rows, window_ns)
    starts, lasts, which = transactions(rows)

    outcome, mine = rows["outcome"], rows[inside]
    spent, still_open, waited = time_in(rows, window_ns)
    lost = ~still_open & (outcome != COMMITTED)
    did = np.flatnonzero(inside & (outcome == COMMITTED))
    refused = mine[mine["outcome"] == CONFLICT]
    conflicts = np.zeros((len(CONFLICTS), len(PHASES)), int)
    np.add.at(conflicts, (refused["conflict"], refused["phase"]), 1)

    cpu = worker.entry.cpu_s
    left = given_up(rows, lasts, retry or Retry())
    # Over when the window closed? Not if it ended later, was never closed, or was refused and
    # still meant to try again.
    open_at_stop = (end[lasts] > stop) | ((rows["end_ns"][lasts] == 0) & (end[lasts] >= first))
    open_at_stop |= inside[lasts] & (outcome[lasts] == CONFLICT) & ~left
    waiting_since = rows["intended_ns"][starts][open_at_stop]
    waiting_since = waiting_since[waiting_since < stop]
    oldest = int((stop - waiting_since).max()) if len(waiting_since) else 0
    due = None
    if asked is not None:
        due = due_in(asked[0], became(rows, lasts, left, asked[0], stop), window_ns, asked[1])
    return Tally(
        workers=1,
        seconds=max(stop - first, 0) / 1e9,
        outcomes=np.bincount(mine["outcome"], minlength=len(OUTCOMES)),
        conflicts=conflicts,
        tries=np.bincount(rows["attempt"][did], minlength=2),
        given_up=int((left & inside[lasts]).sum()),
        worker_ns=max(stop - first, 0),
        committed_ns=int(spent[~still_open & (outcome == COMMITTED)].sum()),
        wasted_ns=int(spent[lost].sum() + (spent - waited)[still_open].sum()),
        open_ns=int((spent - waited)[still_open].sum()),
        waiting_ns=int(waited[still_open].sum()),
        latency_ns=_stages(rows, did, starts[which[did]]),
        ends_ns=rows["end_ns"][did],
        unfinished=len(waiting_since),
        oldest_ns=max(oldest, due.oldest_ns if due is not None else 0),
        cpu_s=float("nan") if cpu is None else cpu,
        cpu_transactions=int((outcome == COMMITTED).sum()),
        waits_ns=_waits(worker, mine),
        commits_each=np.array([len(did)]),
        due=due,
    )


def time_in(
    rows: np.ndarray, window_ns: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How long each attempt lasted within a window, ns; whether it was still open when the window
    closed; and how much of an open one was its BEGIN, ns. Three arrays, shape (attempts,).
    """
    first, stop = window_ns

    def cut(times: np.ndarray) -> np.ndarray:
        return np.clip(times, first, max(first, stop))

    still_open = (rows["end_ns"] == 0) | (rows["end_ns"] > stop)
    begun = np.where(rows["begun_ns"] == 0, stop, rows["begun_ns"])
    start, end = cut(rows["start_ns"]), cut(ends_ns(rows, stop))
    waited = np.where(still_open, np.maximum(cut(begun) - start, 0), 0)
    return np.maximum(end - start, 0), still_open, waited


def transactions(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where each transaction of a worker begins and ends, shape (transactions,), and which one each
    attempt is of, shape (attempts,): a transaction is a stretch of rows of one txn number.
    """
    new = np.append(True, rows["txn"][1:] != rows["txn"][:-1]) if len(rows) else np.zeros(0, bool)
    starts = np.flatnonzero(new)
    lasts = np.append(starts[1:] - 1, len(rows) - 1) if len(rows) else starts
    return starts, lasts, np.cumsum(new) - 1


def given_up(rows: np.ndarray, lasts: np.ndarray, retry: Retry) -> np.ndarray:
    """Which transactions, by their last rows, were left after a conflict by the policy's word.

    The worker's very last one may only have met the end of the run: that is not giving up.
    """
    final = rows[lasts]
    followed = np.arange(len(lasts)) < len(lasts) - 1
    by_policy = np.full(len(lasts), retry.policy == "none")
    if retry.most_tries:
        by_policy |= final["attempt"] >= retry.most_tries
    return (final["outcome"] == CONFLICT) & (followed | by_policy)


def _stages(rows: np.ndarray, did: np.ndarray, firsts: np.ndarray) -> dict[str, np.ndarray]:
    """Latencies of the transactions that committed at rows `did` and began at rows `firsts`."""
    done, intended = rows[did], rows["intended_ns"][firsts]
    return {
        "queueing": np.maximum(rows["start_ns"][firsts] - intended, 0),
        "begin": done["begun_ns"] - done["start_ns"],
        "work": done["worked_ns"] - done["begun_ns"],
        "commit": done["end_ns"] - done["worked_ns"],
        "service": done["end_ns"] - done["start_ns"],
        "whole": done["end_ns"] - intended,
    }


def _waits(worker: WorkerRecord, rows: np.ndarray) -> dict[RefusalKey, np.ndarray]:
    spoken = rows[rows["message"] > 0]
    parts = ["outcome", "phase", "conflict", "message"]
    groups, which = np.unique(spoken[parts], return_inverse=True)
    order, took = np.argsort(which, kind="stable"), within_ns(spoken)
    each = np.split(took[order], np.cumsum(np.bincount(which, minlength=len(groups)))[:-1])
    waits_of: list[dict[RefusalKey, np.ndarray]] = []
    for group, waits in zip(groups, each, strict=False):  # of no groups there is one part, empty
        index = int(group["message"]) - 1
        text = worker.messages[index] if index < len(worker.messages) else "(words not kept)"
        why = reason(int(group["outcome"]), int(group["conflict"]))
        waits_of.append({(PHASES[group["phase"]], why, text): waits})
    return joined(waits_of)


def together(tallies: Sequence[Tally]) -> Tally:
    """Several workers' tallies as one. Raises ValueError for none at all.

    All must be of one run (one window); tallies of several runs are added up by `pooled`.
    """
    asked = sum(t.due.asked_per_s for t in tallies if t.due is not None)
    return _sum(tallies, tallies[0].seconds if tallies else 0.0, asked)


def pooled(tallies: Sequence[Tally]) -> Tally:
    """One arm's tallies of several runs as one: windows add up, so `per_s` is the mean rate.

    `commits_each` then holds every worker of every run: for fairness look at single runs.
    """
    seconds = sum(t.seconds for t in tallies)
    asked = sum(t.due.asked_per_s * t.seconds for t in tallies if t.due is not None)
    return _sum(tallies, seconds, asked / seconds if seconds else 0.0)


def _sum(tallies: Sequence[Tally], seconds: float, asked_per_s: float) -> Tally:
    if not tallies:
        raise ValueError("No tallies to add up: the run had no worker of that role.")
    most = max(len(t.tries) for t in tallies)
    return Tally(
        workers=sum(t.workers for t in tallies),
        seconds=seconds,
        outcomes=_added(t.outcomes for t in tallies),
        conflicts=_added(t.conflicts for t in tallies),
        tries=_added(np.pad(t.tries, (0, most - len(t.tries))) for t in tallies),
        given_up=sum(t.given_up for t in tallies),
        worker_ns=sum(t.worker_ns for t in tallies),
        committed_ns=sum(t.committed_ns for t in tallies),
        wasted_ns=sum(t.wasted_ns for t in tallies),
        open_ns=sum(t.open_ns for t in tallies),
        waiting_ns=sum(t.waiting_ns for t in tallies),
        latency_ns={s: np.concatenate([t.latency_ns[s] for t in tallies]) for s in STAGES},
        ends_ns=np.concatenate([t.ends_ns for t in tallies]),
        unfinished=sum(t.unfinished for t in tallies),
        oldest_ns=max(t.oldest_ns for t in tallies),
        cpu_s=sum(t.cpu_s for t in tallies),
        cpu_transactions=sum(t.cpu_transactions for t in tallies),
        waits_ns=joined(t.waits_ns for t in tallies),
        commits_each=np.concatenate([t.commits_each for t in tallies]),
        due=added([t.due for t in tallies], asked_per_s),
    )


def _added(arrays: Iterable[np.ndarray]) -> np.ndarray:
    return np.sum(np.stack(list(arrays)), axis=0)


__all__ = [
    "PERCENTILES",
    "STAGES",
    "Count",
    "Tally",
    "WorkerTally",
    "abort_rate",
    "count",
    "count_worker",
    "jain_index",
    "percentiles",
    "pooled",
    "together",
]
