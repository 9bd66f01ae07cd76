"""A run is conducted here from its plan to its folder: processes are started, watched and ended.

The parent opens no database. It starts a process to load it, one for each worker (or one for all
where the engine locks its file to one process), and one to check it afterwards, and it waits for
none of them without a limit.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from workloads import records as rec
from workloads.errors import FolderUnwritable, ModeRefused, RunError, RunFailed
from workloads.files import ROOT, hold, make, this_process, visible
from workloads.records import (
    Conduct,
    FindingEntry,
    Machine,
    Manifest,
    ScenarioEntry,
    UnderWay,
    Window,
    write_manifest,
)
from workloads.runs import machine
from workloads.runs.faults import RunUnderWay
from workloads.runs.making import Making
from workloads.runs.plan import Plan
from workloads.runs.worker_process import OnProgress, Progress
from workloads.scenarios import find_scenario

__all__ = [
    "ROOT",
    "FolderUnwritable",
    "ModeRefused",
    "OnProgress",
    "Progress",
    "RunFailed",
    "prepare",
    "run",
]


def run(
    plan: Plan,
    runs: Path,
    *,
    name: str | None = None,
    command: str = "",
    databases: Path | None = None,
    template: Path | None = None,
    keep_database: bool = False,
    on_progress: OnProgress | None = None,
    conduct: Mapping[str, Any] | None = None,
    cpus: Sequence[int] = (),
    conductor: int = 0,
    inherit: Sequence[int] = (),
    record_changes: bool = False,
    beside: Callable[[RunUnderWay], None] | None = None,
) -> rec.Run:
    """Make one run and return it, read back from its folder.

    runs : the folder that holds run folders. databases : where the database lies while the run
    goes on (default: a temporary folder, removed afterwards; kept in the run folder where an
    invariant broke). template : a folder made by `prepare`, copied instead of loading again.
    conduct : who runs it and beside what, for the manifest. cpus : those that this process is
    confined to, () for none in particular; conductor : as for `machine.CpuMeter`.
    inherit : open files that every process of the run keeps open. record_changes : log every change
    that the workers make to the database's files (workloads.runs.faults). beside : called in a
    thread of its own as the gate opens, with what is under way, to disturb it; it returns when
    `over` is set.
    Raises ModeRefused, FolderUnwritable, RunFailed before anything was measured. A later failure
    is in the manifest: `ok`, `ended`, `findings` and each worker's `state` and `account`.
    """
    making = _begun(plan, runs, name, command, databases, on_progress or (lambda progress: None))
    making.cpus, making.conductor = tuple(cpus), conductor
    making.inherit += tuple(inherit)
    making.keep_database = keep_database
    making.record_changes, making.beside = record_changes, beside
    if conduct is not None:
        making.manifest.conduct = Conduct(**conduct)
    try:
        try:
            making.load(template)
            making.cool()
            making.start()
            making.announce_window()
        except OSError as error:
            making.abandon()
            raise FolderUnwritable(
                f"{error.filename or making.folder.parent}: cannot be written ({error.strerror}). "
                "Free some space, or give another folder with --runs or --databases."
            ) from error
        except BaseException:
            making.abandon()
            raise
        making.watch()
        making.conclude()
        return rec.read_run(making.folder)
    finally:
        making.reap()


def finish(
    folder: Path,
    held: int,
    manifest: Manifest,
    plan: Plan,
    database: Path,
    *,
    unchecked: str = "",
    findings: Sequence[FindingEntry] | None = None,
    on_progress: OnProgress | None = None,
) -> rec.Run:
    """Finish a run that another process left: its check, its judgement, its last steps.

    held : the folder's lock, which is given up. manifest : all that is known of the run, with its
    window and its `under_way`. database : where it lies. The caller removes it from there, unless
    the manifest is still under way when this returns.
    unchecked : why the database cannot be checked; then nothing that the plan names is loaded.
    findings : those made already. None: they are read from the workers' accounts.
    Raises RunError where the accounts cannot be read, and KeyboardInterrupt. It can be called
    again.
    """
    home = make("recovery")
    making = Making(plan, folder, home, held, manifest, on_progress or (lambda progress: None))
    making.database = database
    making.ended, making.killed = manifest.ended, True
    making.keep_database = bool(manifest.under_way and manifest.under_way.keep_database)
    try:
        making.write_job()
        if findings is None:
            making.collect_findings()
        else:
            making.findings = list(findings)
        if unchecked:
            making.not_checked(unchecked)
        else:
            making.serve()
            making.check()
        making.judge()
        making.settle()
        return rec.read_run(folder)
    except ValidationError as error:
        raise RunError(
            f"{folder}: an account of one of its processes cannot be read "
            f"({visible(error.errors()[0]['msg'])}). It was edited."
        ) from None
    finally:
        making.reap()


def prepare(plan: Plan, folder: Path, on_progress: OnProgress | None = None) -> Path:
    """Load a database once, for many runs of the same shape. Returns the template folder."""
    folder.mkdir(parents=True, exist_ok=True)
    making = _begun(plan, folder, "loading", "", folder, on_progress or (lambda progress: None))
    try:
        making.load(None)
        making.serving.stop(keep=True)
    except BaseException:
        making.abandon()
        making.reap()
        raise
    making.abandon()
    os.close(making.held)
    making.home.release()
    return making.home.path


def _begun(
    plan: Plan,
    runs: Path,
    name: str | None,
    command: str,
    databases: Path | None,
    on_progress: OnProgress,
) -> Making:
    """A run that has its folder, a manifest and a temporary folder, and nothing else yet."""
    where = databases or Path(tempfile.gettempdir())
    mine, run_id = this_process("run"), uuid.uuid4().hex
    manifest = Manifest(
        cwkit=rec.FORMAT_VERSION,
        run=name or run_name(plan),
        id=run_id,
        command=command,
        seed=plan.seed,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        scenario=scenario_entry(plan),
        plan=plan.recorded(),
        machine=Machine(**machine.describe(where, plan.files())),
        ended="running",
        ok=False,
        workers=[],
        window=Window(start_ns=0, measure_ns=0, stop_ns=0),
        wal_bytes_max=0,
    )
    # From here on at once: killed before the manifest is there, the folder is empty.
    folder = _new_folder(Path(runs), manifest.run)
    try:
        home = make("run", within=databases, run=folder, run_id=run_id)
    except OSError as error:
        folder.rmdir()
        raise FolderUnwritable(
            f"{where}: cannot hold a database ({error.strerror}). Give another folder with "
            "--databases."
        ) from error
    manifest.run = folder.name
    manifest.under_way = UnderWay(
        stage="loading",
        home=str(home.path),
        pid=mine.pid,
        start_ticks=mine.start_ticks,
        boot_id=mine.boot_id,
    )
    held = None
    try:
        # Held before it can be read: whoever recovers runs takes one that nobody holds for left.
        held = hold(folder, wait_s=1.0)
        write_manifest(folder, manifest)
        return Making(plan, folder, home, held, manifest, on_progress)
    except BaseException as error:
        if held is not None:
            os.close(held)
        shutil.rmtree(folder, ignore_errors=True)
        home.remove()
        if isinstance(error, OSError):
            raise FolderUnwritable(
                f"{runs}: cannot be written ({error.strerror}). Give another folder with --runs."
            ) from error
        raise


def scenario_entry(plan: Plan) -> ScenarioEntry:
    """The scenario, for a reader that must not load a file of the user's."""
    shape = plan.shape()
    scenario = find_scenario(plan.scenario)(shape)
    return ScenarioEntry(
        name=plan.scenario,
        params=shape.recorded(),
        kinds=tuple(scenario.kinds),
    )


def run_name(plan: Plan) -> str:
    scenario = plan.scenario.rpartition(":")[2].lower() if ":" in plan.scenario else plan.scenario
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{scenario}-s{plan.seed}"


def _new_folder(runs: Path, name: str) -> Path:
    """A folder nobody has: an older run is never written over."""
    for tail in ["", *(f".{n}" for n in range(2, 1000))]:
        try:
            folder = runs / f"{name}{tail}"
            folder.mkdir(parents=True)
        except FileExistsError:
            if not runs.is_dir():
                raise FolderUnwritable(f"{runs}: is no folder. Give another with --runs.") from None
            continue
        except OSError as error:
            raise FolderUnwritable(
                f"{runs}: cannot be written ({error.strerror}). Give another folder with --runs."
            ) from error
        return folder
    raise FolderUnwritable(f"{runs}: already holds 1,000 runs called {name}.")
