"""One cell of an experiment: one arm in one block, run on CPUs of its own, its state kept.

`python -m workloads.experiments.cell JOB` is the process of one cell that runs beside others; it
is started by `workloads.experiments.conduct` and by nobody else.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import signal
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from workloads.engines import find_engine
from workloads.errors import (
    EngineMissing,
    FolderUnwritable,
    ModeRefused,
    PlanError,
    RunError,
    RunFailed,
    UnknownName,
)
from workloads.experiments import experiment as designs
from workloads.experiments import half_done
from workloads.experiments.experiment import (
    DONE,
    FAILED,
    MISSING,
    REFUSED,
    TEMPLATES,
    Cell,
    cell_name,
    read_cell,
)
from workloads.files import Held, inside, locked
from workloads.processes import end_with_parent
from workloads.runs import OnProgress, Plan, Progress, make_plan, prepare, run, why_not
from workloads.scenarios import find_scenario

ORPHANS_END_S = 45.0
"""How long the processes of a cell are waited for after its conductor was killed, s."""

END_LIMIT_S = 20.0
"""How long a cell whose conductor is gone may take to end in order, s."""

REPORT_EVERY_S = 0.5
"""Time between two reports of a cell's process to its conductor, s. Each report costs CPU time."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


def run_cell(
    folder: Path,
    block: int,
    arm: str,
    *,
    cpus: Sequence[int] = (),
    databases: Path | None = None,
    how: Mapping[str, Any] | None = None,
    on_progress: OnProgress | None = None,
    conductor: int = 0,
    notify: Callable[[str], None] = lambda sentence: None,
) -> Cell:
    """Run one cell of an experiment folder and keep its state; a finished cell is only returned.

    cpus : confine this thread and the cell's processes to them meanwhile; () for no confinement.
    databases : the folder that holds the database meanwhile. conductor : see machine.CpuMeter.
    how : "way", "jobs" and "oversubscribed" for the manifest's `conduct`, and "command".
    notify : called with a sentence about what became of a run of it that was cut short.
    Several processes may run cells of one folder, each another cell.
    An engine's refusal or a failure becomes the cell's state and reason. Raises RunError where the
    folder or the cell does not exist or somebody else runs it, PlanError or UnknownName for a plan
    that makes no sense, FolderUnwritable, and KeyboardInterrupt where the run was interrupted. The
    cell then has no state and is run again by the next call.
    """
    folder = Path(folder)
    experiment = designs.read_experiment(folder)
    if arm not in experiment.design.arms or not 0 <= block < experiment.design.blocks:
        raise RunError(f"{folder}: has no cell of block {block} and arm {arm!r}.")
    try:
        with locked(folder, designs.byte_of(experiment, block, arm), wait_s=ORPHANS_END_S) as file:
            if there := experiment.cells.get((block, arm)) or read_cell(folder, block, arm):
                return there
            design = experiment.design
            values = {**design.arms[arm], "seed": design.block_seed(block)}
            conduct = dict(how or {})
            command = str(conduct.pop("command", ""))
            progressed = on_progress or (lambda progress: None)
            if cut_short := half_done.finish_and_set_aside(folder, block, arm, progressed):
                notify(cut_short)
            begun = time.monotonic()
            with _confined(cpus):
                conduct = {"way": "", "jobs": 1, "oversubscribed": False} | conduct
                conduct["cpus"] = sorted(os.sched_getaffinity(0))
                cell = _made(
                    folder, block, arm, values,
                    command=command, databases=databases, conduct=conduct, cpus=cpus,
                    conductor=conductor, inherit=(file,), on_progress=progressed,
                )  # fmt: skip
            cell = dataclasses.replace(cell, took_s=round(time.monotonic() - begun, 3))
            designs.write_cell(folder, cell)
            return cell
    except Held:
        raise RunError(
            f"{folder}: another process runs block {block}, arm {arm!r}, and did not end within "
            f"{ORPHANS_END_S:.0f} s. Wait until it has, then go on with the same command."
        ) from None


