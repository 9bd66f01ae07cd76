"""Attempts to rates: what a run's rows say about throughput, aborts, latency and fairness.

`count(run)` is the door. It counts each worker alone (`Tally`), and `together` adds tallies up, so
that a pooled number and its parts come from the same rows: a pooled p99 looks excellent while one
writer holds the lock for the whole run, and only the parts show it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from analysis.counting.committed import (
    ENDS,
    SMALL,
    STAGES,
    Committed,
    Latencies,
    Source,
    is_brief,
    short,
    times_of,
)
from analysis.counting.due import Arrivals, Due, NotDrawn, added, arrivals_of, due_of, rate_of
from analysis.counting.kinds import OfKind, kinds_in
from analysis.counting.refusals import RefusalKey, joined
from analysis.counting.standstill import Standstill, standstill
from analysis.counting.steady import Steady, steady_state
from analysis.counting.transactions import given_up, parts_of, transactions
from analysis.counting.wal_growth import Wal, wal_of
from analysis.statistics import (
    PERCENTILES,
    Series,
    abort_rate,
    batched_rate,
    jain_index,
    percentiles,
)
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
from workloads.scenarios import TRANSACTING

BATCHES = 20
"""Parts of a run's time that its refusals are counted in."""


@dataclass(frozen=True)
class Tally:
    """The attempts of one worker, or of several together, that ended in the measured window.

    workers      : how many workers are in it. seconds : length of the window.
    outcomes     : int array, shape (5,), attempts by outcome number (workloads.records.attempts).
    conflicts    : int array, shape (kinds, phases), conflicts by kind and phase.
    first_conflicts : int array, shape (kinds,), conflicts of first tries by kind; first_finished :
        first tries whose outcome is known. A retry meets again what it was refused over, so that
        all tries together say more of the retry policy than of the engine.
    begin_ns     : the part of `attempts_ns` inside BEGIN: waiting for a lock is there.
    tries        : int array; tries[k] transactions committed at their k-th try, tries[0] is 0.
    given_up     : transactions left after a conflict because the retry policy said so.
    worker_ns    : the window's length times the workers: the time that there was.
    attempts_ns  : the part of it inside attempts, each cut to the window. It is the sum of
        committed_ns (attempts that had committed when the window closed), wasted_ns (those that had
        not) and waiting_ns (BEGIN of attempts still open when it closed: waiting for a lock). The
        rest is outside_ns: waiting between tries (back-off) or for the next one that is due.
    open_ns      : the part of wasted_ns that lies in attempts still open when the window closed,
        after their BEGIN. Some of them commit later: nobody had anything of them by then.
    times        : when each committed transaction ended and what it took, column by column: of
        a large run only one column is in memory, while it is used. `latency_ns` is stage -> int64
        array, one value for each of them:
        queueing  its first start - its intended start (0 in a closed loop),
        begin     BEGIN of the try that committed (waiting for a lock is here),
        work      from BEGIN to the end of the body (the asked-for work is here),
        commit    COMMIT,
        service   the try that committed, start to end,
        whole     intended start to the end of COMMIT, refused tries and back-off included.
    due          : of an open loop, everybody who was due in the window; None in a closed loop.
        `ends_ns` is when each ended, on the run's clock.
    most_ns      : stage -> the greatest of its column, 0 for none.
    unfinished   : transactions begun but not over when the window closed; `oldest_ns` is how long
        the oldest of them had lasted (in an open loop, of those due and not begun, too). In a
        closed loop they are in no latency: without them a worker that waits for the whole run
        would look as if it had never waited.
    cpu_s, cpu_transactions : CPU seconds over the whole run and the transactions committed in it
        (warm-up included, as the CPU time is); nan where the manifest has no CPU time.
    server_s     : CPU seconds of the database's server in the window: to every transaction that
        committed in it, whoever made it, an equal part. 0 of an engine that is no server.
    waits_ns     : (phase, conflict kind, engine's own words) -> int64 array, for each attempt that
        an engine's word ended: how long that call took at most
        (workloads.records.attempts.within_ns).
    commits_each : int array, shape (workers,), committed transactions of each worker.
    batches      : int array, shape (2, BATCHES), of one run: refused and finished attempts that
        ended in each of so many equal parts of the window. runs : how many runs are in it.
    """

    workers: int
    seconds: float
    outcomes: np.ndarray
    conflicts: np.ndarray
    first_conflicts: np.ndarray
    first_finished: int
    tries: np.ndarray
    given_up: int
    worker_ns: int
    committed_ns: int
    wasted_ns: int
    open_ns: int
    waiting_ns: int
    begin_ns: int
    times: Committed = field(repr=False)
    most_ns: Mapping[str, int]
    unfinished: int
    oldest_ns: int
    cpu_s: float
    cpu_transactions: int
    waits_ns: Mapping[RefusalKey, np.ndarray] = field(repr=False)
    commits_each: np.ndarray
    due: Due | None = field(default=None, repr=False)
    batches: np.ndarray = field(default_factory=lambda: np.zeros((2, BATCHES), int), repr=False)
    runs: int = 1
    server_s: float = 0.0

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
        """low, rate, high: of one run from batches of its time, for refusals come in clusters.

        Of several runs low and high are nan: their interval is over blocks (`Arm.refused`).
        """
        if self.runs > 1:
            rate = self.conflicted / self.finished if self.finished else math.nan
            return math.nan, rate, math.nan
        return batched_rate(*self.batches)

    def first_refused(self, kind: int | None = None) -> float:
        """Share of finished first tries that were refused (for one kind of conflict); nan where
        none is finished.
        """
        refused = self.first_conflicts.sum() if kind is None else self.first_conflicts[kind]
        return float(refused / self.first_finished) if self.first_finished else float("nan")

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
    def latency_ns(self) -> Mapping[str, np.ndarray]:
        """See `times`; each array is made anew."""
        return Latencies(self.times.column)

    @property
    def ends_ns(self) -> np.ndarray:
        """See `times`; made anew."""
        return self.times.column(ENDS)

    @property
    def whole_ns(self) -> np.ndarray:
        """Latencies, ns, that percentiles of whole transactions are taken over.

        In an open loop those of all that were due in the window, infinite for those never served;
        else `latency_ns["whole"]`.
        """
        return self.times.column("whole") if self.due is None else self.due.whole_ns

    @property
    def least_ns(self) -> np.ndarray:
        """The same with what is certain of those not served: how long they had waited."""
        return self.times.column("whole") if self.due is None else self.due.least_ns

    @property
    def whole_series(self) -> Series:
        """`whole_ns` in any order."""
        return self.times.series("whole") if self.due is None else self.due.series("whole")

    @property
    def least_series(self) -> Series:
        """`least_ns` in any order."""
        return self.times.series("whole") if self.due is None else self.due.series("least")

    def percentiles(self, stage: str) -> np.ndarray:
        """p50, p90, p99, p99.9 and maximum of a stage, ns, shape (5,)."""
        if stage not in self._percentiles:
            self._percentiles[stage] = percentiles(self.times.brief(stage), in_place=True)
        return self._percentiles[stage]

    @cached_property
    def _percentiles(self) -> dict[str, np.ndarray]:
        return {}

    def whole(self) -> np.ndarray:
        """p50, p90, p99, p99.9 and maximum of whole transactions, ns; shape (5, 2): the value, and
        what is certain of it (`least_ns`), which differs only where the value is infinite.
        """
        if self.due is None:
            return np.stack([self.percentiles("whole")] * 2, axis=-1)
        if "due whole" not in self._percentiles:
            known = least = percentiles(self.due.column("whole"), in_place=True)
            if not np.isfinite(known[-1]):  # else all were served
                least = percentiles(self.due.column("least"), in_place=True)
            self._percentiles.update({"due whole": known, "due least": least})
        return np.stack([self._percentiles["due whole"], self._percentiles["due least"]], axis=-1)

    @property
    def cpu_us(self) -> float:
        """CPU microseconds for each committed transaction, of its worker and of a server."""
        if not self.cpu_transactions:
            return float("nan")
        return self.cpu_s * 1e6 / self.cpu_transactions + self.server_us

    @property
    def server_us(self) -> float:
        """The server's part of `cpu_us`."""
        return self.server_s * 1e6 / self.committed if self.committed else 0.0

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
        return max(self.most_ns["whole"], self.oldest_ns)

    def latency(self) -> dict[str, np.ndarray]:
        """Stage -> percentiles (ns), shape (5,) each; "whole" is over `whole_ns`."""
        found = {stage: self.percentiles(stage) for stage in STAGES}
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


