"""How large a run's write-ahead log grew, how often it began again, and what the rows say of why.

A checkpoint copies the log back as far as the oldest transaction that still reads from it. Only
when it is copied whole and nobody reads from it can the next writer begin it again; until then it
grows. A reason is given only where the rows show it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from analysis import wording
from workloads.records import Run, WorkerRecord

FRAME_BYTES, HEADER_BYTES = 24, 32
"""Bytes of the log's file beside its pages: before each page, and at its beginning."""

DEFAULT_PAGES = 1000
"""SQLite's own wal_autocheckpoint: the measure for runs that turned it off."""

OUTGROWN = 10
"""Times its autocheckpoint: a log that grew so far is printed with the reason."""

NEARLY_ALWAYS = 0.99


class Wal(NamedTuple):
    """The log of one run.

    bytes_max   : its greatest size. limit_bytes : its size at the autocheckpoint (DEFAULT_PAGES
        where that is off, which `off` says).
    restarts    : how often it began again in the window planned; None where it was not recorded.
        exact : False where it may be more often.
    why         : why it outgrew its autocheckpoint tenfold, or that this is not known; "" where it
        did not.
    """

    bytes_max: int
    limit_bytes: int
    off: bool
    restarts: int | None
    exact: bool
    why: str = ""

    @property
    def times(self) -> float:
        """Its size in autocheckpoints."""
        return self.bytes_max / self.limit_bytes

    def sentence(self) -> str:
        """All of it, without a full stop."""
        limit = f"its autocheckpoint ({mebibytes(self.limit_bytes)})"
        if self.off:
            limit = f"SQLite's usual autocheckpoint ({mebibytes(self.limit_bytes)}; here it is off)"
        text = f"grew to {mebibytes(self.bytes_max)}, {wording.number(self.times)} times {limit}"
        if self.restarts is None:
            return f"{text}; how often it began again was not recorded"
        text += f", and began again {'at least ' if not self.exact else ''}"
        text += wording.times(self.restarts, "time")
        return f"{text}: {self.why}" if self.why else text


def mebibytes(size: float) -> str:
    """A size of a file.

    >>> mebibytes(4_124_152)
    '3.93 MiB'
    """
    return f"{wording.number(size / 2**20)} MiB"


def wal_of(run: Run, window_ns: tuple[int, int]) -> Wal | None:
    """The log of a run; None where its connections read back another journal mode than WAL.

    A log of SQLite's format may lie there all the same: Turso loads its rows through one.
    """
    plan, recorded = run.manifest.plan, run.manifest.wal
    size = recorded.bytes_max if recorded else run.manifest.wal_bytes_max
    modes = {str(worker.entry.pragmas.get("journal_mode", "")) for worker in run.workers} - {""}
    if not size or (modes and "wal" not in modes):
        return None
    pages = plan.wal_autocheckpoint
    page = plan.page_bytes + FRAME_BYTES
    limit = (pages or DEFAULT_PAGES) * page + HEADER_BYTES
    found = Wal(
        size,
        limit,
        not pages,
        recorded.restarts if recorded else None,
        recorded.exact if recorded else False,
    )
    return found._replace(why=why(run, window_ns)) if found.times >= OUTGROWN else found


def why(run: Run, window_ns: tuple[int, int]) -> str:
    """Why the log could not begin again, as far as the rows of a run show it."""
    readers, both = run.role("reader"), (*run.role("reader"), *run.role("writer"))
    if not run.manifest.plan.wal_autocheckpoint and not run.role("checkpointer"):
        return "nothing checkpointed it: its autocheckpoint is off and there was no checkpointer"
    seconds = max(window_ns[1] - window_ns[0], 1)
    free = unread_ns(readers, window_ns)
    open_share = 1 - free.sum() / seconds
    if readers and not free.size:
        return (
            "a reader was always open, and while anybody reads from the log it cannot begin again"
        )
    if readers and open_share >= NEARLY_ALWAYS:
        return (
            f"readers were open for {wording.percent(open_share)} of the window, and between them "
            f"were {wording.times(free.size, 'moment')} of at most "
            f"{wording.duration(float(free.max()))}: only in one of those can it begin again"
        )
    any_free = unread_ns(both, window_ns)
    if not any_free.size:
        return (
            "some transaction was always open, writers' among them, and while anybody reads from "
            "the log it cannot begin again"
        )
    of_readers = "there were no readers in the window"
    if readers:
        of_readers = f"readers were open for {wording.percent(open_share)} of the window"
    anybody = wording.percent(1 - any_free.sum() / seconds)
    return f"why is not known; {of_readers}, and some transaction was open for {anybody} of it"


def unread_ns(workers: Sequence[WorkerRecord], window_ns: tuple[int, int]) -> np.ndarray:
    """The lengths of the moments of a window in which none of these workers had a transaction open
    (after its BEGIN had returned), int64 array, in order of time.
    """
    first, stop = window_ns
    rows = [w.attempts[w.attempts["begun_ns"] > 0] for w in workers]
    begun = np.concatenate([np.zeros(0, np.int64), *(part["begun_ns"] for part in rows)])
    ended = [np.where(part["end_ns"] == 0, stop, part["end_ns"]) for part in rows]
    end = np.concatenate([np.zeros(0, np.int64), *ended])
    order = np.argsort(begun, kind="stable")
    begun, end = np.clip(begun[order], first, stop), np.clip(end[order], first, stop)
    # Nobody is open from the latest end so far to the next beginning.
    free_from = np.maximum.accumulate(np.append(first, end))
    free = np.append(begun, stop) - free_from
    return free[free > 0]


__all__ = ["OUTGROWN", "Wal", "mebibytes", "unread_ns", "wal_of", "why"]
