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

from analysis.estimators import PERCENTILES, abort_rate, jain_index, percentiles
from analysis.steady import Steady, steady_state
from workloads.recording import (
    COMMITTED,
    CONFLICT,
    CONFLICTS,
    FAILED,
    OUTCOMES,
    PHASES,
    UNKNOWN,
    Run,
    WorkerRecord,
)

STAGES = ("queueing", "begin", "work", "commit", "service", "whole")
"""Parts of a committed transaction's time; see `Tally.latency_ns`."""


@dataclass(frozen=True)
class Tally:
    """The attempts of one worker, or of several together, that ended in the measured window.

    workers      : how many workers are in it. seconds : length of the window.
    outcomes     : int array, shape (5,), attempts by outcome number (workloads.recording).
    conflicts    : int array, shape (6, 4), conflicts by kind and phase.
    tries        : int array; tries[k] transactions committed at their k-th try, tries[0] is 0.
    given_up     : transactions left after a conflict because the retry policy said so.
    attempts_ns  : time spent inside attempts, all / in those that did not commit. Waiting between
        tries (back-off) is in neither.
    latency_ns   : stage -> int64 array, one value for each committed transaction:
        queueing  its first start - its intended start (0 in a closed loop),
        begin     BEGIN of the try that committed (waiting for a lock is here),
        work      from BEGIN to the end of the body (the asked-for work is here),
        commit    COMMIT,
        service   the try that committed, start to end,
        whole     intended start to the end of COMMIT, refused tries and back-off included.
    ends_ns      : int64 array, when each of those ended, on the run's clock.
    unfinished   : transactions begun but not over when the window closed; `oldest_ns` is how long
        the oldest of them had lasted. They are in no latency: without them a worker that waits
        for the whole run would look as if it had never waited.
    cpu_s, cpu_transactions : CPU seconds over the whole run and the transactions committed in it
        (warm-up included, as the CPU time is); nan where the manifest has no CPU time.
    words        : (phase, conflict kind, engine's own words) -> attempts.
    commits_each : int array, shape (workers,), committed transactions of each worker.
    """

    workers: int
    seconds: float
    outcomes: np.ndarray
    conflicts: np.ndarray
    tries: np.ndarray
    given_up: int
    attempts_ns: int
    wasted_ns: int
    latency_ns: Mapping[str, np.ndarray] = field(repr=False)
    ends_ns: np.ndarray = field(repr=False)
    unfinished: int
    oldest_ns: int
    cpu_s: float
    cpu_transactions: int
    words: Counter[tuple[str, str, str]]
    commits_each: np.ndarray

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
    def abort_rate(self) -> np.ndarray:
        """low, rate, high; shape (3,). Treats attempts as independent, which they nearly are."""
        return abort_rate([self.conflicted], [self.finished])[0]

    @property
    def wasted(self) -> float:
        """Share of the time inside attempts that went into attempts that did not commit."""
        return self.wasted_ns / self.attempts_ns if self.attempts_ns else float("nan")

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
        """Stage -> percentiles (ns), shape (5,) each."""
        return {stage: percentiles(self.latency_ns[stage]) for stage in STAGES}

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
    """

    run: str
    seconds: float
    workers: tuple[WorkerTally, ...]
    roles: Mapping[str, Tally]
    steady: Steady | None = None

    def of(self, role: str) -> tuple[WorkerTally, ...]:
        return tuple(w for w in self.workers if w.role == role)

    def worst_p99_ns(self, role: str) -> float:
        """The worst worker's p99 of whole transactions; nan where none has enough samples."""
        each = [percentiles(w.tally.latency_ns["whole"])[2] for w in self.of(role)]
        known = [p for p in each if not np.isnan(p)]
        return max(known) if known else float("nan")


