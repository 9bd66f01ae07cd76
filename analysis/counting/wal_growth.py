"""How large a run's write-ahead log grew, how often it began again, and what the rows say of why.

A checkpoint copies the log back as far as the oldest transaction that still reads from it. Only
when it is copied whole and nobody reads from it can the next writer begin it again; until then it
grows. A reason is given only where the rows show it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

from analysis import wording
from analysis.counting.committed import merged, piece_rows
from workloads.errors import RunError
from workloads.records import PIECE_ROWS, Run, WorkerRecord, read_wal_track

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
    held        : how long readers kept their snapshots, where they were to; else "".
    """

    bytes_max: int
    limit_bytes: int
    off: bool
    restarts: int | None
    exact: bool
    why: str = ""
    held: str = ""

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
        held = f"; {self.held}" if self.held else ""
        if self.restarts is None:
            return f"{text}; how often it began again was not recorded{held}"
        text += f", and began again {'at least ' if not self.exact else ''}"
        text += wording.times(self.restarts, "time")
        return f"{text}: {self.why}{held}" if self.why else f"{text}{held}"


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
    found = found._replace(held=held(run, window_ns))
    return found._replace(why=why(run, window_ns)) if found.times >= OUTGROWN else found


def held(run: Run, window_ns: tuple[int, int]) -> str:
    """How old the snapshots became that readers were to keep; "" where they were not.

    Those of the window are told, also one that is still open when it ends: a transaction that
    lasts for longer than the window is no attempt that ended in it.
    """
    asked_s, readers = run.manifest.plan.reader_holds_s, run.role("reader")
    if not asked_s or not readers:
        return ""
    first, stop = window_ns
    spans = [(b, e) for one in readers for b, e in _spans(one, stop, PIECE_ROWS)]
    asked = f"readers were to keep a snapshot for {wording.duration(asked_s * 1e9)}"
    begun, end = (np.concatenate([span[at] for span in spans] or [np.zeros(0)]) for at in (0, 1))
    inside = (end > first) & (begun < stop)
    if not inside.any():
        return f"{asked}, and had none in the window"
    ages = np.minimum(end[inside], stop) - begun[inside]
    age = f"{wording.duration(float(np.median(ages)))} in the median"
    return (
        f"{asked} and read in it again and again: {wording.times(int(inside.sum()), 'snapshot')} "
        f"in the window, kept for {age}{_not_copied(run, window_ns)}"
    )


def _not_copied(run: Run, window_ns: tuple[int, int]) -> str:
    """How much of the log checkpoints had left, as a clause; "" where nobody looked."""
    try:
        track = read_wal_track(run.folder)
    except RunError:
        return ""
    inside = (track["at_ns"] >= window_ns[0]) & (track["at_ns"] <= window_ns[1])
    left = (track["frames"] - track["copied"])[inside & (track["frames"] >= 0)]
    if not len(left):
        return ""
    return f", and at most {wording.times(int(left.max()), 'page')} of the log were not copied back"


def why(run: Run, window_ns: tuple[int, int]) -> str:
    """Why the log could not begin again, as far as the rows of a run show it."""
    readers, both = run.role("reader"), (*run.role("reader"), *run.role("writer"))
    if not run.manifest.plan.wal_autocheckpoint and not run.role("checkpointer"):
        return "nothing checkpointed it: its autocheckpoint is off and there was no checkpointer"
    seconds = max(window_ns[1] - window_ns[0], 1)
    free = unread(readers, window_ns)
    open_share = 1 - free.total_ns / seconds
    if readers and not free.size:
        return (
            "a reader was always open, and while anybody reads from the log it cannot begin again"
        )
    if readers and open_share >= NEARLY_ALWAYS:
        return (
            f"readers were open for {wording.percent(open_share)} of the window, and between them "
            f"were {wording.times(free.size, 'moment')} of at most "
            f"{wording.duration(float(free.most_ns))}: only in one of those can it begin again"
        )
    any_free = unread(both, window_ns)
    if not any_free.size:
        return (
            "some transaction was always open, writers' among them, and while anybody reads from "
            "the log it cannot begin again"
        )
    of_readers = "there were no readers in the window"
    if readers:
        of_readers = f"readers were open for {wording.percent(open_share)} of the window"
    anybody = wording.percent(1 - any_free.total_ns / seconds)
    return f"why is not known; {of_readers}, and some transaction was open for {anybody} of it"


class Unread(NamedTuple):
    """The moments of a window in which some workers had no transaction open.

    size : how many there were. total_ns : all of them together. most_ns : the longest.
    """

    size: int
    total_ns: int
    most_ns: int


def unread(workers: Sequence[WorkerRecord], window_ns: tuple[int, int]) -> Unread:
    """The moments in which none of these workers had a transaction open (after its BEGIN had
    returned).
    """
    first, stop = window_ns
    size = total = longest = 0
    upto = first  # the latest end so far: nobody is open from there to the next beginning
    end_of_window = (np.array([stop]), np.array([stop]))
    for begun, end in chain(_opened(workers, stop), [end_of_window]):
        begun, end = np.clip(begun, first, stop), np.clip(end, first, stop)
        free_from = np.maximum.accumulate(np.append(upto, end))
        free = begun - free_from[:-1]
        free = free[free > 0]
        if len(free):
            size, total = size + len(free), total + int(free.sum())
            longest = max(longest, int(free.max()))
        upto = int(free_from[-1])
    return Unread(size, total, longest)


def _opened(workers: Sequence[WorkerRecord], stop: int) -> Iterator[tuple[np.ndarray, ...]]:
    """(when BEGIN had returned, the end) of the attempts of some workers, in the order of the
    first, some at a time.
    """
    most = piece_rows(len(workers))
    if all(_in_order(worker) for worker in workers):
        yield from merged([_spans(worker, stop, most) for worker in workers])
        return
    for_all = [each for worker in workers for each in _spans(worker, stop, most)]
    begun, end = (np.concatenate(column) for column in zip(*for_all, strict=True))
    order = np.argsort(begun, kind="stable")  # no clock of ours made these
    yield begun[order], end[order]


def _in_order(worker: WorkerRecord) -> bool:
    before = 0
    for begun, _ in _spans(worker, 0, PIECE_ROWS):
        if len(begun):
            if begun[0] < before or (begun[1:] < begun[:-1]).any():
                return False
            before = int(begun[-1])
    return True


def _spans(worker: WorkerRecord, stop: int, most: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    reads = worker.role == "reader"
    for rows in worker.rows.pieces(most):
        begun = rows["begun_ns"]
        if reads:
            # A row is closed with the time of its BEGIN: of one that never was, where a reader was
            # cut off within its snapshot, it is not there. A reader's BEGIN waits for nobody.
            begun = np.where((begun == 0) & (rows["end_ns"] == 0), rows["start_ns"], begun)
        open_ = begun > 0
        yield begun[open_], np.where(rows["end_ns"][open_] == 0, stop, rows["end_ns"][open_])


__all__ = ["OUTGROWN", "Wal", "mebibytes", "unread", "wal_of", "why"]
