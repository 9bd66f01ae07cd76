"""A run whose process was killed: found, and finished as far as it can be.

Its attempts are on the disk, and its manifest says how far it had come. Attempts are counted up to
the moment at which all workers were last seen alive. Then the histories are put together, and the
database is checked against the acknowledged writes and moved or removed as after any run. Each step
may be done again, so that `recover` can itself be killed.

Run folders and temporary folders may be forged. A run folder and a temporary one belong together
where each names the other and both have the same id. A folder cannot make code run: a user's own
file is loaded only where it is trusted (workloads.engines.registry).
"""

from __future__ import annotations

import contextlib
import os
import shlex
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from workloads import records as rec
from workloads.engines import REGISTRY as ENGINES
from workloads.engines import find_engine, forsake
from workloads.errors import (
    EngineMissing,
    FolderUnwritable,
    NotTrusted,
    PlanError,
    RunError,
    UnknownName,
)
from workloads.files import (
    NAME,
    InUse,
    Owner,
    Temporary,
    boot_id,
    empty,
    hold,
    holding,
    in_use,
    read_owner,
    resolved,
)
from workloads.processes import POLL_S, RESERVE, SUFFIX
from workloads.records import (
    MANIFEST,
    EngineEntry,
    FindingEntry,
    Manifest,
    UnderWay,
    Window,
    read_manifest,
    write_manifest,
)
from workloads.runs import machine
from workloads.runs.conduct import finish
from workloads.runs.plan import Plan, complaint_of, file_of
from workloads.runs.putting_away import DATABASE, settle, tidy
from workloads.runs.worker_process import OnProgress

PARENT_KILLED = "parent killed"
"""How a run ended whose own process was killed before it could write that down."""

NOTHING_YET = ("loading", "starting")
"""Stages in which nothing is measured: the folder of such a run is worth nothing."""

ORPHANS_END_S = 45.0
"""How long the processes of a killed one are waited for, s."""

OURS = (
    MANIFEST,
    "worker-*.npy",
    "worker-*.jsonl",
    "*.account.json",
    "*.new",
    f"*{SUFFIX}",
    RESERVE,
    rec.LAST_SEEN,
)
"""All that the folder of a run can hold before anything is measured."""


@dataclass(frozen=True)
class Recovered:
    """The result of recovering a run's folder.

    what : "finished"; "removed", where nothing had been measured; "whole", where nothing was left
    to be done. run : None where it was removed.
    """

    folder: Path
    what: str
    run: rec.Run | None = None


def is_going_on(folder: Path, manifest: Manifest) -> bool:
    """Whether a run that is not over still has a process that works on it."""
    return in_use(folder, _owner(manifest))


def has_ended(folder: Path, manifest: Manifest, wait_s: float) -> bool:
    """Whether nobody works on a run that is not over; children of a killed process are waited for.

    wait_s : how long they are waited for, s. A run whose own process lives is not waited for.
    """
    until = time.monotonic() + wait_s
    while is_going_on(folder, manifest):
        owner = _owner(manifest)
        if owner is None or owner.alive or time.monotonic() >= until:
            return False
        time.sleep(POLL_S)
    return True


def must_be_over(folder: Path, manifest: Manifest) -> None:
    """Raises RunError for a run that is going on, or was interrupted: it is not complete yet."""
    if manifest.under_way is None and manifest.ended != "running":
        return
    if is_going_on(folder, manifest):
        raise RunError(f"{folder}: is still running. Wait until it has ended.")
    raise RunError(
        f"{folder}: was interrupted, its process was killed. "
        f"`cwkit recover {folder}` finishes it; then it can be read."
    )


def recover(folder: Path, *, on_progress: OnProgress | None = None) -> Recovered:
    """Finish a run whose process was killed. May be interrupted at any moment and called again.

    Raises RunError with the way out: for a run that is still going on, or that cannot be read.
    Where its database cannot be checked, that is a finding.
    """
    folder = Path(folder)
    try:
        return _recover(folder, read_manifest(folder), on_progress)
    except OSError as error:
        where = error.filename or folder
        raise FolderUnwritable(f"{where}: cannot be written ({error.strerror}).") from error


def _recover(folder: Path, manifest: Manifest, on_progress: OnProgress | None) -> Recovered:
    with _alone(folder, manifest) as held:
        manifest = read_manifest(folder)  # as it is now, with nobody else at it
        left = manifest.under_way
        if left is None and manifest.ended == "running":
            left = manifest.under_way = UnderWay(stage="measuring")  # an older cwkit's
        with _home_of(folder, manifest) as home:
            if left is None:
                return _again(folder, manifest, held, on_progress)
            if left.stage in NOTHING_YET:
                _forsake(manifest, home)
                _remove(folder)
                _clear(home)
                return Recovered(folder, "removed")
            if left.stage == "finishing":
                settle(folder, manifest, _database(home, folder))
            else:
                _finish(folder, manifest, held, home, on_progress)
            made = rec.read_run(folder)
            if made.manifest.under_way is None:
                _forsake(manifest, home)
                _clear(home)
    return Recovered(folder, "finished", made)