@contextlib.contextmanager
def _confined(cpus: Sequence[int]) -> Iterator[None]:
    """Have this thread, and the processes it starts, use these CPUs only."""
    if not cpus:
        yield
        return
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, cpus)
    except OSError as error:
        raise PlanError(
            f"CPUs {sorted(cpus)}: this machine does not give them ({error.strerror})."
        ) from error
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _made(
    folder: Path,
    block: int,
    arm: str,
    values: Mapping[str, Any],
    *,
    on_progress: OnProgress,
    **how: Any,
) -> Cell:
    """Run it. A failure becomes its state and its reason."""
    name = cell_name(block, arm)
    try:
        plan = make_plan(**values)
        template = _template(plan, folder, on_progress)
        made = run(plan, folder, name=name, template=template, on_progress=on_progress, **how)
    except EngineMissing as error:
        return Cell(block, arm, MISSING, str(error), None)
    except ModeRefused as error:
        return Cell(block, arm, REFUSED, f"{error.engine}: {error.message}", None)
    except FolderUnwritable:
        raise
    except (RunFailed, RunError) as error:
        designs.write_last_words(folder, block, arm, getattr(error, "stderr_text", ""))
        return Cell(block, arm, FAILED, str(error), None)
    except OSError as error:
        if error.errno in FULL:
            raise FolderUnwritable(
                f"{error.filename or folder}: cannot be written ({error.strerror}). Free some "
                "space, or give another folder with --databases."
            ) from error
        return Cell(block, arm, FAILED, f"{type(error).__name__}: {error}", None)
    if made.manifest.ended == "interrupted":
        raise KeyboardInterrupt
    if made.manifest.ok:
        return Cell(block, arm, DONE, "", made.folder)
    return Cell(block, arm, FAILED, "; ".join(why_not(made.manifest)), made.folder)


def _template(plan: Plan, folder: Path, on_progress: OnProgress) -> Path | None:
    """A loaded database for plans of this shape: made by whoever needs it first, the rest wait."""
    engine = find_engine(plan.database)
    if engine.file_format == "none" or not getattr(engine, "copied", True) or plan.cold_start:
        return None
    shape = plan.shape().model_dump()
    loaded_by = getattr(find_scenario(plan.scenario), "loaded_by", ()) or tuple(shape)
    what = {name: shape[name] for name in loaded_by}
    key = json.dumps(
        [plan.database, plan.scenario, what, plan.page_bytes, plan.journal_mode]
        + [plan.pragma] * bool(plan.pragma),
        default=str,
    ).encode()
    templates = inside(folder, TEMPLATES)
    made = inside(templates, hashlib.sha256(key).hexdigest()[:16])
    begun = time.monotonic()
    while not made.exists():
        try:
            with locked(folder, (1 << 40) + zlib.crc32(key), wait_s=1.0):
                if not made.exists():
                    os.rename(prepare(plan, templates), made)
        except Held:
            waited = time.monotonic() - begun
            on_progress(Progress("loading", elapsed_s=waited))
            if waited > plan.load_limit_s + ORPHANS_END_S:
                raise RunFailed(
                    f"Another process has been loading this database for {waited:.0f} s."
                ) from None
    return made


# --- the process of a cell that runs beside others --------------------------------------------


_asked_to_end = False
"""A conductor that is gone tells its cell twice: by a pipe that nobody reads, and by SIGTERM."""


def _interrupted(number: int, frame: Any) -> None:
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    _interrupt_once()


def _interrupt_once() -> None:
    """Raise KeyboardInterrupt the first time: a cell that ends in order is not disturbed again."""
    global _asked_to_end
    if not _asked_to_end:
        _asked_to_end = True
        raise KeyboardInterrupt


class _Reporter:
    """Reports progress to the conductor: a line of JSON now and then."""

    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self.at >= REPORT_EVERY_S:
            self.at = now
            report({"progress": dataclasses.asdict(progress)})


def report(line: Mapping[str, Any]) -> None:
    try:
        print(json.dumps(line), flush=True)
    except OSError:  # the conductor is gone, and with it whoever wanted to know
        _interrupt_once()


def main(argv: list[str]) -> int:
    """JOB as JSON. Status: 0 the cell has its state, 2 the user could mend it, 130 interrupted."""
    job = json.loads(argv[0])
    signal.signal(signal.SIGTERM, _interrupted)
    signal.signal(signal.SIGINT, _interrupted)
    try:
        end_with_parent(END_LIMIT_S)
        run_cell(
            Path(job["folder"]),
            job["block"],
            job["arm"],
            cpus=job["cpus"],
            databases=Path(job["databases"]) if job["databases"] else None,
            how=job["how"],
            on_progress=_Reporter(),
            conductor=job["conductor"],
            notify=lambda sentence: report({"notice": sentence}),
        )
    except (FolderUnwritable, PlanError, UnknownName, RunError) as error:
        report({"error": type(error).__name__, "message": str(error)})
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
