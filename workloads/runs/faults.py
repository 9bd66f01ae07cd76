"""The library before libc in the workers of a run: its orders, its log, and what became of them.

Only the workers have it. Loading and checking are neither logged nor disturbed, and a run without a
fault that is not recorded does not load it at all.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workloads.processes import FaultControl, FaultRule, Hit, fault_environment
from workloads.records import FaultEntry, WorkerRecord
from workloads.runs.commit_notes import RECORDED
from workloads.runs.fault_effects import entries, killed

CHANGES, BASE, BASE_FILES = "changes.log", "base", "base.json"
"""In the folder of a run that is recorded: the log, copies of the database's files as they were
when it began, and their names, inodes and what they had become when it ended."""


@dataclass(slots=True)
class RunUnderWay:
    """A run in its window, for whoever disturbs it from beside.

    pids : process of each worker, by its number. window : start, beginning and end of the measured
    part, ns. faults : None where there is no library. over : set when the window is over.
    """

    database: Path
    pids: dict[int, int]
    window: tuple[int, int, int]
    faults: Faults | None
    over: threading.Event = field(default_factory=threading.Event)

    def wait_until(self, share: float) -> bool:
        """Until this share of the window is over. False where the run ended before."""
        start, _, stop = self.window
        until = start + int((stop - start) * share)
        return not self.over.wait(max(until - time.monotonic_ns(), 0) / 1e9)


class Faults:
    """home : the temporary folder with the database. folder : the run's. rules : the faults.

    Raises EngineMissing where there is no library.
    """

    def __init__(
        self, home: Path, folder: Path, database: Path, rules: tuple[FaultRule, ...], record: bool
    ) -> None:
        self._database, self._folder, self._record = database, folder, record
        self._files: dict[str, dict[str, Any]] = {}
        if record:
            self._keep_base()
        log = folder / CHANGES if record else home / CHANGES
        self._control = FaultControl(
            home / "faults.bin", database.parent, log, rules, prefix=database.name
        )
        fault_environment(self._control.path)  # is it to be had?
        self._control.begin_log(record)

    def environment(self, worker: int) -> dict[str, str]:
        """What a worker's process gets, which has to be started by exec."""
        told = fault_environment(self._control.path, worker)
        return told | {RECORDED: "1"} if self._record else told

    def arm(self) -> None:
        """The gate is open: calls are counted from here."""
        self._control.arm()

    def killed(self, groups: Sequence[tuple[int, ...]]) -> set[int]:
        """The workers whose processes a fault has ended. groups : as for `fault_effects`."""
        return killed(self.rules, self._control.hits, groups)

    def set_clock(self, shift_s: int) -> None:
        """Have the workers' time of day be another one from now on."""
        self._control.set_clock(shift_s)

    @property
    def rules(self) -> tuple[FaultRule, ...]:
        """As they were asked for."""
        return self._control.rules

    @property
    def hits(self) -> list[Hit]:
        """When they fired."""
        return self._control.hits

    def end(self) -> tuple[FaultEntry, ...]:
        """The workers are gone: what became of each rule. The log ends here."""
        control = self._control
        control.arm(False)
        control.begin_log(False)
        if self._record:
            self._note_end()
        return self.entries((), ())

    def entries(
        self, workers: Sequence[WorkerRecord], groups: Sequence[tuple[int, ...]]
    ) -> tuple[FaultEntry, ...]:
        """What became of each rule, by what the workers did."""
        control = self._control
        return entries(control.rules, control.matched, control.fired, control.hits, workers, groups)

    def close(self) -> None:
        """Give back what it holds."""
        self._control.close()

    def _keep_base(self) -> None:
        (self._folder / BASE).mkdir()
        for path in _files_of(self._database):
            shutil.copyfile(path, self._folder / BASE / path.name)
            self._files[path.name] = {"inode": path.stat().st_ino}

    def _note_end(self) -> None:
        ended = {path.name: _digest(path) for path in _files_of(self._database)}
        told = {"base": self._files, "ended": ended, "lost": self._control.lost}
        (self._folder / BASE_FILES).write_text(json.dumps(told), encoding="utf-8")


def _files_of(database: Path) -> list[Path]:
    """The files of a database but its shared memory, which no crash leaves."""
    found = sorted(database.parent.glob(f"{database.name}*"))
    return [path for path in found if path.is_file() and not path.name.endswith("-shm")]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