def _finish(
    folder: Path,
    manifest: Manifest,
    held: int,
    home: Temporary | None,
    on_progress: OnProgress | None,
) -> None:
    left = manifest.under_way
    assert left is not None
    plan = _plan(folder, manifest)
    why = _not_to_be_run(plan, manifest, folder) or _missing(folder, home, manifest)
    if not manifest.recovered:  # else it is finished for a second time
        if left.stage == "measuring":
            manifest.window = _seen(folder, manifest)
        manifest.recovered = left.stage
        manifest.ended, manifest.ok = PARENT_KILLED, False
    left.stage = "ending"
    write_manifest(folder, manifest)
    finish(
        folder, os.dup(held), manifest, plan, _database(home, folder),
        unchecked=why, findings=_kept(manifest), on_progress=on_progress,
    )  # fmt: skip


def _again(
    folder: Path,
    manifest: Manifest,
    held: int,
    on_progress: OnProgress | None,
) -> Recovered:
    """A run that is over. If its database could not be checked and was kept, it is checked now."""
    tidy(folder)
    database = folder / DATABASE
    if not manifest.unmade or not database.is_file() or database.is_symlink():
        return Recovered(folder, "whole", rec.read_run(folder))
    plan = _plan(folder, manifest)
    if why := _not_to_be_run(plan, manifest, folder):
        raise RunError(f"{folder}: {why}")
    manifest.under_way, manifest.unchecked = UnderWay(stage="ending"), ""
    kept = _kept(manifest)
    made = finish(
        folder, os.dup(held), manifest, plan, database, findings=kept, on_progress=on_progress
    )
    return Recovered(folder, "finished", made)


def _kept(manifest: Manifest) -> list[FindingEntry] | None:
    """The findings of a run that was over before; None where its workers' accounts hold them."""
    if not _was_over(manifest):
        return None
    return [finding for finding in manifest.findings if finding.checked]


def _was_over(manifest: Manifest) -> bool:
    """Whether the run is one that is checked again: its database lies in its own folder."""
    left = manifest.under_way
    return left is not None and not left.home and bool(manifest.id)


def _plan(folder: Path, manifest: Manifest) -> Plan:
    try:
        return Plan(**manifest.plan.data())
    except ValidationError as error:
        raise RunError(f"{folder}/manifest.json: {complaint_of(error)} It was edited.") from error


# --- who else is at it --------------------------------------------------------------------------


def _owner(manifest: Manifest) -> Owner | None:
    left = manifest.under_way
    return Owner("run", left.pid, left.start_ticks, left.boot_id) if left else None


@contextlib.contextmanager
def _alone(folder: Path, manifest: Manifest) -> Iterator[int]:
    """Hold the run's folder. The children of its killed process take a moment to end.

    Raises RunError where somebody is at it and stays.
    """
    owner = _owner(manifest)
    lives = owner is not None and owner.alive
    try:
        with holding(folder, wait_s=0.0 if lives else ORPHANS_END_S) as held:
            yield held
    except InUse:
        who = f"process {owner.pid}" if owner is not None and lives else "another process"
        raise RunError(
            f"{folder}: is still running ({who}). Wait until it has ended, or end it; then it can "
            "be recovered."
        ) from None


# --- the temporary folder -----------------------------------------------------------------------


@contextlib.contextmanager
def _home_of(folder: Path, manifest: Manifest) -> Iterator[Temporary | None]:
    """The temporary folder of a run, held; None where it is gone, or is not this run's."""
    left = manifest.under_way
    path = Path(left.home) if left is not None and left.home else None
    if path is None or not path.is_absolute() or not NAME.fullmatch(path.name):
        yield None
        return
    try:
        home = Temporary(path, hold(path, wait_s=1.0))
    except (InUse, OSError):
        yield None
        return
    try:
        yield home if _are_one(folder, manifest, read_owner(home.lock)) else None
    finally:
        home.release()


def _are_one(folder: Path, manifest: Manifest, owner: Owner | None) -> bool:
    """Whether a temporary folder is this run's: both have its id, and each names the other.

    The run's folder may have been moved since; a copy of it has no claim.
    """
    if owner is None or not manifest.id or owner.run_id != manifest.id:
        return False
    if owner.run == str(resolved(folder)):
        return True
    return run_of(owner) is None


def run_of(owner: Owner) -> Path | None:
    """The folder of the run that a temporary folder serves, None where it is not there any more."""
    if not owner.run or not owner.run_id:
        return None
    folder = Path(owner.run)
    try:
        return folder if read_manifest(folder).id == owner.run_id else None
    except RunError:
        return None


def _database(home: Temporary | None, folder: Path) -> Path:
    return (home.path if home is not None else folder) / DATABASE


