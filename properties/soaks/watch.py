"""The workers of a round, watched from outside: memory, open descriptors, and who is to be killed.

What grows in proportion to commits, and past what a cache may hold, will use up a machine that is
left alone for a week. Two things grow and are no leak: a page cache that fills, and the attempts'
own files, which are mapped and so not anonymous memory.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from workloads.engines import find_engine
from workloads.processes import POLL_S
from workloads.records import MANIFEST
from workloads.runs import Plan, Progress

LEAST_SAMPLES, LEAST_COMMITS, PIECES = 9, 40, 4
MEMORY_FLOOR, DESCRIPTORS_FLOOR = 8 << 20, 12
"""What a sound process may gain over the last two thirds of a round, beside its caches."""

VERSIONS_FLOOR = 128 << 20
"""The same of an engine that has another format than SQLite's: Turso keeps the versions of its rows
in memory until it checkpoints. It grew by 6 KB a commit, and no more from 90 to 100 MB on."""

EVEN = 0.1
"""Each piece of a steady growth has at least this share of all. A cache that is full adds nothing;
a process that waits for its lock adds little, so that no more is asked for."""


@dataclass(slots=True)
class Worker:
    """One process. samples : (commits of the whole run, anonymous bytes, open descriptors)."""

    pid: int
    carries: int
    handle: int
    rss_bytes: int = 0
    samples: list[tuple[int, int, int]] = field(default_factory=list)


class Watch:
    """folder : the run's, which need not be there yet. kill : (share of the window, whether all its
    processes are killed, which one otherwise); None: nobody.
    """

    def __init__(
        self, folder: Path, plan: Plan, kill: tuple[float, bool, int] | None = None
    ) -> None:
        self.folder, self.plan, self.kill = folder, plan, kill
        self.killed: set[int] = set()
        self.workers: dict[int, Worker] = {}

    def __call__(self, progress: Progress) -> None:
        if progress.phase != "measuring":
            return
        if not self.workers:
            self._find()
        for worker in self.workers.values():
            _look(worker, progress.committed)
        whole_s = progress.elapsed_s + progress.left_s
        last = progress.left_s < 2 * POLL_S  # the next look may come too late
        if self.kill and not self.killed and (last or progress.elapsed_s >= self.kill[0] * whole_s):
            self._kill(*self.kill[1:])

    def close(self) -> None:
        """Give the handles back."""
        for worker in self.workers.values():
            os.close(worker.handle)
            worker.handle = -1

    def _find(self) -> None:
        """The processes, by the manifest. One that has ended is not looked at."""
        try:
            told = json.loads((self.folder / MANIFEST).read_text(encoding="utf-8"))
            pids = [int(entry["pid"]) for entry in told["workers"]]
        except (OSError, ValueError, KeyError, TypeError):
            return
        for pid in dict.fromkeys(pid for pid in pids if pid > 1):
            with contextlib.suppress(OSError):
                self.workers[pid] = Worker(pid, pids.count(pid), os.pidfd_open(pid))

    def _kill(self, everybody: bool, which: int) -> None:
        alive = [worker for worker in self.workers.values() if worker.handle >= 0]
        for worker in alive if everybody else alive[which % len(alive) :][:1] if alive else ():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(worker.handle, signal.SIGKILL)
                self.killed.add(worker.pid)

    # -- what it saw ---------------------------------------------------------------------------

    @property
    def rss_bytes(self) -> int:
        """The most that a process had."""
        return max((worker.rss_bytes for worker in self.workers.values()), default=0)

    @property
    def descriptors(self) -> int:
        """The most that a process had open."""
        return max((s[2] for worker in self.workers.values() for s in worker.samples), default=0)

    def memory_per_commit(self) -> float:
        """Bytes a commit by which a process grew steadily, 0 where none did."""
        return max((self._memory(worker) for worker in self.workers.values()), default=0.0)

    def _memory(self, worker: Worker) -> float:
        plan = self.plan
        cache = (
            -plan.cache_size * 1024 if plan.cache_size < 0 else plan.cache_size * plan.page_bytes
        )
        sqlite = find_engine(plan.database).file_format == "sqlite"
        floor = (MEMORY_FLOOR if sqlite else VERSIONS_FLOOR) + worker.carries * (
            cache + plan.mmap_bytes
        )
        return growth([(commits, anonymous) for commits, anonymous, _ in worker.samples], floor)

    def descriptors_per_commit(self) -> float:
        """Descriptors a commit by which a process grew steadily, 0 where none did."""
        each = (
            growth([(commits, many) for commits, _, many in worker.samples], DESCRIPTORS_FLOOR)
            for worker in self.workers.values()
        )
        return max(each, default=0.0)


def growth(samples: Sequence[tuple[int, int]], floor: int) -> float:
    """How much a commit something grew, over the last two thirds of the commits; 0 where it grew by
    no more than `floor`, or not steadily.

    samples : (commits so far, how much there was), in order.

    >>> growth([(n * 10, n * 1000) for n in range(30)], 1000)
    100.0
    """
    if not samples:
        return 0.0
    last = samples[-1][0]
    rest = [one for one in samples if one[0] >= last / 3]
    commits, rise = last - rest[0][0], rest[-1][1] - rest[0][1]
    if len(rest) < LEAST_SAMPLES or commits < LEAST_COMMITS or rise <= floor:
        return 0.0
    at = [rest[round(piece * (len(rest) - 1) / PIECES)] for piece in range(PIECES + 1)]
    for (_, less), (_, more) in itertools.pairwise(at):
        if more - less < EVEN * rise:
            return 0.0
    return rise / commits


def _look(worker: Worker, commits: int) -> None:
    try:
        status = Path(f"/proc/{worker.pid}/status").read_text(encoding="utf-8", errors="replace")
        descriptors = len(os.listdir(f"/proc/{worker.pid}/fd"))
    except OSError:
        return  # it has ended
    told = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    if "RssAnon" in told:
        worker.rss_bytes = max(worker.rss_bytes, _bytes(told["VmRSS"]))
        worker.samples.append((commits, _bytes(told["RssAnon"]), descriptors))


def _bytes(text: str) -> int:
    return int(text.split()[0]) * 1024
