"""A made-up engine that validates optimistically: runs of which the truth about refusals is known.

Like analysis.synthetic.runs, only for tests. Transactions are those that the register scenario
draws; what a place is (a page of several rows, or a row) is the caller's. A page-level commit is
refused where a place that it touched was written after its snapshot; a row-level write is refused
where its row was committed after the snapshot, or is held by another transaction that is under way.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any

import numpy as np

from analysis.synthetic.runs import START_NS, made_run, made_worker
from workloads.engines import packed
from workloads.records import ATTEMPT, COMMITTED, CONFLICT, STALE, WRITE_WRITE, Run
from workloads.runs import context_of, make_plan
from workloads.scenarios import find_scenario

COMMIT_NS = 10_000
ENGINES = {"page": "sqlite-concurrent", "row": "turso"}


def optimistic_run(
    *,
    unit: str = "page",
    rows: int = 1000,
    rows_a_page: int = 20,
    keys: str = "uniform",
    operations: int = 1,
    mix: str = "read-modify-write=1",
    writers: int = 4,
    seconds: float = 5.0,
    work_us: float = 500.0,
    uneven: float = 0.0,
    slow_commits: float = 0.0,
    retry: bool = False,
    seed: int = 1,
) -> Run:
    """One run. work_us : mean time of a body (gamma, shape 4).

    uneven       : share of the bodies that take thirty times as long, as if preempted.
    slow_commits : share of the commits that return 5 ms after they were validated.
    retry        : a refused transaction tries again with the same rows; otherwise it is left.
    """
    engine = ENGINES[unit]
    params = {"rows": rows, "keys": keys, "operations": operations, "mix": mix}
    plan = make_plan(
        scenario="register", database="null", writers=writers, begin="concurrent", params=params,
        seed=seed,
    )  # fmt: skip
    scenario: Any = find_scenario("register")(plan.shape())
    rng = np.random.default_rng(seed)
    draws = [scenario.draw(context_of(plan, worker)) for worker in range(writers)]
    place = (np.arange(rows) // rows_a_page if unit == "page" else np.arange(rows)).tolist()
    written = [0] * (max(place) + 1)  # when each place was last committed
    holder: dict[int, int] = {}
    stop = START_NS + int(seconds * 1e9)
    records: list[list[tuple[Any, ...]]] = [[] for _ in range(writers)]
    events: list[tuple[int, int]] = []
    state: list[dict[str, Any]] = [{"txn": -1, "try": 0, "again": False} for _ in range(writers)]

    def begin(worker: int, now: int) -> None:
        mine = state[worker]
        if mine["again"] and retry:
            mine["try"] += 1
        else:
            mine["txn"] += 1
            mine["try"] = 1
            drawn = draws[worker]()
            touches = scenario.touches(drawn)
            mine["kind"] = drawn.kind
            mine["touches"] = [t for t in touches if t.wrote or unit == "page"]
        took = rng.gamma(4, work_us / 4) * (30 if rng.random() < uneven else 1)
        mine["start"], mine["begun"] = now, now + 1000
        mine["worked"] = mine["begun"] + int(took * 1000)
        if unit == "page":
            mine["due"] = [(mine["worked"] + COMMIT_NS, touch) for touch in mine["touches"]]
            at = mine["worked"] + COMMIT_NS
        else:
            step = (mine["worked"] - mine["begun"]) // max(len(mine["touches"]), 1)
            mine["due"] = [
                (mine["begun"] + (i + 1) * step, touch) for i, touch in enumerate(mine["touches"])
            ]
            at = mine["due"][0][0] if mine["due"] else mine["worked"] + COMMIT_NS
        mine["step"] = 0
        heapq.heappush(events, (at, worker))

    def end(worker: int, now: int, outcome: int) -> None:
        mine = state[worker]
        refused = outcome == CONFLICT
        late = 0 if refused or rng.random() >= slow_commits else 5_000_000
        worked = 0 if refused and unit == "row" else mine["worked"]
        records[worker].append(
            (mine["start"], mine["txn"], mine["try"], mine["begun"], worked, now + late, outcome,
             mine["kind"])
        )  # fmt: skip
        mine["again"] = refused
        for row in [row for row, by in holder.items() if by == worker]:
            del holder[row]
        if now + late < stop:
            begin(worker, now + late + int(rng.exponential(100_000)))

    def validate(worker: int, now: int) -> None:
        mine = state[worker]
        touched = {place[t.row] for t in mine["touches"]}
        writes = any(touch.wrote for touch in mine["touches"])  # one that only reads has no say
        if writes and any(written[p] > mine["begun"] for p in touched):
            end(worker, now, CONFLICT)
            return
        for touch in mine["touches"]:
            if touch.wrote:
                written[place[touch.row]] = now
        end(worker, now, COMMITTED)

    def write(worker: int, now: int) -> None:
        mine = state[worker]
        if mine["step"] == len(mine["due"]):
            for touch in mine["touches"]:
                written[place[touch.row]] = now
            end(worker, now, COMMITTED)
            return
        row = place[mine["due"][mine["step"]][1].row]
        if written[row] > mine["begun"] or holder.get(row, worker) != worker:
            end(worker, now, CONFLICT)
            return
        holder[row] = worker
        mine["step"] += 1
        done = mine["step"] == len(mine["due"])
        heapq.heappush(
            events, (mine["worked"] + COMMIT_NS if done else mine["due"][mine["step"]][0], worker)
        )

    for worker in range(writers):
        begin(worker, START_NS + worker)
    while events:
        now, worker = heapq.heappop(events)
        (validate if unit == "page" else write)(worker, now)

    workers = [
        made_worker(number, _rows(record, unit), engine=engine, begin="concurrent")
        for number, record in enumerate(records)
    ]
    # Whole leaves one after the other, as a load makes them.
    pages = np.bincount(np.array(place)).tolist() if unit == "page" else []
    tree = {
        "root": 2, "cells": rows, "leaves": len(pages), "interior": 1,
        "pages": packed(range(3, 3 + len(pages)), pages), "above": "2:0",
    }  # fmt: skip
    loaded = {"table register": tree} if unit == "page" else {"why": "no pages"}
    asked = plan.model_dump(mode="json") | {"write_engine": engine, "database": engine}
    run = made_run(workers, seconds=seconds, plan=asked, layout={"loaded": loaded, "left": loaded})
    run.manifest.scenario.params = plan.shape().model_dump()
    return run


def _rows(record: Sequence[tuple[Any, ...]], unit: str) -> np.ndarray:
    out = np.zeros(len(record), ATTEMPT)
    start, txn, tries, begun, worked, end, outcome, kind = (
        np.array(column) for column in zip(*record, strict=True)
    )
    out["intended_ns"] = out["start_ns"] = start
    out["txn"], out["attempt"], out["outcome"] = txn, tries, outcome
    out["kind"] = kind
    out["begun_ns"], out["worked_ns"], out["end_ns"] = begun, worked, end
    refused = outcome == CONFLICT
    out["conflict"] = np.where(refused, STALE if unit == "page" else WRITE_WRITE, 0)
    out["phase"] = np.where(refused, 3 if unit == "page" else 2, 0)
    return out