def _forsake(manifest: Manifest, home: Temporary | None) -> None:
    """Remove what the run's database has elsewhere, at somebody else's server."""
    if home is not None and manifest.plan.database in ENGINES:
        forsake(manifest.plan.database, home.path / DATABASE)


def _clear(home: Temporary | None) -> None:
    if home is not None:
        empty(home.path)


def _missing(folder: Path, home: Temporary | None, manifest: Manifest) -> str:
    """Why the database can't be checked against what was acknowledged, "" where it can."""
    left = manifest.under_way
    assert left is not None
    if _keeps_nothing(manifest):
        return ""
    if home is None and not _was_over(manifest):
        if not left.home:
            return "an older cwkit made the run, which did not say where its database was"
        return f"the database is gone, with the temporary folder {left.home} that it was in"
    database = _database(home, folder)
    try:
        there = stat.S_ISREG(database.lstat().st_mode)
    except OSError:
        there = False
    if not there:
        return f"the database is gone from {database.parent}"
    if home is not None and left.boot_id != boot_id():
        return (
            "the machine was started anew since: what an engine had acknowledged need not have "
            "been on the disk, nor what the workers recorded of it"
        )
    return ""


def _keeps_nothing(manifest: Manifest) -> bool:
    """Whether its engine has no file, so that there is nothing to be checked."""
    name = manifest.plan.database
    if name in ENGINES:
        return find_engine(name).file_format == "none"
    return manifest.engines.get(name, EngineEntry()).file_format == "none"


# --- whose code may be run ----------------------------------------------------------------------


def _not_to_be_run(plan: Plan, manifest: Manifest, folder: Path) -> str:
    """Why the plan's engine and scenario cannot check the database, "" where they can. A file of
    the user's is loaded only if it is trusted: a folder alone cannot make code run.
    """
    try:
        engine = find_engine(plan.database)
        plan.shape()
        lacks = engine.missing()
    except NotTrusted as error:
        names = (name for name in (plan.database, plan.scenario) if file_of(name))
        load = " ".join(f"--load {shlex.quote(file_of(name))}" for name in names)
        return f"{error} Then: cwkit recover {folder} {load}"
    except (EngineMissing, PlanError, UnknownName) as error:
        return str(error)
    for name in (plan.database, plan.scenario):
        before = (manifest.machine.files or {}).get(file_of(name))
        if before and machine.digest(Path(file_of(name))) != before:
            return f"{file_of(name)} was changed since the run was made"
    return f"its engine {plan.database} is not to be had here: {lacks}" if lacks else ""


# --- what was measured --------------------------------------------------------------------------


def _seen(folder: Path, manifest: Manifest) -> Window:
    """The window as far as all workers were seen alive in it."""
    window = manifest.window
    start, measure, stop = window.start_ns, window.measure_ns, window.stop_ns
    if not stop:  # an older cwkit's, which wrote no window before the end
        pieces = (one for _, rows in _rows(folder, manifest) for one in rows.pieces())
        start = min((one["start_ns"].min() for one in pieces), default=0)
        measure = start + int(manifest.plan.warmup_s * 1e9)
        stop = measure + int(manifest.plan.duration_s * 1e9)
    seen = rec.last_seen(folder) or _all_alive(folder, manifest)
    end = min(max(seen, measure), stop)
    return Window(start_ns=int(start), measure_ns=int(measure), stop_ns=int(end))


def _all_alive(folder: Path, manifest: Manifest) -> int:
    """A moment at which every worker was alive, by their own rows: 0 where one has none."""
    # An attempt that is open has no end, but its worker was alive when it began it.
    ends = {
        worker: max(int(max(one["end_ns"].max(), one["start_ns"].max())) for one in rows.pieces())
        for worker, rows in _rows(folder, manifest)
    }
    working = [entry.worker for entry in manifest.workers if entry.role != "checkpointer"]
    return min((ends.get(worker, 0) for worker in working), default=0)


def _rows(folder: Path, manifest: Manifest) -> Iterator[tuple[int, rec.Rows]]:
    for entry in manifest.workers:
        with contextlib.suppress(RunError):
            rows = rec.StoredRows(folder, entry.worker)
            if len(rows):
                yield entry.worker, rows


# --- a run that never measured ------------------------------------------------------------------


def _remove(folder: Path) -> None:
    """Remove a run in which nothing was measured: its own files, the manifest last.

    Raises RunError where something else is there, and then removes nothing.
    """
    ours = {path for pattern in OURS for path in folder.glob(pattern)}
    if others := sorted(set(folder.iterdir()) - ours):
        raise RunError(
            f"{folder}: nothing was measured in it, but it is not removed, for {others[0].name!r} "
            "in it is none of ours. Move that elsewhere, then recover it again."
        )
    for path in sorted(ours, key=lambda path: path.name == MANIFEST):
        path.unlink(missing_ok=True)
    folder.rmdir()
