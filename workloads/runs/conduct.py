"""A run is conducted here from its plan to its folder: processes are started, watched and ended.

The parent opens no database. It starts a process to load it, one for each worker (or one for all
where the engine locks its file to one process), and one to check it afterwards, and it waits for
none of them without a limit.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import stat
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from workloads import records as rec
from workloads.engines import Link, Server, find_engine, logs_of, parse_network
from workloads.errors import FolderUnwritable, ModeRefused, RunError, RunFailed, TooLong
from workloads.files import ROOT, Temporary, hold, make, replacing, resolved, this_process, visible
from workloads.processes import (
    RESERVE,
    SUFFIX,
    ChildProcess,
    describe_end,
    end,
    give_back,
    hold_back,
    keep,
    path_of,
    read_account,
    reserve,
    wait,
)
from workloads.records import (
    Conduct,
    EngineEntry,
    FindingEntry,
    Foreign,
    Layout,
    Machine,
    Manifest,
    NetworkEntry,
    ScenarioEntry,
    ServerEntry,
    TroubleEntry,
    UnderWay,
    WalEntry,
    Window,
    WorkerEntry,
    write_manifest,
)
from workloads.runs import control as control_block
from workloads.runs import machine
from workloads.runs.control import ControlBlock
from workloads.runs.fault_effects import KILLED, went_on
from workloads.runs.faults import Faults, RunUnderWay
from workloads.runs.monitor import ALL_KILLED, SERVER_ENDED, Follower, dead
from workloads.runs.page_cache import drop
from workloads.runs.plan import Plan
from workloads.runs.trouble import beyond_faults, troubles
from workloads.runs.wal import WalWatch
from workloads.runs.ways import pool_of
from workloads.runs.worker import places_of
from workloads.runs.worker_process import OnProgress, Progress, start
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

START_LIMIT_S = 120.0
LEAD_NS = 30_000_000
BESIDE_LIMIT_S = 10.0
"""Between the manifest that tells the window and its beginning: the gate opens in it."""

CAUSES_OF_FAILURE = {
    "full": "its disk, or the database, is full; free some space, or give another folder with "
    "--databases",
    "io": "reading or writing the database there failed; give another folder with --databases",
    "limit": "the database met a limit of the engine or of the system",
}
"""Why the loading or the checking process failed, by its cause, as the end of a sentence."""

DATABASE = "database.db"
ENDED_WITH_IT = "it ended with the run's process, which was killed"
CORRUPT = ("malformed", "not a database", "corrupt")
"""Parts of the messages by which engines say that a file is no sound database any more."""


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
    making = _Making(plan, folder, home, held, manifest, on_progress or (lambda progress: None))
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
        making._stop_serving(keep=True)
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
) -> _Making:
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
        return _Making(plan, folder, home, held, manifest, on_progress)
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


class _Making:
    """A run while it is made. The public doors are `run`, and `finish` for one that was killed.

    home : the temporary folder of this process. held : the lock of the run's folder.
    """

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        home: Temporary,
        held: int,
        manifest: Manifest,
        on_progress: OnProgress,
    ) -> None:
        self.plan, self.folder, self.home, self.manifest = plan, folder, home, manifest
        self.on_progress = on_progress
        self.cpus: tuple[int, ...] = ()
        self.conductor = 0
        self.held = held
        self.inherit: tuple[int, ...] = (home.lock, held)
        self.children: list[ChildProcess] = []
        self.ended = "duration"
        self.foreign: dict[str, Any] = manifest.foreign.data()
        self.wal: WalWatch | None = None
        self.pressure: dict[str, dict[str, float]] | None = None
        self.findings: list[FindingEntry] = []
        self.loaded: dict[str, Any] = {}
        self.server: Server | None = None
        self.link: Link | None = None
        self.database = home.path / DATABASE
        self.places = places_of(plan)
        self.hung: list[int] = []
        window = manifest.window
        self.window = (window.start_ns, window.measure_ns, window.stop_ns)
        self.keep_database = self.killed = self.record_changes = False
        self.faults: Faults | None = None
        self.beside: Callable[[RunUnderWay], None] | None = None

    @cached_property
    def null(self) -> bool:
        """Whether the engine keeps nothing: then there is nothing to load, and nothing to check."""
        return find_engine(self.plan.database).file_format == "none"

    @property
    def _whole(self) -> bool:
        """Whether the run ended as its plan says, as far as is known by now."""
        return self.ended in ("duration", "transactions", ALL_KILLED)

    def _groups(self) -> list[tuple[int, ...]]:
        """The numbers of the workers in each process of theirs."""
        return [child.workers for child in self.children if child.workers]

    def _killed_by_faults(self) -> set[int]:
        """The workers that a fault has ended, as was asked."""
        return self.faults.killed(self._groups()) if self.faults else set()

    @cached_property
    def patience_s(self) -> float:
        return self.plan.patience_s()

    def write_job(self) -> None:
        self.control = ControlBlock(self.home.path / "control.bin", len(self.places), create=True)
        job = {
            "plan": self.plan.model_dump(mode="json"),
            "folder": str(resolved(self.folder)),
            "database": str(self.database),
            "control": str(self.control.path),
            "parent": os.getpid(),
        }
        (self.home.path / "job.json").write_text(json.dumps(job), encoding="utf-8")

    def _reserve(self) -> None:
        """Reserve room for the accounts, which are written last, when the disk may be full."""
        hold_back(self.folder)
        for who in ("check", *(f"worker-{worker:03d}" for worker in range(len(self.places)))):
            reserve(self.folder, who)

    # -- processes ----------------------------------------------------------------------------

    def _start(self, name: str, *argv: str, workers: tuple[int, ...] = ()) -> ChildProcess:
        # Only a program that is started anew takes a library before libc.
        faults = self.faults.environment(workers[0]) if self.faults and workers else None
        child = start(
            self.home.path,
            name,
            *argv,
            into=self.folder,
            method="exec" if faults else self.plan.start,
            workers=workers,
            inherit=self.inherit,
            environment=faults,
        )
        self.children.append(child)
        return child

    def _errand(self, name: str, limit_s: float, phase: str) -> dict[str, Any]:
        """Run `load` or `check` in a process of its own. Raises RunFailed with its last words."""
        self.control.at(0)  # until it says so itself
        child = self._start(name, name)
        status = wait(child, limit_s, lambda s: self.on_progress(self._progress(phase, s)))
        if status is None:
            at = self._progress(phase, limit_s).describe()
            kind = "load" if name == "load" else "check"
            raise TooLong(
                f"{phase.capitalize()} the database with {self.plan.database} took longer than the "
                f"limit of {limit_s:g} s{at and f' ({at})'}. Give it longer with --{kind}-limit "
                f"({kind}_limit_s of a sweep's file)"
                f"{', or load fewer rows with --rows' if name == 'load' else ''}."
            )
        if status != 0:
            account = self._account(name)
            reason = str(account.get("failed") or describe_end(child))
            if why := self._server_ended():
                raise RunFailed(f"{phase.capitalize()} the database: {SERVER_ENDED} ({why}).")
            if cause := CAUSES_OF_FAILURE.get(str(account.get("cause"))):
                raise FolderUnwritable(f"{self.home.path.parent}: {cause} ({reason}).")
            did = "put the histories together" if name == "history" else f"{name} the database"
            raise RunFailed(
                f"{self.plan.database} could not {did}: {reason}",
                child.stderr_text(),
            )
        return self._account(name)

    def _progress(self, phase: str, elapsed_s: float) -> Progress:
        """How far the process that loads or checks is, as it says itself."""
        step, done, of = (
            int(self.control.numbers[n])
            for n in (control_block.STEP, control_block.DONE, control_block.OF)
        )
        name = control_block.STEPS[step] if 0 <= step < len(control_block.STEPS) else ""
        return Progress(phase, elapsed_s=elapsed_s, step=name, done=done, of=of)

    def _account(self, who: str) -> dict[str, Any]:
        return read_account(self.folder, who)

    # -- the steps of a run -------------------------------------------------------------------

    def load(self, template: Path | None) -> None:
        self.write_job()
        self._reserve()
        self._at("loading")
        if self.null:
            return
        if template is not None:
            for path in template.glob(f"{DATABASE}*"):
                if path.is_dir():
                    shutil.copytree(path, self.home.path / path.name, symlinks=True)
                else:
                    shutil.copyfile(path, self.home.path / path.name)
            self._to_disk()
            self.serve()
            self.loaded = json.loads((template / "load.json").read_text(encoding="utf-8"))
            return
        self.serve()
        self.loaded = self._errand("load", self.plan.load_limit_s, "loading")
        if refused := self.loaded.get("refused"):
            raise ModeRefused(*refused)
        self._to_disk()
        (self.home.path / "load.json").write_text(json.dumps(self.loaded), encoding="utf-8")

    def serve(self) -> None:
        """Start the server of the database, where its engine is one."""
        if serve := getattr(find_engine(self.plan.database), "serve", None):
            self.server = serve(self.database, self.plan.settings(), self.inherit)
            if (about := getattr(self.server, "about", None)) is not None:
                self.manifest.server = ServerEntry(**about())

    def _stop_serving(self, *, keep: bool) -> None:
        """End the server. keep : its data, which then lie beside the database's path."""
        server, self.server = self.server, None
        if server is not None:
            server.close(keep=keep)

    def _lay_network(self) -> None:
        """Lead the workers' connections through the network that the plan asks for.

        Loading and checking take the nearest way: nothing of them is measured.
        """
        if not self.plan.network:
            return
        assert self.server is not None
        asked, to = parse_network(self.plan.network), self.server.endpoint
        if asked is None:
            self.server.redirect(to[1])
            return
        said = path_of(self.folder, "relay")
        self.link = Link(asked, to, said, seed=self.plan.seed, inherit=self.inherit)
        self.server.redirect(self.link.port)

    def _measure_network(self) -> None:
        if self.link is not None:
            asked_ms = self.link.asked.rtt_s * 1e3
            self.manifest.network = NetworkEntry(asked_ms=asked_ms, **self.link.measure())

    def _end_network(self) -> None:
        """End the relay, which first says what it did. Whoever connects now goes the direct way."""
        link, self.link = self.link, None
        if link is None:
            return
        entry = (self.manifest.network or NetworkEntry()).data()
        try:
            self.manifest.network = NetworkEntry(**entry | link.count())
        except RunFailed as failed:
            self.manifest.network = NetworkEntry(**entry | {"failed": str(failed)})
            if self._whole:
                self.ended = "the network's relay failed"
        finally:
            link.close()
        if self.server is not None:
            self.server.redirect(self.server.endpoint[1])

    def _server_ended(self) -> str:
        return self.server.ended() if self.server is not None else ""

    def _to_disk(self) -> None:
        """Have the loaded database on the disk before the run, not in it.

        Left to the first fsync of the run, the copy's dirty pages are charged to whoever commits
        first: one run in a hundred stood still for its first tenth of a second, one for all of it.
        """
        for path in self.home.path.glob(f"{DATABASE}*"):
            if path.is_file():  # a server's folder is its own matter
                with path.open("rb") as file:
                    os.fsync(file.fileno())

    def cool(self) -> None:
        """Have the loaded database read from the disk, where the plan asks for that."""
        if self.plan.cache == "cold" and not self.null:
            self.manifest.cached = drop(self.home.path, f"{DATABASE}*")

    def start(self) -> None:
        """Start every worker and wait until each has its connection and its row file."""
        self.manifest.layout = Layout(loaded=self.loaded.get("layout", {}))
        self._at("starting")
        self._lay_network()
        if self.plan.fault or self.record_changes:
            self.faults = Faults(
                self.home.path, self.folder, self.database, self.plan.rules(), self.record_changes
            )
        threads: dict[str, list[int]] = {}
        pooled = pool_of(self.plan.connection)
        for worker, (role, engine, _) in enumerate(self.plan.roles()):
            borrows = pooled and role != "checkpointer"
            if borrows or find_engine(engine).hosting == "thread":
                threads.setdefault(engine, []).append(worker)
            else:
                self._start(f"worker-{worker:03d}", "work", str(worker), workers=(worker,))
        for workers in threads.values():
            # By number: the name of an engine may be the path of a file in another folder.
            name = f"worker-{workers[0]:03d}"
            self._start(name, "work", *map(str, workers), workers=tuple(workers))
        begun = time.monotonic()
        while True:
            statuses = [self.control.status(worker) for worker in range(len(self.places))]
            elapsed = time.monotonic() - begun
            ready = sum(status != control_block.STARTING for status in statuses)
            # Told once at least, however fast they are.
            self.on_progress(Progress("starting", elapsed, alive=ready, workers=len(self.places)))
            if ready == len(statuses):
                break
            if elapsed > START_LIMIT_S or dead(self.children, self.control):
                break
            time.sleep(0.01)
        self._nobody_refused(statuses)
        self._measure_network()

    def _nobody_refused(self, statuses: list[int]) -> None:
        for worker, status in enumerate(statuses):
            _, engine, mode = self.plan.roles()[worker]
            message = str(self._account(f"worker-{worker:03d}").get("account", ""))
            if status == control_block.REFUSED:
                raise ModeRefused(engine, mode, message)
            if status == control_block.NOT_RECORDED:
                raise FolderUnwritable(
                    f"{self.folder.parent}: attempts cannot be recorded there ({message}). "
                    "Free some space, or give another folder with --runs."
                )

    @property
    def _stuck(self) -> bool:
        statuses = [self.control.status(worker) for worker in range(len(self.places))]
        return any(status != control_block.READY for status in statuses)

    def announce_window(self) -> None:
        """Fix the window and write it into the manifest before the gate opens. A run whose process
        is killed in its window is counted by it. Raises OSError.
        """
        lead_ns = LEAD_NS
        while not self._stuck:
            start = time.monotonic_ns() + lead_ns
            measure = start + int(self.plan.warmup_s * 1e9)
            self.window = start, measure, measure + int(self.plan.duration_s * 1e9)
            self._at("measuring")
            if time.monotonic_ns() < start - LEAD_NS // 2:
                return
            lead_ns *= 2  # a slow disk, or a busy machine

    def watch(self) -> None:
        """Open the gate and follow the run to its end."""
        plan, numbers = self.plan, self.control.numbers
        if self._stuck:
            why = self._server_ended()
            self.ended = f"{SERVER_ENDED}: {why}" if why else "worker could not start"
            now = time.monotonic_ns()
            self.window = (now, now, now)
            return
        start, measure, stop = self.window
        follower = Follower(
            plan, self.folder, self.database, self.places, self.control, self.children,
            self.patience_s, self.on_progress, self.cpus, self.conductor,
            (self.link.pid,) if self.link is not None else (), self.server,
            self._killed_by_faults,
        )  # fmt: skip
        disturbing = self._disturbing()
        try:
            numbers[control_block.START_NS], numbers[control_block.MEASURE_NS] = start, measure
            numbers[control_block.STOP_NS] = stop
            if self.link is not None:
                self.link.opened(measure)
            if self.faults is not None:
                self.faults.arm()
            numbers[control_block.STATE] = control_block.GO
            with disturbing:
                self.window = follower.follow(start, measure, stop)
            self.ended = follower.ended
        except KeyboardInterrupt:
            self.ended = "interrupted"
            self.window = (start, measure, min(max(time.monotonic_ns(), measure), stop))
        self.hung, self.foreign = follower.hung, follower.foreign
        self.wal, self.pressure = follower.wal, follower.pressure

    @contextlib.contextmanager
    def _disturbing(self) -> Iterator[None]:
        """Have what somebody asked for happen beside the window, and be over with it."""
        if self.beside is None:
            yield
            return
        pids = {worker: child.process.pid for child in self.children for worker in child.workers}
        under_way = RunUnderWay(self.database, pids, self.window, self.faults)
        thread = threading.Thread(target=self.beside, args=(under_way,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            under_way.over.set()
            thread.join(BESIDE_LIMIT_S)

    def conclude(self) -> None:
        """Everything after the window. An interrupt ends no step half way: the run is then an
        interrupted one, with all that it has. A second one during the same step leaves the rest to
        `cwkit recover`.
        """
        for step in (self.close, self.collect_findings, self.check, self.judge, self.settle):
            try:
                step()
            except KeyboardInterrupt:
                self.ended = self.manifest.ended = "interrupted"
                self.manifest.ok = False
                step()

    def close(self) -> None:
        """Close the gate; end whoever does not end by itself."""
        self.control.numbers[control_block.STATE] = control_block.STOP
        if self.wal is not None:
            rec.write_wal_track(self.folder, self.wal.track())
        self._at("ending")
        # A second Ctrl-C must not leave processes behind: `run` reaps in any case.
        limit_s = self.plan.deadline_s
        self._end_all(min(limit_s, 5.0) if self.ended == "worker could not start" else limit_s)
        if self.faults is not None:
            self.manifest.faults = self.faults.end()
        self._end_network()

    def _end_all(self, limit_s: float) -> None:
        until = time.monotonic() + limit_s
        for child in self.children:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.process.wait(max(until - time.monotonic(), 0.01))
        for child in self.children:
            if child.process.poll() is None:
                self.hung = [*self.hung, *child.workers]
                if self._whole:
                    self.ended = "worker hung"
                end(child.process)

    def collect_findings(self) -> None:
        """Take the findings that workers made during the run, from their accounts and messages."""
        self.findings = []
        for worker, account in enumerate(self._accounts()):
            if account.get("state") == "invariant broken":
                self.findings.append(
                    FindingEntry(
                        check="during the run",
                        ok=False,
                        sentence=account["account"],
                        evidence=account.get("evidence", {}) | {"worker": worker},
                    )
                )
        self.findings += self._unreadable()

    def check(self) -> None:
        """Have the database checked, whatever happened, unless nothing was ever written."""
        try:
            self._at("checking")
            if self.null:
                return
            if (why := self._server_ended()) and not self._is_there_again():
                self.not_checked(f"its server ended ({why})")
                return
            account = self._errand("check", self.plan.check_limit_s, "checking")
            self.findings += [FindingEntry(**finding) for finding in account["findings"]]
            layout = self.manifest.layout.data() | {"left": account.get("layout", {})}
            self.manifest.layout = Layout(**layout)
        except (RunFailed, KeyError) as error:
            self._unchecked(error)
        except KeyboardInterrupt:
            if self.killed:
                raise  # it is tried again
            self.ended = "interrupted"
            self._unmade("its check was interrupted")

    def _is_there_again(self) -> bool:
        """Start the server that died in the run again, where all that it acknowledged must be there
        then. What it may forget is no fault of its, and shows nothing.
        """
        if self.server is None or not self.server.remembers:
            return False
        self.server.start_again()
        return True

    def _unchecked(self, error: Exception) -> None:
        """Note that the checking process failed. Either the database is corrupt, which is a
        finding, or nothing is known of it.
        """
        reason = str(error)
        if any(sign in reason for sign in CORRUPT):
            self.findings.append(FindingEntry(check="readable", ok=False, sentence=reason))
            return
        self._unmade(reason)
        if self._whole:
            killed = (self.children[-1].process.returncode or 0) < 0 and not isinstance(
                error, TooLong
            )
            self.ended = "check killed" if killed else "not checked"

    def not_checked(self, why: str) -> None:
        """Read the history alone."""
        self._at("checking")
        self._unmade(why)
        if logs_of(self.folder):
            try:
                account = self._errand("history", self.plan.check_limit_s, "checking")
                self.findings += [FindingEntry(**finding) for finding in account["findings"]]
            except (RunFailed, KeyError) as error:
                self._unmade(str(error), "history")

    def _unmade(self, why: str, check: str = "database") -> None:
        sentence = f"not checked: {why}"
        self.manifest.unchecked = why
        self.findings.append(FindingEntry(check=check, ok=False, checked=False, sentence=sentence))

    def _unreadable(self) -> list[FindingEntry]:
        """A finding for each message by which an engine told a worker that the file is corrupt."""
        found = []
        for worker, (role, number) in enumerate(self.places):
            for message in rec.read_messages(self.folder, worker):
                if any(sign in message for sign in CORRUPT):
                    found.append(
                        FindingEntry(
                            check="readable during the run",
                            ok=False,
                            sentence=f"{role} {number} ({self.plan.roles()[worker][1]}) was "
                            f"told: {message}",
                            evidence={"worker": worker},
                        )
                    )
        return found

    def _accounts(self) -> list[dict[str, Any]]:
        """The accounts of all workers, {} for one that left none."""
        return [self._account(f"worker-{worker:03d}") for worker in range(len(self.places))]

    def _entry(self, worker: int, written: Mapping[str, Any]) -> WorkerEntry:
        """One worker's part of the manifest, from its account and from how its process ended."""
        role, engine, mode = self.plan.roles()[worker]
        child = next((c for c in self.children if worker in c.workers), None)
        before = next((e for e in self.manifest.workers if e.worker == worker), None)
        if before is not None and child is None and not written:
            return self._as_it_was(before)
        state, account = written.get("state", "never started"), written.get("account", "")
        if worker in self._killed_by_faults() and state != "finished":
            state, account = KILLED, account or (describe_end(child) if child else "")
        elif worker in self.hung:
            state = "hung"
            account = f"ended by the run: {self.patience_s:g} s without an answer"
        elif child is not None and child.process.poll() and state in ("died", "never started"):
            state = "died"
            account = account or describe_end(child)
        elif account:
            pass  # its own account: of what it died, or how it ended
        elif child is not None and child.process.poll() is None and state == "died":
            state = "running"
        elif self.killed and state == "died":
            state, account = "interrupted", ENDED_WITH_IT
        return WorkerEntry(
            worker=worker,
            role=role,
            number=self.places[worker][1],
            engine=engine,
            begin=mode,
            pid=child.process.pid if child else before.pid if before else 0,
            state=state,
            account=account,
            opened=rec.segment_path(self.folder, worker, 0).exists(),
            pragmas=written.get("pragmas", {}),
            loop=written.get("loop", ""),
            cpu_s=written.get("cpu_s"),
            cpus=written.get("cpus", ()),
            idle_checkpoints=written.get("idle_checkpoints", 0),
            busy_checkpoints=written.get("busy_checkpoints", 0),
            reconnects=written.get("reconnects", 0),
            met=written.get("met"),
            start=written.get("start"),
        )

    def _as_it_was(self, before: WorkerEntry) -> WorkerEntry:
        """The earlier entry of a worker that left no whole account, as the manifest has it."""
        if self.killed and before.state in ("died", "running"):
            return before.model_copy(update={"state": "interrupted", "account": ENDED_WITH_IT})
        return before

    def _at(self, stage: str) -> None:
        """Write into the manifest how far the run is. If this process is killed, `recover` goes on
        from there.
        """
        assert self.manifest.under_way is not None, "it is over"
        self.manifest.under_way.stage = stage
        self.manifest.under_way.keep_database = self.keep_database
        self._fill_manifest()
        try:
            write_manifest(self.folder, self.manifest)
        except OSError:
            # Later a manifest is only a note until the last one, which has its room reserved.
            if stage in ("loading", "starting", "measuring"):
                raise

    def _fill_manifest(self) -> None:
        """Bring the manifest up to date."""
        start, measure, stop = self.window
        engines = {name: entry.data() for name, entry in self.manifest.engines.items()}
        engines.setdefault(self.plan.database, {})
        if identity := self.loaded.get("identity"):
            engines[self.plan.database] = identity
        accounts = self._accounts()
        for account, (_, engine, _) in zip(accounts, self.plan.roles(), strict=True):
            if account.get("identity"):
                engines[engine] = account["identity"]
        manifest = self.manifest
        manifest.workers = [self._entry(worker, written) for worker, written in enumerate(accounts)]
        manifest.engines = {name: EngineEntry(**identity) for name, identity in engines.items()}
        manifest.window = Window(start_ns=start, measure_ns=measure, stop_ns=stop)
        manifest.foreign = Foreign(**self.foreign)
        manifest.findings = self.findings
        if self.wal is not None:
            manifest.wal_bytes_max = self.wal.bytes_max
            wal = self.wal.data()
            manifest.wal = WalEntry(**wal) if wal else None
        if self.pressure is not None:
            manifest.pressure = self.pressure

    def judge(self) -> None:
        """Decide how the run ended, and write it down. After that, things are only put away."""
        entries = [self._entry(worker, written) for worker, written in enumerate(self._accounts())]
        well = all(entry.state in ("finished", KILLED) for entry in entries)
        if well and self._whole and self._nothing_committed():
            self.ended = "nothing was committed"
        give_back(self.folder)
        self._fill_manifest()
        found = troubles(rec.read_workers(self.folder, self.manifest))
        if self.faults is not None and self.plan.fault:
            found = beyond_faults(found, self._of_faults())
        self.manifest.troubles = [TroubleEntry(**asdict(one)) for one in found]
        self.manifest.ended = self.ended
        good = well and not found and all(finding.ok for finding in self.findings)
        self.manifest.ok = good and self._whole
        self._at("finishing")

    def _of_faults(self) -> int:
        """Note what the faults did. Returns how many attempts they may have let fail."""
        assert self.faults is not None
        faults, groups = self.faults, self._groups()
        workers = tuple(rec.read_workers(self.folder, self.manifest))
        self.manifest.faults = faults.entries(workers, groups)
        on = went_on(
            faults.rules, faults.hits, workers, groups, stop_ns=self.window[2],
            patience_ns=int(self.plan.busy_timeout_ms * 1e6),
        )  # fmt: skip
        if on is not None and not any(one.check == on.check for one in self.findings):
            self.findings.append(on)
        failing = sum(
            entry.fired
            for entry, rule in zip(self.manifest.faults, faults.rules, strict=True)
            if rule.fails
        )
        return failing * len(workers)

    def settle(self) -> None:
        """The last steps. Each may be done again by whoever finds them half done."""
        self._stop_serving(keep=_is_kept(self.manifest))
        if _is_wanted(self.manifest) and not _is_kept(self.manifest):
            self.manifest.database_kept = "no: it was on a server that somebody else runs"
        settle(self.folder, self.manifest, self.database)

    def _nothing_committed(self) -> bool:
        """Whether attempts were made and all failed: such a run measured no engine."""
        outcomes: set[int] = set()
        for worker, (role, _) in enumerate(self.places):
            if role != "checkpointer":
                for rows in rec.StoredRows(self.folder, worker).pieces():
                    outcomes |= set(np.flatnonzero(np.bincount(rows["outcome"])).tolist())
        return rec.FAILED in outcomes and rec.COMMITTED not in outcomes

    def abandon(self) -> None:
        """The run did not happen: leave no folder that looks as if it had."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def reap(self) -> None:
        """Leave no process; and no temporary folder, unless something of the run is still in it."""
        for child in self.children:
            if child.process.poll() is None:
                end(child.process)
        if self.link is not None:
            self.link.close()
        if self.faults is not None:
            self.faults.close()
        self._stop_serving(keep=self.manifest.under_way is not None and self.folder.exists())
        os.close(self.held)
        mine = self.database.parent == self.home.path
        if mine and self.manifest.under_way is not None and self.folder.exists():
            self.home.release()  # ended by an error or a second Ctrl-C: `cwkit recover` goes on
        else:
            self.home.remove()


def settle(folder: Path, manifest: Manifest, database: Path) -> None:
    """Put the database of a run that was judged where it belongs, and tidy up.

    It goes into the run's folder where the user asked for that, or as evidence where a check did
    not hold or could not be made. Otherwise it stays where it lies, and its owner removes it.
    Where it cannot be moved, for want of room say, the run stays under way.
    """
    if _is_kept(manifest) and database.parent != folder:
        try:
            for path in sorted(database.parent.glob(f"{DATABASE}*")):
                if stat.S_ISREG(path.lstat().st_mode):
                    _move(path, folder / path.name)
                elif stat.S_ISDIR(path.lstat().st_mode):
                    shutil.move(path, folder / path.name)
        except OSError as error:
            manifest.database_kept = f"no: {error}"
            write_manifest(folder, manifest)
            return
        manifest.database_kept = ""
    for entry in manifest.workers:
        rec.trim(folder, entry.worker)
    for path in folder.glob(f"*{SUFFIX}"):
        keep(path)
    manifest.over()
    write_manifest(folder, manifest)
    tidy(folder)


def _is_kept(manifest: Manifest) -> bool:
    """Whether the database goes into the run's folder, which somebody else's server's does not."""
    return _is_wanted(manifest) and manifest.server is None


def _is_wanted(manifest: Manifest) -> bool:
    """Whether the database is wanted in the run's folder: asked for, or as evidence."""
    asked = manifest.under_way is not None and manifest.under_way.keep_database
    return bool(asked or manifest.broken or manifest.unmade)


def _move(path: Path, to: Path) -> None:
    """To another file system too, and whole or not at all."""
    try:
        os.rename(path, to)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        with path.open("rb") as file, replacing(to) as copy:
            shutil.copyfileobj(file, copy, 1 << 20)
        path.unlink()


def tidy(folder: Path) -> None:
    """Remove the files that only a run that is under way has."""
    for pattern in ("*.account.json", "*.new", RESERVE, rec.LAST_SEEN):
        for path in folder.glob(pattern):
            path.unlink()


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