def count(run: Run, window_ns: tuple[int, int] | None = None) -> Count:
    """Count a run: only attempts that ended in its measured window. Never an error for odd rows.

    window_ns : (first, last) of what is counted. Without it the window begins where MSER-5 finds
        the run steady, and never before the plan's own (analysis.steady).
    """
    steady = None if window_ns else steady_state(run)
    window = window_ns or (steady.window_ns if steady else run.window_ns)
    seconds = max(window[1] - window[0], 0) / 1e9
    retry = run.manifest["plan"].get("retry", {})
    workers = tuple(
        WorkerTally(
            worker=w.worker,
            role=w.role,
            number=w.number,
            engine=w.engine,
            begin=w.begin,
            state=str(w.entry.get("state", "finished")),
            tally=count_worker(w, window, retry),
        )
        for w in run.workers
    )
    roles: dict[str, Tally] = {}
    for role in dict.fromkeys(w.role for w in workers):
        roles[role] = together([w.tally for w in workers if w.role == role])
    return Count(run.name, seconds, workers, roles, steady)


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
    worker: WorkerRecord, window_ns: tuple[int, int], retry: Mapping[str, object] | None = None
) -> Tally:
    """The Tally of one worker. window_ns is (first, last), retry the plan's policy as data."""
    first, stop = window_ns
    rows = worker.attempts
    end, inside = ends_ns(rows, stop), within(rows, window_ns)
    # Transactions are runs of one txn number, their first rows at `starts`.
    new = np.append(True, rows["txn"][1:] != rows["txn"][:-1]) if len(rows) else np.zeros(0, bool)
    starts = np.flatnonzero(new)
    which = np.cumsum(new) - 1
    lasts = np.append(starts[1:] - 1, len(rows) - 1) if len(rows) else starts

    outcome, mine = rows["outcome"], rows[inside]
    spent = np.maximum(end - np.maximum(rows["start_ns"], first), 0)
    did = np.flatnonzero(inside & (outcome == COMMITTED))
    refused = mine[mine["outcome"] == CONFLICT]
    conflicts = np.zeros((len(CONFLICTS), len(PHASES)), int)
    np.add.at(conflicts, (refused["conflict"], refused["phase"]), 1)

    cpu = worker.entry.get("cpu_s")
    left = _given_up(rows, lasts, retry or {})
    # Over when the window closed? Not if it ended later, was never closed, or was refused and
    # still meant to try again.
    open_at_stop = (end[lasts] > stop) | ((rows["end_ns"][lasts] == 0) & (end[lasts] >= first))
    open_at_stop |= inside[lasts] & (outcome[lasts] == CONFLICT) & ~left
    waiting_since = rows["intended_ns"][starts][open_at_stop]
    waiting_since = waiting_since[waiting_since < stop]
    return Tally(
        workers=1,
        seconds=max(stop - first, 0) / 1e9,
        outcomes=np.bincount(mine["outcome"], minlength=len(OUTCOMES)),
        conflicts=conflicts,
        tries=np.bincount(rows["attempt"][did], minlength=2),
        given_up=int((left & inside[lasts]).sum()),
        attempts_ns=int(spent[inside].sum()),
        wasted_ns=int(spent[inside & (outcome != COMMITTED)].sum()),
        latency_ns=_stages(rows, did, starts[which[did]]),
        ends_ns=rows["end_ns"][did],
        unfinished=len(waiting_since),
        oldest_ns=int((stop - waiting_since).max()) if len(waiting_since) else 0,
        cpu_s=float("nan") if cpu is None else float(cpu),
        cpu_transactions=int((outcome == COMMITTED).sum()),
        words=_words(worker, mine),
        commits_each=np.array([len(did)]),
    )


def _given_up(rows: np.ndarray, lasts: np.ndarray, retry: Mapping[str, object]) -> np.ndarray:
    """Which transactions, by their last rows, were left after a conflict by the policy's word.

    The worker's very last one may only have met the end of the run: that is not giving up.
    """
    final = rows[lasts]
    followed = np.arange(len(lasts)) < len(lasts) - 1
    most = int(str(retry.get("most_tries", 0)))
    by_policy = np.full(len(lasts), retry.get("policy") == "none")
    if most:
        by_policy |= final["attempt"] >= most
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


def _words(worker: WorkerRecord, rows: np.ndarray) -> Counter[tuple[str, str, str]]:
    said: Counter[tuple[str, str, str]] = Counter()
    spoken = rows[rows["message"] > 0]
    groups, counts = np.unique(spoken[["phase", "conflict", "message"]], return_counts=True)
    for group, times in zip(groups, counts, strict=True):
        index = int(group["message"]) - 1
        text = worker.messages[index] if index < len(worker.messages) else "(words not kept)"
        said[PHASES[group["phase"]], CONFLICTS[group["conflict"]], text] += int(times)
    return said


def together(tallies: Sequence[Tally]) -> Tally:
    """Several workers' tallies as one. Raises ValueError for none at all.

    All must be of one run (one window); tallies of several runs are added up by `pooled`.
    """
    return _sum(tallies, tallies[0].seconds if tallies else 0.0)


def pooled(tallies: Sequence[Tally]) -> Tally:
    """One arm's tallies of several runs as one: windows add up, so `per_s` is the mean rate.

    `commits_each` then holds every worker of every run: for fairness look at single runs.
    """
    return _sum(tallies, sum(t.seconds for t in tallies))


def _sum(tallies: Sequence[Tally], seconds: float) -> Tally:
    if not tallies:
        raise ValueError("No tallies to add up: the run had no worker of that role.")
    most = max(len(t.tries) for t in tallies)
    words: Counter[tuple[str, str, str]] = Counter()
    for tally in tallies:
        words.update(tally.words)
    return Tally(
        workers=sum(t.workers for t in tallies),
        seconds=seconds,
        outcomes=_added(t.outcomes for t in tallies),
        conflicts=_added(t.conflicts for t in tallies),
        tries=_added(np.pad(t.tries, (0, most - len(t.tries))) for t in tallies),
        given_up=sum(t.given_up for t in tallies),
        attempts_ns=sum(t.attempts_ns for t in tallies),
        wasted_ns=sum(t.wasted_ns for t in tallies),
        latency_ns={s: np.concatenate([t.latency_ns[s] for t in tallies]) for s in STAGES},
        ends_ns=np.concatenate([t.ends_ns for t in tallies]),
        unfinished=sum(t.unfinished for t in tallies),
        oldest_ns=max(t.oldest_ns for t in tallies),
        cpu_s=sum(t.cpu_s for t in tallies),
        cpu_transactions=sum(t.cpu_transactions for t in tallies),
        words=words,
        commits_each=np.concatenate([t.commits_each for t in tallies]),
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
