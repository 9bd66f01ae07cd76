"""The monitor follows a run while it goes on: it counts attempts and decides when the run ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from workloads import records as rec
from workloads.engines import Server
from workloads.processes import POLL_S, ChildProcess
from workloads.runs import control as control_block
from workloads.runs import machine
from workloads.runs.control import ControlBlock
from workloads.runs.plan import Plan
from workloads.runs.wal import WalWatch
from workloads.runs.worker_process import OnProgress, Progress, per_s

SERVER_ENDED = "its server ended"
"""How a run ended without whose server nothing could go on; how that ended follows."""

ALL_KILLED = "killed by faults"
"""How a run ended of which a fault killed every worker, as was asked."""

LAST_NS = 10_000_000
"""Before the end of the window: when the log is looked at once more."""


@dataclass
class Tail:
    """Reads a worker's rows as they are closed, each once."""

    folder: Path
    worker: int
    segment: int = 0
    at: int = 0
    rows: Any = None
    counts: np.ndarray = field(default_factory=lambda: np.zeros(len(rec.OUTCOMES), np.int64))
    last_start_ns: int = 0
    last_end_ns: int = 0

    def read(self) -> bool:
        """Count rows closed since the last call. True where there were any."""
        moved = False
        while True:
            if self.rows is None:
                path = rec.segment_path(self.folder, self.worker, self.segment)
                try:
                    self.rows = np.load(path, mmap_mode="r")
                except (OSError, ValueError, EOFError):
                    return moved  # not there yet, or its header is just being written
            new = self.rows["outcome"][self.at :]
            closed = int(np.argmin(new != rec.OPEN)) if not np.all(new) else len(new)
            if closed:
                moved = True
                self.last_end_ns = int(self.rows["end_ns"][self.at + closed - 1])
                self.counts += np.bincount(new[:closed], minlength=len(rec.OUTCOMES))
                self.at += closed
            if self.at < len(self.rows):
                self.last_start_ns = int(self.rows["start_ns"][self.at])
                return moved
            self.segment, self.at, self.rows = self.segment + 1, 0, None