class Roles(dict[str, Tally]):
    """Role -> its workers' Tally. Where a role's workers begin in several modes, each mode's Tally
    is found as well, under "writer:concurrent"; nobody who goes over the roles meets it, for its
    attempts are in the role's already.
    """

    def __init__(self, roles: Mapping[str, Tally], modes: Mapping[str, Tally]) -> None:
        super().__init__(roles)
        self.modes = modes

    def __contains__(self, role: object) -> bool:
        return super().__contains__(role) or role in self.modes

    def __missing__(self, role: str) -> Tally:
        return self.modes[role]


@dataclass(frozen=True)
class Count:
    """A run, counted: every worker, and each role's workers together.

    roles  : role -> Tally, only roles that the run had.
    steady : from where on the run was steady, and so was counted; None where the window was given.
    undrawn : role -> why nobody knows who was due, for roles that ran in an open loop.
    window_ns : (first, last) of what was counted. wal : the log, None where there was none.
    standstill : a time in which nobody committed, None without one (analysis.counting.standstill).
    cpu_share : share of its cores' CPU time that the run used in the planned window, nan where the
    manifest does not tell. kinds : names of its transactions' kinds. kept : role -> what `of_kind`
    gives, where the transactions themselves are not kept.
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
    cpu_share: float = float("nan")
    kinds: tuple[str, ...] = ()
    kept: Mapping[str, Mapping[str, OfKind]] = field(default_factory=dict)

    def of_kind(self, role: str) -> Mapping[str, OfKind]:
        """Name of a kind -> the role's transactions of it; {} of a checkpointer, who has none."""
        if role not in self.roles or role in self.kept or role not in TRANSACTING:
            return self.kept.get(role, {})
        return kinds_in(self.roles[role].times, self.kinds, self.seconds)

    def of(self, role: str) -> tuple[WorkerTally, ...]:
        """The workers of a role, or of one of its modes ("writer:concurrent")."""
        role, _, mode = role.partition(":")
        return tuple(w for w in self.workers if w.role == role and mode in ("", w.begin))

    def modes(self, role: str) -> tuple[str, ...]:
        """The modes of a role whose workers have several, as keys of `roles`; else ()."""
        found = self.roles.modes if isinstance(self.roles, Roles) else {}
        return tuple(name for name in found if name.partition(":")[0] == role)

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
    # The rate of stages changes because it was asked to: no part of the run is its steady one.
    steady = None if window_ns or run.manifest.plan.stages else steady_state(run)
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
    workers = _with_server(run, workers, window)
    roles: dict[str, Tally] = {}
    for role in dict.fromkeys(w.role for w in workers):
        roles[role] = together([w.tally for w in workers if w.role == role])
    modes = _apart(workers)
    both = [tally.times for role, tally in roles.items() if role in ("writer", "reader")]
    still = standstill(Committed.joined(both).column(ENDS, around=1), window)
    wal = wal_of(run, window)
    foreign = run.manifest.foreign
    used = foreign.own_cpu_s / foreign.total_cpu_s if foreign.total_cpu_s else float("nan")
    return Count(
        run.name, seconds, workers, Roles(roles, modes), steady, undrawn, window, wal, still, used,
        run.manifest.scenario.kinds,
    )  # fmt: skip


