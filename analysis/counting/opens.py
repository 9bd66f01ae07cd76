"""Opening, recovery and closing of connections, or waiting to borrow one, told apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.statistics import PERCENTILES, percentiles
from analysis.wording import Table, at_least, whole
from workloads.records import (
    BORROWED,
    COLD,
    COMMITTED,
    FIRST,
    LAST,
    OPEN_ROW,
    RECOVERY,
    SCHEMA,
    Run,
    read_opens,
)

if TYPE_CHECKING:
    from analysis.counting.tally import Count

STAGES_OF_OPENING = (
    *("borrow", "open", "open, first", "open, recovery", "open, cold", "schema"),
    *("close", "close, last"),
)


def opening_times(run: Run, role: str, window_ns: tuple[int, int]) -> dict[str, np.ndarray]:
    """Stage -> int64 array, ns: what each took that ended in a window; {} of kept connections.

    A cold start is before the window, and counted all the same.
    Raises RunError where a file of them is none of ours.
    """
    plan = run.manifest.plan
    kept = plan.connection == "kept" and not plan.cold_start
    workers = [entry.worker for entry in run.manifest.workers if entry.role == role]
    each = [] if kept else [read_opens(run.folder, worker) for worker in workers]
    if not each:
        return {}
    rows = np.concatenate(each)
    first, stop = window_ns
    how, took = rows["how"], rows["opened_ns"] - rows["start_ns"]
    inside = (rows["opened_ns"] >= first) & (rows["opened_ns"] <= stop)
    borrowed, alone, recovered = ((how & flag) > 0 for flag in (BORROWED, FIRST, RECOVERY))
    cold, schema = ((how & flag) > 0 for flag in (COLD, SCHEMA))
    inside &= ~(cold | schema)
    closed = (rows["close_ns"] > 0) & (rows["closed_ns"] >= first) & (rows["closed_ns"] <= stop)
    closing, last = rows["closed_ns"] - rows["close_ns"], (how & LAST) > 0
    found = (
        took[inside & borrowed],
        took[inside & ~borrowed & ~alone],
        took[inside & alone & ~recovered],
        took[inside & recovered],
        took[cold],
        took[schema],
        closing[closed & ~last],
        closing[closed & last],
    )
    return {
        name: values for name, values in zip(STAGES_OF_OPENING, found, strict=True) if len(values)
    }


def all_openings(run: Run, role: str, window_ns: tuple[int, int]) -> np.ndarray:
    """What each opening or borrowing of a role took, whatever it met, ns; empty of kept ones."""
    found = opening_times(run, role, window_ns)
    each = [found[name] for name in found if name.startswith(("open", "borrow"))]
    return np.concatenate(each) if each else np.zeros(0, np.int64)


def within_attempts(rows: np.ndarray, opens: np.ndarray) -> np.ndarray:
    """How long opening or borrowing took within the BEGIN of each attempt, ns, int64, shape
    (attempts,); -1 where nothing tells it.

    opens : OPEN_ROW array in the order of time, of the same worker.
    """
    if not len(opens):
        return np.full(len(rows), -1)
    at = np.searchsorted(opens["start_ns"], rows["start_ns"])
    mine = opens[np.minimum(at, len(opens) - 1)]
    known = (at < len(opens)) & (mine["opened_ns"] <= rows["begun_ns"])
    return np.where(known, mine["opened_ns"] - mine["start_ns"], -1)


def opens_of_attempts(run: Run, worker: int) -> np.ndarray:
    """OPEN_ROW of a worker's attempts, one after the other; empty where it kept its connection."""
    if run.manifest.plan.connection == "kept":
        return np.zeros(0, OPEN_ROW)
    rows = read_opens(run.folder, worker)
    return rows[(rows["how"] & (COLD | SCHEMA)) == 0]


def latency_stages(run: Run, counted: Count, role: str) -> dict[str, np.ndarray]:
    """`Tally.latency` of a role, or of one of its modes, in the order of time. Where connections
    are not kept, opening or borrowing one is a stage of its own, and no part of `begin`.
    """
    each = counted.roles[role].latency()
    if run.manifest.plan.connection == "kept":
        return each
    first, stop = counted.window_ns
    whose = {worker.worker for worker in counted.of(role)}
    opened, begun = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for worker in (worker for worker in run.workers if worker.worker in whose):
        opens = opens_of_attempts(run, worker.worker)
        for rows in worker.rows.pieces():
            end = rows["end_ns"]
            did = rows[(rows["outcome"] == COMMITTED) & (end >= first) & (end <= stop)]
            took = within_attempts(did, opens)
            begin = did["begun_ns"] - did["start_ns"] - took
            opened.append(took[took >= 0])
            begun.append(begin[took >= 0])
    stages: dict[str, np.ndarray] = {}
    for stage, values in each.items():
        if stage == "begin":
            stages[_name(run)] = percentiles(np.concatenate(opened))
            values = percentiles(np.concatenate(begun))
        stages[stage] = values
    return stages


def _name(run: Run) -> str:
    return "open" if run.manifest.plan.connection == "per-transaction" else "borrow"


def opens_table(run: Run, role: str, window_ns: tuple[int, int]) -> Table | None:
    """What connecting cost the workers of a role; None where they kept their connections."""
    rows = []
    for name, values in opening_times(run, role, window_ns).items():
        ranks = percentiles(values).tolist()
        rows.append((name, whole(len(values)), *(at_least(ns, ns) for ns in ranks)))
    head = ("connection", "times", *PERCENTILES)
    return Table(head, rows, _note(run)) if rows else None


def connection_clause(run: Run) -> str:
    """How the workers connect, without a full stop; "" where each keeps its connection."""
    connection = run.manifest.plan.connection
    if connection == "kept":
        return ""
    if connection == "per-transaction":
        return "connection per-transaction: each attempt opens its own and closes it"
    how = "share one connection" if connection == "shared" else "borrow from a pool"
    return (
        f"connection {connection}: the workers of a role are threads of one process, with one "
        f"lock of Python's, and {how}"
    )


def _note(run: Run) -> str:
    if run.manifest.plan.cold_start:
        return (
            "open, cold: the last try of each worker, with its PRAGMAs; schema: looking for it, "
            "and creating and filling it where it was missing, in one transaction."
        )
    if run.manifest.plan.connection != "per-transaction":
        return (
            "borrow: waiting until a connection was free. It comes before begin, in service and "
            "in whole."
        )
    return (
        "open comes before begin, in service and in whole; close comes after the transaction. "
        "first: nobody else was connected; recovery: and a log lay there; last: nobody else was "
        "left, so that closing checkpoints."
    )
