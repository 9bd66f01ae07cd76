"""Queue: the oldest ready job is claimed in one transaction and finished in another.

All claimers look at the same end of the same index, so this is contention by design; nobody may
claim a job that somebody else has, and no finished job may come back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, cycle
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from workloads.engines import Session
from workloads.records import COMMITTED, WorkerRecord
from workloads.scenarios.drawing import always
from workloads.scenarios.loading import fill, payload
from workloads.scenarios.scenario import Draw, Finding, RunLog, Shape, WorkerContext
from workloads.scenarios.told import Firsts, Places, Told, pages

CLAIM, FINISH, LOOK = range(3)
READY, CLAIMED, DONE = range(3)
NOTHING = -1
"""Result of a claim that found no job, and of a finish that had none."""

OLDEST = "SELECT id FROM job WHERE state = 0 ORDER BY id LIMIT ?"
TAKE = "UPDATE job SET state = 1, worker = ?, claims = claims + 1 WHERE id = ?"
GIVE = "UPDATE job SET state = 2 WHERE id = ?"
JOBS = "SELECT id, state, worker, claims FROM job WHERE id >= ? ORDER BY id LIMIT ?"
NEW = "INSERT INTO job(state, worker, claims, body) VALUES (0, -1, 0, ?)"


class QueueShape(Shape):
    """Parameters of `queue`."""

    rows: int = Field(2_000, ge=1, le=10_000_000, description="jobs ready at the start")
    operations: int = Field(1, ge=1, le=1, description="jobs a transaction: always 1")
    refill: bool = Field(True, description="finishing a job puts a new one at the end")


class Queue:
    """Writers claim and finish in turn; readers look at the head.

    result of a claim and of a finish: the job's id, or -1 where there was none; of a look: the
    oldest ready job.
    """

    name: ClassVar[str] = "queue"
    story: ClassVar[str] = (
        "Jobs are claimed and finished by many workers: no job is claimed twice, and each "
        "acknowledged claim and finish is in the table."
    )
    kinds: ClassVar[tuple[str, ...]] = ("claim", "finish", "look")
    cold_start: ClassVar[bool] = True
    Params: ClassVar[type[Shape]] = QueueShape

    def __init__(self, params: QueueShape) -> None:
        self.params = params
        # By worker of this process: the jobs that it claimed and has not finished.
        self._held: dict[int, list[int]] = {}

    def schema(self) -> Sequence[str]:
        return (
            (
                "CREATE TABLE job(id INTEGER PRIMARY KEY, state INTEGER NOT NULL, "
                "worker INTEGER NOT NULL, claims INTEGER NOT NULL, body TEXT NOT NULL)"
            ),
            "CREATE INDEX job_ready ON job(state, id)",
        )

    def load(self, session: Session, rng: np.random.Generator) -> None:
        tail = f",0,-1,0,'{payload(rng, self.params.record_bytes)}')"
        fill(
            session,
            "INSERT INTO job(id, state, worker, claims, body) VALUES",
            (f"({i + 1}{tail}" for i in range(self.params.rows)),
        )

    def draw(self, context: WorkerContext) -> Callable[[], Draw]:
        if context.role == "reader":
            return always(Draw(LOOK, ()))
        return cycle((Draw(CLAIM, ()), Draw(FINISH, ()))).__next__

    def bodies(self, context: WorkerContext) -> Sequence[Callable[[Any], int | None]]:
        assert context.session is not None
        run, rows, think, worker = (
            context.session.run,
            context.session.rows,
            context.think,
            context.worker,
        )
        body = payload(np.random.default_rng(7), self.params.record_bytes)
        held, refill = self._held.setdefault(worker, []), self.params.refill

        def claim(_: Any) -> int:
            oldest = rows(OLDEST, (1,))
            if not oldest:
                return NOTHING
            think()
            # No "AND state = 0": what keeps two claimers apart must be the engine's isolation.
            run(TAKE, (worker, oldest[0][0]))
            return int(oldest[0][0])

        def finish(_: Any) -> int:
            if not held:
                return NOTHING
            run(GIVE, (held[-1],))
            if refill:
                run(NEW, (body,))
            return held[-1]

        def look(_: Any) -> int:
            oldest = rows(OLDEST, (10,))
            think()
            return int(oldest[0][0]) if oldest else NOTHING

        return claim, finish, look

    def acknowledged(self, context: WorkerContext) -> Callable[[Draw, int], None] | None:
        if context.role != "writer":
            return None
        held = self._held.setdefault(context.worker, [])

        def keep_held(draw: Draw, job: int) -> None:
            if job != NOTHING:
                if draw.kind == CLAIM:
                    held.append(job)
                else:
                    held.pop()

        return keep_held

    def checkpointed(self, context: WorkerContext) -> None:
        return None

    def holds(self, session: Session) -> list[str]:
        """A job is ready and was never claimed, or it was."""
        odd = "SELECT count(*) FROM job WHERE (state = 0) <> (claims = 0) OR state NOT IN (0, 1, 2)"
        many = session.rows(odd)[0][0]
        return [f"{many} jobs are ready and claimed, or neither"] if many else []

    def check(self, session: Session, log: RunLog) -> list[Finding]:
        writers = [worker for worker in log.workers if worker.role == "writer"]
        unknown = [log.unknown("writer", kind) for kind in (CLAIM, FINISH)]
        claims = Told(lambda: chain.from_iterable(_told(worker, CLAIM) for worker in writers))
        finishes = Told(lambda: chain.from_iterable(_told(worker, FINISH) for worker in writers))
        many = [sum(map(len, _told(worker, CLAIM))) for worker in writers]
        found = _Found([worker.worker for worker in writers], np.cumsum(many))
        for page in pages(session, JOBS, 4):
            for some in claims.within(page.low, page.high):
                found.claimed(some, page.rows)
            for some in finishes.within(page.low, page.high):
                found.finished(some, page.rows)
            found.looked(page.rows)
        return [
            found.claimed_once(),
            found.claims_are_kept(finishes.many),
            self._counts(found, claims.many, finishes.many, unknown),
        ]

    def _counts(self, found: _Found, claims: int, finishes: int, unknown: list[int]) -> Finding:
        """The table's claims, finished jobs and new jobs against what was acknowledged."""
        new = finishes if self.params.refill else 0
        most = unknown[FINISH] if self.params.refill else 0
        sums = (
            ("claims", found.claims, claims, CLAIM),
            ("finished jobs", found.done, found.told_finished, FINISH),
        )
        wrong = [
            f"{there:,} {what} where {least:,} were acknowledged"
            for what, there, least, kind in sums
            if not least <= there <= least + unknown[kind]
        ]
        least = self.params.rows + new
        if not least <= found.jobs <= least + most:
            wrong.append(f"{found.jobs:,} jobs where {least:,} were put")
        counts = ", ".join(f"{there:,} {what}" for what, there, _, _ in sums)
        sentence = (
            f"{found.jobs:,} jobs, {counts}: as acknowledged" if not wrong else "; ".join(wrong)
        )
        return Finding("counts", not wrong, f"{sentence}.", {"unknown": sum(unknown)})