def _apart(workers: Sequence[WorkerTally]) -> dict[str, Tally]:
    """ROLE:MODE -> its workers together, of roles whose workers begin in several modes."""
    found: dict[str, list[Tally]] = {}
    for one in workers:
        if len({w.begin for w in workers if w.role == one.role}) > 1:
            found.setdefault(f"{one.role}:{one.begin}", []).append(one.tally)
    return {name: together(tallies) for name, tallies in found.items()}


def _with_server(
    run: Run, workers: tuple[WorkerTally, ...], window_ns: tuple[int, int]
) -> tuple[WorkerTally, ...]:
    """The workers with their parts of the server's CPU time, which is known of the run's window."""
    used_s = run.manifest.foreign.server_cpu_s
    many = sum(w.tally.committed for w in workers if w.role != "checkpointer")
    known_ns = run.window_ns[1] - run.window_ns[0]
    if not used_s or not many or known_ns <= 0:
        return workers
    each_s = used_s * (window_ns[1] - window_ns[0]) / known_ns / many
    return tuple(
        replace(w, tally=replace(w.tally, server_s=each_s * w.tally.committed)) for w in workers
    )


Asked = tuple[Arrivals, float]
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
    counting = _Counting(window_ns, retry or Retry())
    for part, more in parts_of(worker):
        counting.add(part, more)
    due = None if asked is None else due_of(worker, asked[0], window_ns, counting.retry, asked[1])
    return counting.tally(worker, due)


