"""The agent: a dask worker's part. It describes itself, runs a cell, and hands over the files.

`workloads.cluster.conduct` calls these functions there, by their names: both sides need the same
checkout, which the conductor checks by `who`. `cell` is a task, one at a time; the others are
answered at once while it runs. When a conductor falls silent, its cell is ended.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import platform
import selectors
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workloads.engines import find_engine, trust
from workloads.errors import FolderUnwritable, RunError
from workloads.experiments import (
    ERRORS,
    ORPHANS_END_S,
    TEMPLATES,
    Cell,
    CellProcess,
    Design,
    begin,
    end_all,
)
from workloads.files import FORMAT_VERSION, LOCK_FILE, ROOT, Held, inside, locked, opened, within
from workloads.runs import commit, digest, source
from workloads.runs import identity as machine_identity

LAPSE_S = 30.0
"""A conductor that was silent for so long is gone, s."""

POLL_S = 0.25


@dataclass
class _Visit:
    """One conductor's stay with this worker."""

    folder: Path
    last_beat: float = field(default_factory=time.monotonic)
    stop: threading.Event = field(default_factory=threading.Event)
    running: threading.Lock = field(default_factory=threading.Lock)
    progress: dict[str, Any] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        return self.stop.is_set() or time.monotonic() - self.last_beat > LAPSE_S


_visits: dict[str, _Visit] = {}


LOADED = source()
"""The hash of the code that this process imported. Cells import theirs later: it may be newer."""


def who(engines: Sequence[str], files: Sequence[str]) -> dict[str, Any]:
    """This machine's identity, its CPUs, and the code and engines that would run here. Plain data.

    engines : names, whose identities are returned. files : the user's, "" where one is not there.
    """
    import dask

    _quiet()
    # Named to the conductor, on its command line or in its sweep file, or it would not ask.
    trust(*files, *(ROOT / name for name in files))
    return {
        "id": machine_identity(),
        "cpus": sorted(os.sched_getaffinity(0)),
        "pid": os.getpid(),
        "commit": commit.__wrapped__(),
        "source": source(),
        "loaded": LOADED,
        "format": FORMAT_VERSION,
        "python": platform.python_version(),
        "engines": {name: _engine(name) for name in engines},
        "files": {name: digest(ROOT / name) for name in files},
        "profiled": bool(dask.config.get("distributed.worker.profile.enabled", True)),
    }


def _engine(name: str) -> str:
    try:
        engine = find_engine(name)
        if (lacks := engine.missing()) is not None:
            return f"not to be had: {lacks}"
        identity = engine.identity()
    except Exception as error:  # said, and compared as it is
        return f"{type(error).__name__}: {error}"
    return " ".join(filter(None, (identity.binding, identity.version, identity.source_id)))


def beat(token: str, dask_worker: Any = None) -> dict[str, Any]:
    """The conductor is still there. Whether its cell runs, and how it goes."""
    visit = _visit(token, dask_worker)
    visit.last_beat = time.monotonic()
    return {"running": visit.running.locked(), "progress": dict(visit.progress)}


def stop(token: str, dask_worker: Any = None) -> None:
    """End this conductor's cell, in order; `beat` shows when that is done."""
    _visit(token, dask_worker).stop.set()


def forget(token: str) -> None:
    """The conductor needs nothing any more."""
    if visit := _visits.pop(token, None):
        visit.stop.set()
        if not visit.running.locked():
            shutil.rmtree(visit.folder, ignore_errors=True)


def piece(token: str, name: str, file: str, at: int, count: int) -> bytes | None:
    """`count` bytes of a file of a run from byte `at`; None where it can't be read any more."""
    try:
        with opened(within(inside(_visits[token].folder, name), file)) as part:
            part.seek(at)
            return part.read(count)
    except (KeyError, OSError, RunError):
        return None