SHOWN = 20
"""Jobs of each fault that are named in the evidence."""


def _told(worker: WorkerRecord, kind: int) -> Iterator[np.ndarray]:
    """The jobs that a worker was told it had claimed, or finished."""
    for rows in worker.rows.pieces():
        sure = (rows["outcome"] == COMMITTED) & (rows["kind"] == kind)
        yield rows["result"][sure & (rows["result"] != NOTHING)]


class _Found:
    """The table's jobs beside what was told of them, page by page: there may be 12 million.

    jobs, claims, done : of the table, how many jobs, claims that they count, and finished jobs.
    told_claimed, told_finished : how many jobs were claimed, and finished, as workers were told.
    """

    def __init__(self, workers: list[int], ends: np.ndarray) -> None:
        """Nothing is looked at yet.

        workers : who claimed. ends : how many claims they were told of, each and all before.
        """
        self._workers, self._ends = np.array(workers, np.int64), ends
        self.jobs = self.claims = self.done = self.told_claimed = self.told_finished = 0
        self._twice, self._counted = Firsts(SHOWN), Firsts(SHOWN)
        self._lost, self._undone = Firsts(SHOWN), Firsts(SHOWN)

    def looked(self, rows: np.ndarray) -> None:
        """Count jobs of the table: rows of (id, state, worker, claims)."""
        again = np.flatnonzero(rows[:, 3] > 1)
        job, times = rows[again, 0], rows[again, 3]
        self._counted.add(again + self.jobs, lambda at: (int(job[at]), int(times[at])))
        self.jobs += len(rows)
        self.done += int((rows[:, 1] == DONE).sum())
        self.claims += sum(rows[:, 3].tolist())

    def claimed(self, told: Places, rows: np.ndarray) -> None:
        """Hold claims against the jobs of the same range of ids."""
        self.told_claimed += len(told.ids)
        workers = self._workers[np.searchsorted(self._ends, told.places, side="right")]
        begins, ends = told.begins[:-1], told.begins[1:]

        def whose(at: int) -> list[int]:
            some: list[int] = workers[begins[at] : ends[at]].tolist()
            return some

        several = np.flatnonzero(ends - begins > 1)
        self._twice.add(
            told.first[several], lambda at: (int(told.ids[several[at]]), whose(several[at]))
        )
        state, owner = _shown(told.ids, rows)
        theirs = np.logical_or.reduceat(workers == np.repeat(owner, ends - begins), begins)
        lost = np.flatnonzero((state == READY) | ~theirs)
        self._lost.add(
            told.first[lost],
            lambda at: (
                f"job {told.ids[lost[at]]} was claimed by worker {whose(lost[at])[0]} and shows "
                f"worker {owner[lost[at]]}"
            ),
        )

    def finished(self, told: Places, rows: np.ndarray) -> None:
        """Hold finishes against the jobs of the same range of ids."""
        self.told_finished += len(told.ids)
        lost = np.flatnonzero(_shown(told.ids, rows)[0] != DONE)
        self._undone.add(
            told.first[lost], lambda at: f"job {told.ids[lost[at]]} was finished and is not"
        )

    def claimed_once(self) -> Finding:
        twice, counted = dict(self._twice), dict(self._counted)
        sentence = f"{self.told_claimed:,} jobs were claimed, each once"
        if twice:
            job, workers = next(iter(twice.items()))
            sentence = (
                f"{self._twice.count:,} jobs were claimed more than once: job {job} was "
                f"acknowledged to workers {', '.join(map(str, workers))}"
            )
        elif counted:
            job, times = next(iter(counted.items()))
            sentence = (
                f"{self._counted.count:,} jobs count more than one claim: job {job} counts {times}"
            )
        evidence = {"twice": twice, "counted": counted}
        return Finding("claimed once", not twice and not counted, f"{sentence}.", evidence)

    def claims_are_kept(self, finishes: int) -> Finding:
        """Each acknowledged claim and finish is in its job's row."""
        lost = [*self._lost, *self._undone][:SHOWN]
        sentence = f"all {self.told_claimed:,} claims and {finishes:,} finishes are in the table"
        if lost:
            count = self._lost.count + self._undone.count
            sentence = f"{count:,} acknowledged changes are lost: {lost[0]}"
        return Finding("acknowledged changes", not lost, f"{sentence}.", {"lost": lost})


def _shown(ids: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(state, worker) that the table shows for jobs; of one that is not there (READY, NOTHING)."""
    if not len(rows):
        return np.full(len(ids), READY), np.full(len(ids), NOTHING)
    at = np.minimum(np.searchsorted(rows[:, 0], ids), len(rows) - 1)
    there = rows[at, 0] == ids
    return np.where(there, rows[at, 1], READY), np.where(there, rows[at, 2], NOTHING)