class _Counting:
    """What is counted of one worker, some whole transactions after the other."""

    def __init__(self, window_ns: tuple[int, int], retry: Retry) -> None:
        self.window_ns, self.retry = window_ns, retry
        self.outcomes = np.zeros(len(OUTCOMES), int)
        self.conflicts = np.zeros((len(CONFLICTS), len(PHASES)), int)
        self.first_conflicts = np.zeros(len(CONFLICTS), int)
        self.tries = np.zeros(2, int)
        self.batches = np.zeros((2, BATCHES), int)
        self.sums: Counter[str] = Counter()
        self.oldest_ns = 0
        self.waits: dict[tuple[int, ...], list[np.ndarray]] = {}
        self.parts: list[dict[str, np.ndarray]] = []
        self.most_ns = dict.fromkeys(STAGES, 0)
        self.ascending, self.last_end = True, 0
        self.brief = frozenset(STAGES)

    def add(self, rows: np.ndarray, more: bool) -> None:
        """Count some transactions. more : there are others behind them."""
        first, stop = self.window_ns
        end, inside = ends_ns(rows, stop), within(rows, self.window_ns)
        starts, lasts, _ = transactions(rows)
        outcome, mine = rows["outcome"], rows[inside]
        spent, still_open, waited = time_in(rows, self.window_ns)
        lost = ~still_open & (outcome != COMMITTED)
        did = np.flatnonzero(inside & (outcome == COMMITTED))
        refused = mine[mine["outcome"] == CONFLICT]
        np.add.at(self.conflicts, (refused["conflict"], refused["phase"]), 1)
        self.outcomes += np.bincount(mine["outcome"], minlength=len(OUTCOMES))
        self._batches(mine["outcome"], end[inside])
        of_first = refused["conflict"][refused["attempt"] == 1]
        self.first_conflicts += np.bincount(of_first, minlength=len(CONFLICTS))
        tries = np.bincount(rows["attempt"][did], minlength=len(self.tries))
        tries[: len(self.tries)] += self.tries
        self.tries = tries

        left = given_up(rows, lasts, self.retry, more)
        # Over when the window closed? Not if it ended later, was never closed, or was refused and
        # still meant to try again.
        open_at_stop = (end[lasts] > stop) | ((rows["end_ns"][lasts] == 0) & (end[lasts] >= first))
        open_at_stop |= inside[lasts] & (outcome[lasts] == CONFLICT) & ~left
        waiting_since = rows["intended_ns"][starts][open_at_stop]
        waiting_since = waiting_since[waiting_since < stop]
        if len(waiting_since):
            self.oldest_ns = max(self.oldest_ns, int((stop - waiting_since).max()))
        open_ns = int((spent - waited)[still_open].sum())
        self.sums.update(
            given_up=int((left & inside[lasts]).sum()),
            committed_ns=int(spent[~still_open & (outcome == COMMITTED)].sum()),
            wasted_ns=int(spent[lost].sum()) + open_ns,
            open_ns=open_ns,
            waiting_ns=int(waited[still_open].sum()),
            begin_ns=int(begin_in(rows, self.window_ns).sum()),
            first_finished=int(
                (
                    (mine["attempt"] == 1) & (mine["outcome"] != UNKNOWN) & (mine["outcome"] != 0)
                ).sum()
            ),
            unfinished=len(waiting_since),
            cpu_transactions=int((outcome == COMMITTED).sum()),
            did=len(did),
        )
        self._times(rows)
        self._waits(mine)

    def _batches(self, outcome: np.ndarray, end: np.ndarray) -> None:
        first, stop = self.window_ns
        batch = (end - first) * BATCHES // (max(stop - first, 0) + 1)
        for row, counted in enumerate((outcome == CONFLICT, outcome != UNKNOWN)):
            self.batches[row] += np.bincount(batch[counted], minlength=BATCHES)

    def _times(self, rows: np.ndarray) -> None:
        found = times_of(rows, self.window_ns)
        if not len(ends := found[ENDS]):
            return
        for stage in STAGES:
            self.most_ns[stage] = max(self.most_ns[stage], int(found[stage].max()))
        self.brief = frozenset(stage for stage in self.brief if is_brief(found[stage]))
        self.ascending &= bool(ends[0] >= self.last_end and (ends[1:] >= ends[:-1]).all())
        self.last_end = int(ends[-1])
        if self.sums["did"] <= SMALL:
            self.parts.append({name: short(column) for name, column in found.items()})

    def _waits(self, rows: np.ndarray) -> None:
        spoken = rows[rows["message"] > 0]
        if not len(spoken):
            return
        fields = ("outcome", "phase", "conflict", "message")
        groups, which = np.unique(spoken[list(fields)], return_inverse=True)
        order, took = np.argsort(which, kind="stable"), short(within_ns(spoken))
        each = np.split(took[order], np.cumsum(np.bincount(which, minlength=len(groups)))[:-1])
        for group, waits in zip(groups, each, strict=True):
            key = tuple(int(group[name]) for name in fields)
            self.waits.setdefault(key, []).append(waits)

    def tally(self, worker: WorkerRecord, due: Due | None) -> Tally:
        first, stop = self.window_ns
        many, sums, cpu = self.sums["did"], self.sums, worker.entry.cpu_s
        source = Source(worker.rows, self.window_ns, many, self.ascending, self.brief)
        if self.parts and many <= SMALL:
            source.keep(self.parts)
        return Tally(
            workers=1,
            seconds=max(stop - first, 0) / 1e9,
            outcomes=self.outcomes,
            conflicts=self.conflicts,
            first_conflicts=self.first_conflicts,
            first_finished=sums["first_finished"],
            tries=self.tries,
            given_up=sums["given_up"],
            worker_ns=max(stop - first, 0),
            committed_ns=sums["committed_ns"],
            wasted_ns=sums["wasted_ns"],
            open_ns=sums["open_ns"],
            waiting_ns=sums["waiting_ns"],
            begin_ns=sums["begin_ns"],
            times=Committed([source]),
            most_ns=self.most_ns,
            unfinished=sums["unfinished"],
            oldest_ns=max(self.oldest_ns, due.oldest_ns if due is not None else 0),
            cpu_s=float("nan") if cpu is None else cpu,
            cpu_transactions=sums["cpu_transactions"],
            waits_ns=self._by_refusal(worker),
            commits_each=np.array([many]),
            due=due,
            batches=self.batches,
        )

    def _by_refusal(self, worker: WorkerRecord) -> dict[RefusalKey, np.ndarray]:
        found: list[dict[RefusalKey, np.ndarray]] = []
        for (outcome, phase, conflict, message), waits in sorted(self.waits.items()):
            words = worker.messages
            text = words[message - 1] if message <= len(words) else "(words not kept)"
            key = (PHASES[phase], reason(outcome, conflict), text)
            found.append({key: np.concatenate(waits)})
            waits.clear()
        return joined(found)


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


