"""The workers' lanes of a run's page: single attempts as far as a page holds them, and counts.

Every attempt is in the counts, a few hundred parts of the window for each worker. Single attempts
are kept whole where the run has few; of a large one, those in some windows: at its start and its
end, and where it was refused most, failed, or lasted longest. What is left out is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from analysis import wording
from analysis.charts.pages.along_time import reason_of
from workloads.files import visible
from workloads.records import ATTEMPT, CONFLICT, FAILED, OUTCOMES, UNKNOWN, Run, WorkerRecord

PARTS = 240
"""Parts of the window in which a lane's attempts are counted."""

MOST_SLICES = 12_000
"""Attempts that are kept singly: about 35 bytes each."""

MOST_LANES = 64
MOST_LETTERS = 300
"""Characters of an engine's message."""

MOST_LISTED = 20
FAR_NS = 10**15
"""Times farther from the window than this (11 days) are cut to it."""


class Window(NamedTuple):
    """A part of the run whose attempts are kept singly: why, and from when to when, ns."""

    why: str
    since: int
    until: int


class Lanes(NamedTuple):
    """What a page has of the workers' attempts.

    data : for its script. total, kept : attempts that touch the window, and those kept singly.
    left_out : sentences about what is not there. listed : rows of a table, the longest attempts.
    """

    data: dict[str, Any]
    total: int
    kept: int
    left_out: list[str]
    listed: list[tuple[str, ...]]


def lanes(run: Run) -> Lanes:
    """The lanes of a run's measured window."""
    first, stop = run.window_ns
    shown = run.workers[:MOST_LANES]
    counts = [_counts(worker, first, stop) for worker in shown]
    total = sum(int(many.sum()) for many in counts)
    windows = [Window("the whole run", first, stop)]
    longest = _longest(shown, first, stop)
    if total > MOST_SLICES:
        windows = _windows(shown, counts, longest, first, stop)
    kept = [_kept(worker, windows, first, stop) for worker in shown]
    data = {
        "window_s": (stop - first) / 1e9,
        "outcomes": list(OUTCOMES),
        "windows": [[one.why, (one.since - first) / 1e9, (one.until - first) / 1e9]
                    for one in windows],
        "whole": total <= MOST_SLICES,
        "lanes": [
            {"name": f"{worker.role} {worker.number}", "counts": _sparse(many), **_columns(
                worker, rows, first, run.manifest.scenario.kinds)}
            for worker, many, rows in zip(shown, counts, kept, strict=True)
        ],
    }  # fmt: skip
    many_kept = sum(map(len, kept))
    return Lanes(data, total, many_kept, _left_out(run, total, many_kept, windows, first),
                 [_listed(worker, row, first) for worker, row in longest])  # fmt: skip


def _inside(worker: WorkerRecord, first: int, stop: int) -> Iterator[np.ndarray]:
    """The attempts that touch the window, some at a time."""
    for rows in worker.rows.pieces():
        rows = rows[(rows["end_ns"] >= first) & (rows["start_ns"] <= stop) & (rows["start_ns"] > 0)]
        if len(rows):
            yield rows


def _counts(worker: WorkerRecord, first: int, stop: int) -> np.ndarray:
    """Attempts by outcome and by the part in which they ended: int, shape (outcomes, PARTS)."""
    found = np.zeros((len(OUTCOMES), PARTS), np.int64)
    length = max(stop - first, 1)
    for rows in _inside(worker, first, stop):
        at = np.clip((rows["end_ns"] - first) / length * PARTS, 0, PARTS - 1).astype(int)
        for outcome in range(len(OUTCOMES)):
            mine = at[rows["outcome"] == outcome]
            found[outcome] += np.bincount(mine, minlength=PARTS)
    return found


def _sparse(counts: np.ndarray) -> dict[str, list[int]]:
    return {OUTCOMES[n]: many.tolist() for n, many in enumerate(counts) if many.any()}


def _longest(
    workers: Sequence[WorkerRecord], first: int, stop: int
) -> list[tuple[WorkerRecord, np.void]]:
    """The longest attempts of all, the longest first."""
    found: list[tuple[int, int, np.void]] = []
    for n, worker in enumerate(workers):
        for rows in _inside(worker, first, stop):
            took = np.clip(rows["end_ns"] - rows["start_ns"], 0, FAR_NS)
            places = np.argsort(took, kind="stable")[::-1][:MOST_LISTED]
            found += [(int(took[at]), n, rows[at].copy()) for at in places]
        found = sorted(found, key=lambda one: -one[0])[:MOST_LISTED]
    return [(workers[n], row) for _, n, row in found]


def _windows(
    workers: Sequence[WorkerRecord],
    counts: Sequence[np.ndarray],
    longest: Sequence[tuple[WorkerRecord, np.void]],
    first: int,
    stop: int,
) -> list[Window]:
    """Windows around what is looked for, in the order of time: of each those attempts that are the
    nearest to it, and no more than its part of MOST_SLICES.
    """
    middles = {"the start": first, "the end": stop}
    together = np.sum(counts, axis=0)
    for outcome, why in ((CONFLICT, "most refusals"), (FAILED, "most failures"),
                         (UNKNOWN, "most of unknown outcome")):  # fmt: skip
        if together[outcome].any():
            part = int(np.argmax(together[outcome]))
            middles[why] = _first_of(workers, outcome, part, first, stop)
    if longest:
        middles["the longest attempt"] = int(longest[0][1]["end_ns"])
    each, found = MOST_SLICES // len(middles), []
    for why, middle in middles.items():
        middle = min(max(middle, first), stop)  # an attempt may end after the window
        reach = _reach(workers, middle, each, first, stop)
        found.append(Window(why, max(middle - reach, first), min(middle + reach, stop)))
    whys: dict[tuple[int, int], list[str]] = {}
    for one in found:
        whys.setdefault((one.since, one.until), []).append(one.why)
    return [Window(", ".join(whys[span]), *span) for span in sorted(whys)]