def cell(job: Mapping[str, Any]) -> dict[str, Any]:
    """Run one cell in a folder of this worker, and return its state and the files it left.

    job : "token", "pid" and "cpus" of the worker it was given to, "design" (Design's fields),
    "block", "arm", "how" (as for `run_cell`), "databases" ("": a temporary folder).
    Returns "state", "reason", "took_s" and "files" ((path within the run folder, bytes) each); or
    "error" and "message", for the user to mend; or "stopped"; or "moved", where this is not the
    process that the cell was given to (dask runs a task again where it lost the first).
    """
    from distributed import get_worker

    if job["pid"] != os.getpid():
        return {"moved": True}
    visit = _visit(job["token"], get_worker())
    visit.last_beat = time.monotonic()  # it has just given us this
    with visit.running:
        _forget_the_gone(job["token"])
        try:
            made = _run(job, visit)
        except tuple(ERRORS.values()) as error:
            return {"error": type(error).__name__, "message": str(error)}
        finally:
            visit.progress = {}
    if made is None:
        return {"stopped": True}
    answer = {"state": made.state, "reason": made.reason, "took_s": made.took_s, "files": []}
    if made.folder is not None:
        paths = [path for path in sorted(made.folder.rglob("*")) if path.is_file()]
        answer["run"] = made.folder.name
        answer["files"] = [
            (path.relative_to(made.folder).as_posix(), path.stat().st_size) for path in paths
        ]
    return answer


def _visit(token: str, worker: Any) -> _Visit:
    """The visit of one conductor. dask deletes its folder when the worker process ends."""
    if token not in _visits:
        _visits[token] = _Visit(Path(worker.local_directory) / f"cwkit-{token}")
    return _visits[token]


def _forget_the_gone(token: str) -> None:
    """Remove the folders of other conductors that are gone without a `forget`."""
    for other, visit in list(_visits.items()):
        if other != token and visit.over and not visit.running.locked():
            forget(other)


def _run(job: Mapping[str, Any], visit: _Visit) -> Cell | None:
    """The cell in a process of its own; None where its conductor stopped it or is gone."""
    design, block, arm = Design(**job["design"]), int(job["block"]), str(job["arm"])
    folder = visit.folder
    databases = Path(job["databases"]) if job["databases"] else None
    if databases is not None and not databases.is_dir():
        raise FolderUnwritable(f"{databases}: there is no such folder (--databases).")
    _leave_only(folder, TEMPLATES, LOCK_FILE)  # the last cell's run has been fetched
    begin(design, folder)
    with _alone_on(job, visit) as held:
        if held is None:
            return None
        running = CellProcess(
            folder,
            block,
            arm,
            design.arms[arm],
            cpus=job["cpus"],
            databases=databases,
            how=job["how"],
            inherit=held,
            within=ROOT,
        )
        try:
            return running.outcome() if _followed(running, visit) else None
        finally:
            end_all([running])


def _leave_only(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.name in names:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _followed(running: CellProcess, visit: _Visit) -> bool:
    """Listen until it ends by itself; False where it must be ended before."""
    with selectors.DefaultSelector() as selector:
        selector.register(running, selectors.EVENT_READ)
        while not visit.over:
            if selector.select(POLL_S):
                data = os.read(running.fileno(), 1 << 16)
                if not data:
                    return True
                for progress in running.hear(data):
                    visit.progress = dataclasses.asdict(progress)
            if running.late:
                running.process.kill()
    return False


@contextlib.contextmanager
def _alone_on(job: Mapping[str, Any], visit: _Visit) -> Iterator[tuple[int, ...] | None]:
    """Hold these CPUs among all the dask workers of this machine; gives the open files.

    A worker that was killed leaves a cell that takes a moment to end; one that was started again
    at once would run the next beside it. Gives None where the conductor stopped it meanwhile.
    """
    room = Path(tempfile.gettempdir()) / f"cwkit-cpus-{os.getuid()}"
    try:
        room.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise FolderUnwritable(f"{room}: cannot be written ({error.strerror}).") from error
    cpus = () if job["how"]["oversubscribed"] else tuple(job["cpus"])
    until = time.monotonic() + ORPHANS_END_S
    while not visit.over:
        with contextlib.ExitStack() as stack:
            try:
                held = tuple(stack.enter_context(locked(room, cpu)) for cpu in cpus)
            except Held:
                if time.monotonic() > until:
                    raise RunError(
                        f"Another cell has been running on CPUs {_listed(cpus)} for "
                        f"{ORPHANS_END_S:.0f} s. Wait until it has ended, or start the worker on "
                        "other CPUs."
                    ) from None
            else:
                yield held
                return
        time.sleep(POLL_S)
    yield None


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


class _NotOurs(logging.Filter):
    """Drops the line that a dask worker logs for each call: a `beat` every few seconds."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.msg == "Run out-of-band function %r" and record.args in OURS)


OURS = tuple((function.__name__,) for function in (who, beat, stop, forget, piece))


def _quiet() -> None:
    logger = logging.getLogger("distributed.worker")
    if not any(type(there).__name__ == "_NotOurs" for there in logger.filters):
        logger.addFilter(_NotOurs())