def begin_in(rows: np.ndarray, window_ns: tuple[int, int]) -> np.ndarray:
    """How long the BEGIN of each attempt took within a window, ns, shape (attempts,)."""
    first, stop = window_ns
    begun = np.where(rows["begun_ns"] == 0, ends_ns(rows, stop), rows["begun_ns"])
    last = max(first, stop)
    spent = np.clip(begun, first, last) - np.clip(rows["start_ns"], first, last)
    return np.maximum(spent, 0)


def together(tallies: Sequence[Tally]) -> Tally:
    """Several workers' tallies as one. Raises ValueError for none at all.

    All must be of one run (one window); tallies of several runs are added up by `pooled`.
    """
    asked = sum(t.due.asked_per_s for t in tallies if t.due is not None)
    return _sum(tallies, tallies[0].seconds if tallies else 0.0, asked, 1)


def pooled(tallies: Sequence[Tally]) -> Tally:
    """One arm's tallies of several runs as one: windows add up, so `per_s` is the mean rate.

    `commits_each` then holds every worker of every run: for fairness look at single runs.
    """
    seconds = sum(t.seconds for t in tallies)
    asked = sum(t.due.asked_per_s * t.seconds for t in tallies if t.due is not None)
    runs = sum(t.runs for t in tallies)
    return _sum(tallies, seconds, asked / seconds if seconds else 0.0, runs)


