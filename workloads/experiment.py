"""Arms compared in randomised complete blocks: every arm once in each block, in an order by seed.

The machine's speed drifts, so arms that run one after the other, each many times, measure the
drift; arms that run close together share it, and the ratio within a block is free of it. A block
gives all its arms one seed, so they also share their draws. Source: Fisher 1935, ch. 4.

An experiment is a folder: `experiment.json`, and for each cell a run folder and a state file. A
finished cell is never run again; one that was cut short is, and the folder goes on where it was.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from workloads import recording as rec
from workloads.cell import TEMPLATES, run_cell
from workloads.design import (
    DONE,
    FAILED,
    MISSING,
    REFUSED,
    Cell,
    Design,
    Experiment,
    OnCell,
    begin,
    cell_name,
    read_cell,
    read_experiment,
    set_aside,
    unwritable,
    write_cell,
)
from workloads.engines import UnknownName
from workloads.locks import Held, locked
from workloads.plan import PlanError, make_plan
from workloads.processes import (
    CHECK_LIMIT_S,
    LOAD_LIMIT_S,
    ROOT,
    START_LIMIT_S,
    FolderUnwritable,
    OnProgress,
    Progress,
)
from workloads.slots import slots, spare

__all__ = [
    "DONE",
    "FAILED",
    "MISSING",
    "REFUSED",
    "Cell",
    "Design",
    "Experiment",
    "OnCell",
    "Watch",
    "begin",
    "cell_name",
    "conduct",
    "holding",
    "read_cell",
    "read_experiment",
    "run_cell",
    "set_aside",
    "write_cell",
]

Watch = Callable[[int, str, Progress], None]
"""Called while cells run with the block and the arm of the one that tells."""

END_LIMIT_S = 15.0
"""How long an interrupted cell may take to end in order before it is killed, s."""


@contextlib.contextmanager
def holding(folder: Path) -> Iterator[None]:
    """Be the only command that runs an experiment's folder; the folder is made where it is not.

    Loaded databases that an earlier command left behind are removed, and ours at the end.
    Raises RunError where another command runs it, FolderUnwritable where it can't be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error
    try:
        with locked(folder):
            shutil.rmtree(folder / TEMPLATES, ignore_errors=True)
            try:
                yield
            finally:
                shutil.rmtree(folder / TEMPLATES, ignore_errors=True)
    except Held:
        raise rec.RunError(
            f"{folder}: another command is running it. Wait until that has ended, or give another "
            "folder with --into."
        ) from None


def conduct(
    design: Design,
    folder: Path,
    *,
    jobs: int = 1,
    cpus_each: int = 0,
    oversubscribe: bool = False,
    way: str = "",
    again: Callable[[Cell], bool] = lambda cell: False,
    command: str = "",
    databases: Path | None = None,
    on_cell: OnCell = lambda experiment, block, arm, state: None,
    on_progress: OnProgress | None = None,
    watch: Watch = lambda block, arm, progress: None,
) -> Experiment:
    """Run what is still missing of an experiment and return it.

    jobs : cells at a time. One runs in this process and may use the whole machine; several run in
    processes of their own, each with `cpus_each` CPUs (0: as many as there are for each) and with a
    database folder of its own. way : "report", "sweep", ... for the manifests' `conduct`.
    again : finished cells for which it is true are set aside and run again.
    on_progress : of whichever cell tells; watch : the same with the cell's block and arm.
    Raises RunError where `folder` holds another experiment or another command runs it, PlanError
    where the machine has too few CPUs, FolderUnwritable where the folder can't be written. A cell
    that an engine refuses or that fails is kept as such and the rest goes on.
    """
    folder = Path(folder)

    def told(block: int, arm: str, progress: Progress) -> None:
        watch(block, arm, progress)
        if on_progress is not None:
            on_progress(progress)

    parted, over = slots(jobs, cpus_each=cpus_each, oversubscribe=oversubscribe)
    if jobs > 1:
        _no_cpus_of_their_own(design)
    how = {"way": way, "jobs": jobs, "oversubscribed": over, "command": command}
    with holding(folder):
        begin(design, folder)
        experiment = read_experiment(folder)
        for key, cell in list(experiment.cells.items()):
            if again(cell):
                set_aside(folder, cell)
                del experiment.cells[key]
        if jobs > 1:
            _SideBySide(experiment, parted, how, databases, on_cell, told).run()
            return experiment
        for block, arm in experiment.left():
            on_cell(experiment, block, arm, "running")
            tell = functools.partial(told, block, arm)
            cell = run_cell(folder, block, arm, databases=databases, how=how, on_progress=tell)
            experiment.cells[block, arm] = cell
            on_cell(experiment, block, arm, cell.state)
    return experiment


def _no_cpus_of_their_own(design: Design) -> None:
    for arm, values in design.arms.items():
        if values.get("cpus"):
            raise PlanError(
                f"Arm {arm!r} says on which CPUs it runs (cpus), so it cannot be given others: "
                "run one cell at a time, or leave its CPUs to --jobs."
            )


@dataclass
class _Job:
    """A cell that runs in a process of its own."""

    block: int
    arm: str
    slot: int
    process: subprocess.Popen[bytes]
    errors: IO[bytes]
    until: float
    heard: bytes = b""
    error: dict[str, str] = field(default_factory=dict)

    def hear(self, data: bytes) -> Iterator[Progress]:
        """What its process reports, line by line."""
        *lines, self.heard = (self.heard + data).split(b"\n")
        for line in lines:
            with contextlib.suppress(ValueError, TypeError):  # a library's print in a scenario
                said = json.loads(line)
                if "progress" in said:
                    yield Progress(**said["progress"])
                elif "error" in said:
                    self.error = said

    def last_words(self) -> str:
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else ""


