"""A run along its own clock: commits a second, and the checkpoints that interrupt them."""

from __future__ import annotations

import numpy as np

from workloads.records import COMMITTED, Run


def timeline(run: Run, role: str = "writer", bins: int = 50) -> tuple[np.ndarray, np.ndarray]:
    """Committed transactions a second over the measured window.

    Returns (edges_s, per_s), shapes (bins + 1,) and (bins,); seconds from the window's start.
    """
    first, stop = run.window_ns
    edges = np.linspace(first, stop, bins + 1)
    commits = np.zeros(bins)
    for worker in run.role(role):
        for rows in worker.rows.pieces():
            ends = rows["end_ns"][(rows["outcome"] == COMMITTED) & (rows["end_ns"] <= stop)]
            commits += np.histogram(ends, edges)[0]
    width_s = (stop - first) / bins / 1e9
    return (edges - first) / 1e9, commits / width_s if width_s > 0 else commits * np.nan


def checkpoints(run: Run) -> np.ndarray:
    """Every checkpoint of the run's checkpointers in the measured window, in order of time.

    Returns a structured array, shape (checkpoints,): start_s from the window's start, took_s,
    frames (as the engine reported), outcome (number). Checkpoints that a commit made on its own
    (wal_autocheckpoint) are not here: no row tells of them.
    """
    first, stop = run.window_ns
    kind = np.dtype([("start_s", "f8"), ("took_s", "f8"), ("frames", "i8"), ("outcome", "u1")])
    parts = [np.zeros(0, kind)]
    for worker in run.role("checkpointer"):
        for rows in worker.rows.pieces():
            rows = rows[(rows["end_ns"] >= first) & (rows["end_ns"] <= stop)]
            part = np.zeros(len(rows), kind)
            part["start_s"] = (rows["start_ns"] - first) / 1e9
            part["took_s"] = (rows["end_ns"] - rows["start_ns"]) / 1e9
            part["frames"], part["outcome"] = rows["result"], rows["outcome"]
            parts.append(part)
    return np.sort(np.concatenate(parts), order="start_s")
