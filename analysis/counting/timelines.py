"""A run along its own clock: commits a second, the write-ahead log, and the checkpoints of it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from workloads.records import COMMITTED, Run, read_wal_track


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
    (wal_autocheckpoint) are in `wal_track`: no row tells of them.
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


class WalTrack(NamedTuple):
    """A run's write-ahead log along its measured window; arrays of one length, one place a look.

    seconds : from the window's start. bytes : size of the log's file. checkpoints : how many were
    seen to end since the look before, whoever made them: a checkpointer, or a commit on its own.
    It is what was seen: of several between two looks that copied parts of one log, one is counted.
    frames, copied : pages that the log held, and those of them copied back; -1 where not known.
    """

    seconds: np.ndarray
    bytes: np.ndarray
    checkpoints: np.ndarray
    frames: np.ndarray
    copied: np.ndarray


def wal_track(run: Run) -> WalTrack:
    """The log's size over time, and its checkpoints; empty arrays where it was not recorded.

    A checkpoint is seen where more pages were copied back than at the look before, and where the
    log began again: then it had been copied whole. Raises RunError where the file is none of ours.
    """
    looks = read_wal_track(run.folder)
    restarts, copied = np.diff(looks["restarts"]), looks["copied"].astype(np.int64)
    whole = (copied == looks["frames"]) & (copied > 0)
    known = (copied[1:] >= 0) & (copied[:-1] >= 0) if len(looks) else np.zeros(0, bool)
    on = np.where(known & (copied[1:] > copied[:-1]), 1, 0)
    # What was copied whole at the look before needed no other checkpoint to begin again.
    began = np.maximum(restarts - whole[:-1], 0) + (known & (copied[1:] > 0))
    seen = np.append(np.zeros(min(len(looks), 1), int), np.where(restarts > 0, began, on))
    first, stop = run.window_ns
    inside = (looks["at_ns"] >= first) & (looks["at_ns"] <= stop)
    return WalTrack(
        (looks["at_ns"][inside] - first) / 1e9,
        looks["bytes"][inside].astype(np.int64),
        seen[inside].astype(np.int64),
        looks["frames"][inside].astype(np.int64),
        copied[inside],
    )
