"""Queue: the oldest ready job is claimed in one transaction and finished in another.

All claimers look at the same end of the same index, so this is contention by design; nobody may
claim a job that somebody else has, and no finished job may come back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import cycle
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from workloads.engines import Session
from workloads.records import COMMITTED, UNKNOWN
from workloads.scenarios.drawing import always
from workloads.scenarios.loading import fill, payload
from workloads.scenarios.scenario import Draw, Finding, RunLog, Shape, WorkerContext

CLAIM, FINISH, LOOK = range(3)
READY, CLAIMED, DONE = range(3)
NOTHING = -1
"""Result of a claim that found no job, and of a finish that had none."""

OLDEST = "SELECT id FROM job WHERE state = 0 ORDER BY id LIMIT ?"
TAKE = "UPDATE job SET state = 1, worker = ?, claims = claims + 1 WHERE id = ?"
GIVE = "UPDATE job SET state = 2 WHERE id = ?"
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

    def check(self, session: Session, log: RunLog) -> list[Finding]:
        claims: dict[int, list[int]] = {}  # job -> workers that were told it is theirs
        finished: Counter[int] = Counter()
        unknown: Counter[int] = Counter()
        for worker in log.workers:
            if worker.role != "writer":
                continue
            for rows in worker.rows.pieces():
                sure = rows[(rows["outcome"] == COMMITTED) & (rows["result"] != NOTHING)]
                for job in sure["result"][sure["kind"] == CLAIM].tolist():
                    claims.setdefault(job, []).append(worker.worker)
                finished.update(sure["result"][sure["kind"] == FINISH].tolist())
                for kind in (CLAIM, FINISH):
                    hit = (rows["outcome"] == UNKNOWN) & (rows["kind"] == kind)
                    unknown[kind] += int(hit.sum())
        jobs = {
            int(job): (int(state), int(owner), int(times))
            for job, state, owner, times in session.rows(
                "SELECT id, state, worker, claims FROM job"
            )
        }
        return [
            _claimed_once(claims, jobs),
            _claims_are_kept(claims, finished, jobs),
            self._counts(claims, finished, unknown, jobs),
        ]

    def _counts(
        self,
        claims: dict[int, list[int]],
        finished: Counter[int],
        unknown: Counter[int],
        jobs: dict[int, tuple[int, int, int]],
    ) -> Finding:
        """The table's claims, finished jobs and new jobs against what was acknowledged."""
        new = finished.total() if self.params.refill else 0
        most = unknown[FINISH] if self.params.refill else 0
        sums = (
            ("claims", sum(j[2] for j in jobs.values()), sum(map(len, claims.values())), CLAIM),
            ("finished jobs", sum(j[0] == DONE for j in jobs.values()), len(finished), FINISH),
        )
        wrong = [
            f"{there:,} {what} where {least:,} were acknowledged"
            for what, there, least, kind in sums
            if not least <= there <= least + unknown[kind]
        ]
        least = self.params.rows + new
        if not least <= len(jobs) <= least + most:
            wrong.append(f"{len(jobs):,} jobs where {least:,} were put")
        counts = ", ".join(f"{there:,} {what}" for what, there, _, _ in sums)
        sentence = (
            f"{len(jobs):,} jobs, {counts}: as acknowledged" if not wrong else "; ".join(wrong)
        )
        return Finding("counts", not wrong, f"{sentence}.", {"unknown": unknown.total()})


def _claimed_once(claims: dict[int, list[int]], jobs: dict[int, tuple[int, int, int]]) -> Finding:
    twice = {job: workers for job, workers in claims.items() if len(workers) > 1}
    counted = {job: row[2] for job, row in jobs.items() if row[2] > 1}
    sentence = f"{len(claims):,} jobs were claimed, each once"
    if twice:
        job, workers = next(iter(twice.items()))
        sentence = (
            f"{len(twice):,} jobs were claimed more than once: job {job} was acknowledged to "
            f"workers {', '.join(map(str, workers))}"
        )
    elif counted:
        job, times = next(iter(counted.items()))
        sentence = f"{len(counted):,} jobs count more than one claim: job {job} counts {times}"
    evidence = {
        "twice": dict(list(twice.items())[:20]),
        "counted": dict(list(counted.items())[:20]),
    }
    return Finding("claimed once", not twice and not counted, f"{sentence}.", evidence)


def _claims_are_kept(
    claims: dict[int, list[int]],
    finished: Counter[int],
    jobs: dict[int, tuple[int, int, int]],
) -> Finding:
    """Each acknowledged claim and finish is in its job's row."""
    lost: list[str] = []
    for job, workers in claims.items():
        state, owner, _ = jobs.get(job, (READY, NOTHING, 0))
        if state == READY or owner not in workers:
            lost.append(f"job {job} was claimed by worker {workers[0]} and shows worker {owner}")
    for job in finished:
        if jobs.get(job, (READY,))[0] != DONE:
            lost.append(f"job {job} was finished and is not")
    sentence = f"all {len(claims):,} claims and {finished.total():,} finishes are in the table"
    if lost:
        sentence = f"{len(lost):,} acknowledged changes are lost: {lost[0]}"
    return Finding("acknowledged changes", not lost, f"{sentence}.", {"lost": lost[:20]})
