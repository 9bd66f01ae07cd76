"""Opening, recovery and closing of connections, or waiting to borrow one, told apart."""

from __future__ import annotations

import numpy as np

from analysis.statistics import PERCENTILES, percentiles
from analysis.wording import Table, at_least, whole
from workloads.records import BORROWED, COLD, FIRST, LAST, RECOVERY, SCHEMA, Run, read_opens

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
    each = [] if kept else [read_opens(run.folder, worker.worker) for worker in run.role(role)]
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
        return "borrow: waiting until a connection was free. It is part of begin."
    return (
        "open is part of begin, close comes after the transaction. first: nobody else was "
        "connected; recovery: and a log lay there; last: nobody else was left, so that closing "
        "checkpoints."
    )