class _SideBySide:
    """Several cells at a time, each in a process and on CPUs of its own.

    This process sleeps until one of them tells something. Where a CPU is left over it keeps to
    that; else what it uses on a cell's CPU is foreign to the cell, and counted as such.
    """

    def __init__(
        self,
        experiment: Experiment,
        parted: list[tuple[int, ...]],
        how: Mapping[str, Any],
        databases: Path | None,
        on_cell: OnCell,
        told: Watch,
    ) -> None:
        self.experiment, self.slots, self.how = experiment, parted, how
        self.databases, self.on_cell, self.told = databases, on_cell, told
        self.free = list(range(len(parted)))
        self.running: list[_Job] = []

    def run(self) -> None:
        """Until no cell is left. Raises what `run_cell` raises; no process outlives it."""
        todo = self.experiment.left()
        before = os.sched_getaffinity(0)
        if left_over := spare(self.slots):
            os.sched_setaffinity(0, left_over)
        try:
            with selectors.DefaultSelector() as selector:
                while todo or self.running:
                    while todo and self.free:
                        job = self._start(*todo.pop(0))
                        selector.register(job.process.stdout, selectors.EVENT_READ, job)  # type: ignore[arg-type]
                    for key, _ in selector.select(timeout=1.0):
                        job = key.data
                        if data := os.read(key.fd, 1 << 16):
                            for progress in job.hear(data):
                                self.told(job.block, job.arm, progress)
                        else:
                            selector.unregister(key.fileobj)
                            self._ended(job)
                    for job in self.running:
                        if time.monotonic() > job.until:
                            job.process.kill()
        finally:
            self._end_all()
            os.sched_setaffinity(0, before)

    def _start(self, block: int, arm: str) -> _Job:
        slot = self.free.pop(0)
        self.on_cell(self.experiment, block, arm, "running")
        words = {
            "folder": str(self.experiment.folder),
            "block": block,
            "arm": arm,
            "cpus": self.slots[slot],
            "databases": str(self.databases.resolve()) if self.databases else "",
            "how": dict(self.how),
            "parent": os.getpid(),
        }
        environment = dict(os.environ)
        paths = (str(ROOT), environment.get("PYTHONPATH", ""))
        environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
        environment |= {"OPENBLAS_NUM_THREADS": "1", "PYDANTIC_DISABLE_PLUGINS": "__all__"}
        errors = tempfile.TemporaryFile()  # noqa: SIM115, closed when the job is forgotten
        process = subprocess.Popen(
            [sys.executable, "-m", "workloads.cell", json.dumps(words)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
            process_group=0,  # Ctrl-C reaches this process alone, which ends the cells in order
        )
        until = time.monotonic() + _longest_s(self.experiment.arms[arm])
        job = _Job(block, arm, slot, process, errors, until)
        self.running.append(job)
        return job

    def _ended(self, job: _Job) -> None:
        """Its process has closed its output: it has its state, or it says why not."""
        try:
            status = job.process.wait(END_LIMIT_S)
        except subprocess.TimeoutExpired:
            job.process.kill()
            status = job.process.wait()
        words = job.last_words()
        self._forget(job)
        self.free.append(job.slot)
        if job.error:
            raise _ERRORS.get(job.error["error"], rec.RunError)(job.error["words"])
        folder = self.experiment.folder
        cell = read_cell(folder, job.block, job.arm)
        if cell is None:
            how = f"signal {-status}" if status < 0 else f"exit status {status}"
            late = "it took too long and was ended, " if time.monotonic() > job.until else ""
            said = f"the cell's process left no result: {late}{how}: {words}"
            made = folder / cell_name(job.block, job.arm)
            run = made if (made / "manifest.json").exists() else None
            cell = Cell(job.block, job.arm, FAILED, said.rstrip(": "), run)
            write_cell(folder, cell)
        self.experiment.cells[job.block, job.arm] = cell
        self.on_cell(self.experiment, job.block, job.arm, cell.state)

    def _forget(self, job: _Job) -> None:
        self.running.remove(job)
        assert job.process.stdout is not None
        job.process.stdout.close()
        job.errors.close()

    def _end_all(self) -> None:
        """End every cell that still runs: asked first, then made to."""
        for job in self.running:
            job.process.terminate()
        until = time.monotonic() + END_LIMIT_S
        try:
            for job in self.running:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    job.process.wait(max(until - time.monotonic(), 0.01))
        finally:  # also after a second Ctrl-C
            for job in list(self.running):
                job.process.kill()
                job.process.wait()
                self._forget(job)


_ERRORS: dict[str, type[Exception]] = {
    error.__name__: error for error in (FolderUnwritable, PlanError, UnknownName, rec.RunError)
}


def _longest_s(values: Mapping[str, Any]) -> float:
    """More than a cell can take that still does something: the sum of all its own limits, s."""
    try:
        plan = make_plan(**values)
    except Exception:  # it will say so itself
        return START_LIMIT_S
    waits = 2 * LOAD_LIMIT_S + START_LIMIT_S + CHECK_LIMIT_S + 60
    return waits + plan.warmup_s + plan.duration_s + plan.patience_s()