def _sum(tallies: Sequence[Tally], seconds: float, asked_per_s: float, runs: int) -> Tally:
    if not tallies:
        raise ValueError("No tallies to add up: the run had no worker of that role.")
    most = max(len(t.tries) for t in tallies)
    return Tally(
        workers=sum(t.workers for t in tallies),
        seconds=seconds,
        outcomes=_added(t.outcomes for t in tallies),
        conflicts=_added(t.conflicts for t in tallies),
        first_conflicts=_added(t.first_conflicts for t in tallies),
        first_finished=sum(t.first_finished for t in tallies),
        tries=_added(np.pad(t.tries, (0, most - len(t.tries))) for t in tallies),
        given_up=sum(t.given_up for t in tallies),
        worker_ns=sum(t.worker_ns for t in tallies),
        committed_ns=sum(t.committed_ns for t in tallies),
        wasted_ns=sum(t.wasted_ns for t in tallies),
        open_ns=sum(t.open_ns for t in tallies),
        waiting_ns=sum(t.waiting_ns for t in tallies),
        begin_ns=sum(t.begin_ns for t in tallies),
        times=Committed.joined(t.times for t in tallies),
        most_ns={s: max(t.most_ns[s] for t in tallies) for s in STAGES},
        unfinished=sum(t.unfinished for t in tallies),
        oldest_ns=max(t.oldest_ns for t in tallies),
        cpu_s=sum(t.cpu_s for t in tallies),
        cpu_transactions=sum(t.cpu_transactions for t in tallies),
        waits_ns=joined(t.waits_ns for t in tallies),
        commits_each=np.concatenate([t.commits_each for t in tallies]),
        due=added([t.due for t in tallies], asked_per_s),
        batches=_added(t.batches for t in tallies),
        runs=runs,
        server_s=sum(t.server_s for t in tallies),
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