@dataclass
class Follower:
    """Watches one run. Afterwards `ended` is the reason why it is over, `hung` the workers that do
    not answer.

    places : (role, number) of each worker. patience_s : how long an attempt may be open before its
    worker counts as hung. cpus, conductor : as for `machine.CpuMeter`, which makes `foreign`.
    beside : ids of processes that are the run's own beside its children: the network's.
    server : of the database, None where it has none. The run ends with it.
    killed : the workers that a fault has ended, as was asked: the others go on.
    pressure : by `machine.PressureMeter`. wal : a `WalWatch`. Both are for the measured window.
    """

    plan: Plan
    folder: Path
    database: Path
    places: Sequence[tuple[str, int]]
    control: ControlBlock
    children: list[ChildProcess]
    patience_s: float
    on_progress: OnProgress
    cpus: tuple[int, ...] = ()
    conductor: int = 0
    beside: Sequence[int] = ()
    server: Server | None = None
    killed: Callable[[], set[int]] = set
    ended: str = "duration"
    hung: list[int] = field(default_factory=list)
    foreign: dict[str, float] = field(default_factory=dict)
    pressure: dict[str, dict[str, float]] | None = None

    def __post_init__(self) -> None:
        self.wal = WalWatch(Path(f"{self.database}-wal"))

    def follow(self, start: int, measure: int, stop: int) -> tuple[int, int, int]:
        tails = [Tail(self.folder, worker) for worker in range(len(self.places))]
        patience_ns = int(self.patience_s * 1e9)
        meter: machine.CpuMeter | None = None
        stalls: machine.PressureMeter | None = None
        before, before_ns, shown_ns = 0, start, 0
        while True:
            now = time.monotonic_ns()
            if meter is None and now >= measure:
                pids = [*(child.process.pid for child in self.children), *self.beside]
                meter = machine.CpuMeter(pids, self.cpus, self.conductor, self._of_server())
                stalls = machine.PressureMeter()
                self.wal.begin()
            for tail in tails:
                tail.read()
            self.wal.look(now)
            if now - shown_ns >= POLL_S * 0.9e9:
                shown_ns = now
                committed, conflicts, failed = self._sums(tails)
                # Not `now`: the rows were read later, and hold what was committed meanwhile.
                read_ns = time.monotonic_ns()
                self.on_progress(
                    Progress(
                        "warm-up" if now < measure else "measuring",
                        max(now - start, 0) / 1e9,
                        max(stop - now, 0) / 1e9,
                        committed,
                        conflicts,
                        failed,
                        per_s(committed - before, (read_ns - before_ns) / 1e9),
                        sum(
                            child.process.poll() is None for child in self.children if child.workers
                        ),
                        len(self.places),
                    )
                )
                before, before_ns = committed, max(read_ns, start)
            if self._over(tails, now, patience_ns) or now >= stop:
                break
            rec.keep_last_seen(self.folder, now)
            # A last look at the log before the workers close it, which removes it.
            edge = measure if meter is None else stop - LAST_NS if now < stop - LAST_NS else stop
            self._sleep(min(now + int(POLL_S * 1e9), edge))
        end = min(max(time.monotonic_ns(), measure), stop)
        if self.ended == "transactions":
            # The last commit ends it, not the moment at which somebody looked.
            for tail in tails:
                tail.read()
            working = [t for t in tails if self.places[t.worker][0] != "checkpointer"]
            end = min(max(max(tail.last_end_ns for tail in working) + 1, measure), stop)
        self.wal.look(time.monotonic_ns())
        if stalls is not None:
            self.pressure = stalls.read()
        if meter is not None:
            for child in self.children:
                child.process.poll()  # whoever has ended is reaped, and so accounted for
            self.foreign = meter.read(self._of_server())
        return start, measure, end

    def _of_server(self) -> list[int]:
        return self.server.pids() if self.server is not None else []

    def _sleep(self, until_ns: int) -> None:
        """Look at the log meanwhile: a checkpoint may last some ms, and come back within 100."""
        while (left := until_ns - time.monotonic_ns()) > 0:
            time.sleep(min(left, self.wal.every_ns) / 1e9)
            if left > self.wal.every_ns:
                self.wal.look(time.monotonic_ns())

    def _sums(self, tails: list[Tail]) -> tuple[int, int, int]:
        counts = sum(
            (tail.counts for tail in tails if self.places[tail.worker][0] != "checkpointer"),
            np.zeros(len(rec.OUTCOMES), np.int64),
        )
        return int(counts[rec.COMMITTED]), int(counts[rec.CONFLICT]), int(counts[rec.FAILED])

    def _over(self, tails: list[Tail], now: int, patience_ns: int) -> bool:
        """Whether the run must end before its time, and why."""
        statuses = [self.control.status(worker) for worker in range(len(self.places))]
        if self.server is not None and (why := self.server.ended()):
            self.ended = f"{SERVER_ENDED}: {why}"
        elif control_block.BROKEN in statuses:
            self.ended = "invariant broken"
        elif control_block.NOT_RECORDED in statuses:
            self.ended = "disk full"
        elif (gone := dead(self.children, self.control)) and not (
            {worker for child in gone for worker in child.workers} <= self.killed()
        ):
            self.ended = "worker died"
        elif hung := [
            t.worker
            for t in tails
            if hangs(t, statuses, now, patience_ns) and t.worker not in self.killed()
        ]:
            self.ended, self.hung = "worker hung", hung
        elif any(
            status in (control_block.NOT_OPENED, control_block.DIED) and worker not in self.killed()
            for worker, status in enumerate(statuses)
        ):
            self.ended = "worker died"
        elif control_block.MISTAKEN in statuses:
            self.ended = "scenario failed"
        elif self._all_done(statuses, killed := self.killed()):
            # Asked again: they may just have come to the end of the time that `now` was not yet.
            early = time.monotonic_ns() < self.control.numbers[control_block.STOP_NS]
            if early:
                self.ended = "transactions" if self.plan.transactions else "workers gave up"
            if killed and not self._all_done(statuses, set()):
                self.ended = "transactions" if self._any_done(statuses) else ALL_KILLED
        else:
            return False
        return True

    def _all_done(self, statuses: list[int], gone: set[int]) -> bool:
        """Every reader and writer has finished or is gone; checkpointers go on until they are
        stopped.
        """
        return all(
            status == control_block.FINISHED or worker in gone
            for worker, (status, (role, _)) in enumerate(zip(statuses, self.places, strict=True))
            if role != "checkpointer"
        )

    def _any_done(self, statuses: list[int]) -> bool:
        return any(
            status == control_block.FINISHED
            for status, (role, _) in zip(statuses, self.places, strict=True)
            if role != "checkpointer"
        )


def dead(children: list[ChildProcess], control: ControlBlock) -> list[ChildProcess]:
    """Processes that ended although their workers have not."""
    return [
        child
        for child in children
        if child.workers
        and child.process.poll() is not None
        and any(control.status(w) <= control_block.RUNNING for w in child.workers)
    ]


def hangs(tail: Tail, statuses: list[int], now: int, patience_ns: int) -> bool:
    """An attempt that has been open for longer than any lock could be waited for.

    A worker between two attempts (an open loop that waits for its next arrival) is not hung.
    """
    return (
        statuses[tail.worker] == control_block.RUNNING
        and tail.last_start_ns != 0
        and now - tail.last_start_ns > patience_ns
    )
