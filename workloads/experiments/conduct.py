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
import os
import selectors
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from workloads import records as rec
from workloads.errors import PlanError
from workloads.experiments.blocks import only_ours
from workloads.experiments.cell import run_cell
from workloads.experiments.cell_process import CellProcess, end_all
from workloads.experiments.cpus import slots, spare
from workloads.experiments.experiment import (
    DONE,
    EARLIER,
    FAILED,
    MISSING,
    REFUSED,
    TEMPLATES,
    Cell,
    Design,
    Experiment,
    OnCell,
    begin,
    cell_name,
    free_or_ours,
    read_cell,
    read_experiment,
    set_aside,
    unwritable,
    write_cell,
)
from workloads.experiments.spare import Odd, Spares
from workloads.files import Held, locked, remove
from workloads.runs import OnProgress, Progress

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
    "holding",
    "read_cell",
    "read_experiment",
    "run_cell",
    "run_experiment",
    "set_aside",
    "write_cell",
]

Watch = Callable[[int, str, Progress], None]
"""Called while cells run with a cell's block, arm and progress."""


@contextlib.contextmanager
def holding(folder: Path) -> Iterator[None]:
    """Be the only command that runs an experiment's folder; the folder is made where it is not.

    Loaded databases that an earlier command left behind are removed, and ours at the end.
    Raises RunError where another command runs it or where it is a user's (`free_or_ours`),
    FolderUnwritable where it can't be written.
    """
    folder = Path(folder)
    free_or_ours(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error
    try:
        with locked(folder):
            remove(folder, TEMPLATES)
            try:
                yield
            finally:
                remove(folder, TEMPLATES)
    except Held:
        raise rec.RunError(
            f"{folder}: another command is running it. Wait until that has ended, or give another "
            "folder with --into."
        ) from None


def run_experiment(
    design: Design,
    folder: Path,
    *,
    jobs: int = 1,
    cpus_each: int = 0,
    oversubscribe: bool = False,
    started_by: str = "",
    again: Callable[[Cell], bool] = lambda cell: False,
    command: str = "",
    databases: Path | None = None,
    on_cell: OnCell = lambda experiment, block, arm, state: None,
    on_progress: OnProgress | None = None,
    watch: Watch = lambda block, arm, progress: None,
    notify: Callable[[str], None] = lambda sentence: None,
    odd: Odd = lambda cell: "",
    spares: int = 0,
) -> Experiment:
    """Run what is still missing of an experiment and return it.

    jobs : cells at a time. One runs in this process and may use the whole machine, or `cpus_each`
    CPUs of it; several run in processes of their own, each with `cpus_each` CPUs (0: as many as
    there are for each) and with a database folder of its own. started_by : "report", "sweep", ...
    for the manifests' `conduct.way`.
    again : finished cells for which it is true are set aside and run again. So are those of a block
    that was begun on another machine and not finished there.
    odd, spares : a finished cell for which `odd` gives a reason is run again at once, at most
    `spares` times (workloads.experiments.spare); on_cell gets "again" for it.
    notify : called with a sentence for the user.
    on_progress : called with the progress of every cell; watch : the same with block and arm.
    Raises RunError where `folder` holds another experiment or another command runs it, PlanError
    where the machine has too few CPUs, FolderUnwritable where the folder can't be written. A cell
    that an engine refuses or that fails is kept as such and the rest goes on.
    """
    folder = Path(folder)

    def report_progress(block: int, arm: str, progress: Progress) -> None:
        watch(block, arm, progress)
        if on_progress is not None:
            on_progress(progress)

    parted, over = slots(jobs, cpus_each=cpus_each, oversubscribe=oversubscribe)
    if jobs > 1 or cpus_each:
        _no_cpus_of_their_own(design)
    confined = parted[0] if cpus_each else ()
    how = {"way": started_by, "jobs": jobs, "oversubscribed": over, "command": command}
    with holding(folder):
        begin(design, folder)
        experiment = read_experiment(folder)
        for key, cell in list(experiment.cells.items()):
            if again(cell):
                set_aside(folder, cell)
                del experiment.cells[key]
        spare = Spares(odd, spares)
        _judged_late(experiment, spare, notify)
        if others := only_ours(
            experiment, jobs=jobs, cpus=len(confined or parted[0]), started_by=started_by
        ):
            notify(
                "begun on another machine, by other code or with other settings, so run again "
                f"whole: {', '.join(f'b{block:02d}' for block in others)}. Their cells so far "
                f"are in {folder / EARLIER}."
            )
        if jobs > 1:
            _SideBySide(
                experiment, parted, how, databases, on_cell, report_progress, notify, spare
            ).run()
            return experiment
        todo = experiment.left()
        while todo:
            block, arm = todo[0]
            on_cell(experiment, block, arm, "running")
            progressed = functools.partial(report_progress, block, arm)
            cell = run_cell(
                folder, block, arm, cpus=confined, databases=databases, how=how,
                on_progress=progressed, notify=notify,
            )  # fmt: skip
            experiment.cells[block, arm] = cell
            if why := spare.again(experiment, cell):
                notify(why)
            else:
                todo.pop(0)
            on_cell(experiment, block, arm, "again" if why else cell.state)
    return experiment


def _judged_late(experiment: Experiment, spare: Spares, notify: Callable[[str], None]) -> None:
    """Judge the cells of the last block that was begun: a command that was killed may not have."""
    last = max((block for block, _ in experiment.cells), default=0)
    for cell in [cell for cell in experiment.cells.values() if cell.again or cell.block == last]:
        if why := spare.again(experiment, cell):
            notify(why)


def _no_cpus_of_their_own(design: Design) -> None:
    for arm, values in design.arms.items():
        if values.get("cpus"):
            raise PlanError(
                f"Arm {arm!r} says on which CPUs it runs (cpus), so it cannot be given others: "
                "run one cell at a time without --cpus, or leave its CPUs to --jobs and --cpus."
            )


class _SideBySide:
    """Several cells at a time, each in a process and on CPUs of its own.

    This process sleeps until one of them reports something. Where a CPU is left over it keeps to
    that. Otherwise its time on a cell's CPU is foreign to the cell, and counted as such.
    """

    def __init__(
        self,
        experiment: Experiment,
        parted: list[tuple[int, ...]],
        how: Mapping[str, Any],
        databases: Path | None,
        on_cell: OnCell,
        on_progress: Watch,
        notify: Callable[[str], None],
        spare: Spares,
    ) -> None:
        self.notify, self.spare, self.todo = notify, spare, experiment.left()
        self.experiment, self.slots, self.how = experiment, parted, how
        self.databases, self.on_cell, self.on_progress = databases, on_cell, on_progress
        self.free = list(range(len(parted)))
        self.running: dict[CellProcess, int] = {}  # -> its slot

    def run(self) -> None:
        """Run cells until none is left. Raises as `run_cell` does; no process outlives it."""
        before = os.sched_getaffinity(0)
        if left_over := spare(self.slots):
            os.sched_setaffinity(0, left_over)
        try:
            with selectors.DefaultSelector() as selector:
                while self.todo or self.running:
                    while self.todo and self.free:
                        job = self._start(*self.todo.pop(0))
                        selector.register(job, selectors.EVENT_READ, job)
                    for key, _ in selector.select(timeout=1.0):
                        job = key.data
                        if data := os.read(key.fd, 1 << 16):
                            for progress in job.hear(data):
                                self.on_progress(job.block, job.arm, progress)
                            while job.notices:
                                self.notify(job.notices.pop(0))
                        else:
                            selector.unregister(key.fileobj)
                            self._ended(job)
                    for job in self.running:
                        if job.late:
                            job.process.kill()
        finally:
            end_all(list(self.running))
            os.sched_setaffinity(0, before)

    def _start(self, block: int, arm: str) -> CellProcess:
        slot = self.free.pop(0)
        self.on_cell(self.experiment, block, arm, "running")
        job = CellProcess(
            self.experiment.folder,
            block,
            arm,
            self.experiment.design.arms[arm],
            cpus=self.slots[slot],
            databases=self.databases,
            how=self.how,
        )
        self.running[job] = slot
        return job

    def _ended(self, job: CellProcess) -> None:
        """Take over the state of a cell whose process has closed its output."""
        cell = job.outcome()
        self.free.append(self.running.pop(job))
        self.experiment.cells[job.block, job.arm] = cell
        if why := self.spare.again(self.experiment, cell):
            self.notify(why)
            self.todo.insert(0, (job.block, job.arm))
        self.on_cell(self.experiment, job.block, job.arm, "again" if why else cell.state)