def _first_of(
    workers: Sequence[WorkerRecord], outcome: int, part: int, first: int, stop: int
) -> int:
    """When the first attempt of this outcome ended, of those in this part of the run, ns."""
    since, until = (first + int((stop - first) * at / PARTS) for at in (part, part + 1))
    ends = [
        rows["end_ns"][rows["outcome"] == outcome]
        for worker in workers
        for rows in _inside(worker, since, stop)
    ]
    there = np.concatenate(ends) if ends else np.zeros(0, np.int64)
    there = there[there >= since]
    return int(there.min()) if len(there) else (since + until) // 2


def _reach(workers: Sequence[WorkerRecord], middle: int, most: int, first: int, stop: int) -> int:
    """How far around a moment no more than `most` attempts are, ns."""
    near = np.zeros(0, np.int64)
    for worker in workers:
        for rows in _inside(worker, first, stop):
            far = np.maximum(rows["start_ns"] - middle, middle - rows["end_ns"])
            near = np.concatenate([near, np.maximum(far, 0)])
            if len(near) > most + 1:
                near = np.partition(near, most)[: most + 1]
    return max(int(near.max()) - 1, 0) if len(near) > most else stop - first


def _touches(rows: np.ndarray, window: Window) -> np.ndarray:
    found: np.ndarray = (rows["start_ns"] <= window.until) & (rows["end_ns"] >= window.since)
    return found


def _kept(worker: WorkerRecord, windows: Sequence[Window], first: int, stop: int) -> np.ndarray:
    """A worker's attempts that touch a window, in order of their starts."""
    parts = [
        rows[np.any([_touches(rows, window) for window in windows], axis=0)]
        for rows in _inside(worker, first, stop)
    ]
    rows = np.concatenate(parts) if parts else np.zeros(0, ATTEMPT)
    found: np.ndarray = rows[np.argsort(rows["start_ns"], kind="stable")][:MOST_SLICES]
    return found


def _columns(
    worker: WorkerRecord, rows: np.ndarray, first: int, kinds: Sequence[str]
) -> dict[str, Any]:
    """The kept attempts as columns: starts as differences, what BEGIN, work and COMMIT took, ns."""
    starts = np.clip(rows["start_ns"] - first, -FAR_NS, FAR_NS)
    stamps = (rows[name] for name in ("begun_ns", "worked_ns"))
    middle = [np.where(stamp > 0, stamp, rows["end_ns"]) for stamp in stamps]
    edges = [rows["start_ns"], *middle, rows["end_ns"]]
    took = [np.clip(until - since, 0, FAR_NS) for since, until in pairwise(edges)]
    words = list(dict.fromkeys(
        reason_of(int(o), int(c), int(p))
        for o, c, p in zip(rows["outcome"], rows["conflict"], rows["phase"], strict=True)
    ))  # fmt: skip
    place = {word: n for n, word in enumerate(words)}
    said = {int(n) for n in np.unique(rows["message"])}
    messages = {
        n: visible(worker.messages[n - 1])[:MOST_LETTERS]
        for n in sorted(said)
        if 0 < n <= len(worker.messages)
    }
    return {
        "role": worker.role,
        "first": int(starts[0]) if len(starts) else 0,
        "start": np.diff(starts, prepend=starts[:1]).tolist(),
        "begin": took[0].tolist(),
        "work": took[1].tolist(),
        "commit": took[2].tolist(),
        "outcome": rows["outcome"].tolist(),
        "why": [place[reason_of(int(o), int(c), int(p))] for o, c, p in
                zip(rows["outcome"], rows["conflict"], rows["phase"], strict=True)],
        "whys": words,
        "txn": rows["txn"].tolist(),
        "attempt": rows["attempt"].tolist(),
        "kind": rows["kind"].tolist() if len(kinds) > 1 else [],
        "kinds": list(kinds) if len(kinds) > 1 else [],
        "message": rows["message"].tolist() if messages else [],
        "messages": messages,
    }  # fmt: skip


def _listed(worker: WorkerRecord, row: np.void, first: int) -> tuple[str, ...]:
    start, end = int(row["start_ns"]), int(row["end_ns"])
    begun, worked = (int(row[name]) or end for name in ("begun_ns", "worked_ns"))
    spans = (begun - start, worked - begun, end - worked, end - start)
    return (
        f"{worker.role} {worker.number}",
        f"{int(row['txn']):,}",
        str(int(row["attempt"])),
        f"{(start - first) / 1e9:.6f}",
        *(wording.duration(float(max(one, 0))) for one in spans),
        reason_of(int(row["outcome"]), int(row["conflict"]), int(row["phase"])),
    )


def _left_out(run: Run, total: int, kept: int, windows: Sequence[Window], first: int) -> list[str]:
    """What the lanes do not have, as sentences."""
    found = []
    if total > MOST_SLICES:
        where = "; ".join(
            f"{one.why} ({(one.since - first) / 1e9:.4f} s to {(one.until - first) / 1e9:.4f} s)"
            for one in windows
        )
        found.append(
            f"Of {total:,} attempts {kept:,} are kept singly, all that touch these windows: "
            f"{where}. The others are in the counts alone; `cwkit export --format trace` has more "
            "of them."
        )
    if len(run.workers) > MOST_LANES:
        found.append(f"The lanes are of the first {MOST_LANES} of {len(run.workers):,} workers.")
    return found
