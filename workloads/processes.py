"""Spawn, start together, watch, record, end and reap: one run from its plan to its folder.

The parent opens no database. It starts a process to load it, one for each worker (or one for all
where the engine locks its file to one process), and one to check it afterwards, and it waits for
none of them without a limit.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from workloads import accounts, last_words, machine
from workloads import board as boards
from workloads import recording as rec
from workloads.board import Board
from workloads.engines import find_engine
from workloads.following import Follower, dead
from workloads.hosts import (
    ROOT,
    FolderUnwritable,
    Host,
    ModeRefused,
    OnProgress,
    Progress,
    RunFailed,
    TooLong,
    end,
    ended_words,
    start,
    wait,
)
from workloads.manifest import (
    Conduct,
    EngineEntry,
    FindingEntry,
    Foreign,
    Layout,
    Machine,
    Manifest,
    ScenarioEntry,
    TroubleEntry,
    WalEntry,
    Window,
    WorkerEntry,
    write_manifest,
)
from workloads.plan import Plan
from workloads.scenarios import find_scenario
from workloads.trouble import troubles
from workloads.wal import WalWatch
from workloads.worker import seats_of

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
MET = {
    "full": "its disk, or the database, is full; free some space, or give another folder with "
    "--databases",
    "io": "reading or writing the database there failed; give another folder with --databases",
    "limit": "the database met a limit of the engine or of the system",
}
"""What the loading or the checking process met, by its cause, as the end of a sentence."""

CORRUPT = ("malformed", "not a database", "corrupt")
"""In an engine's words: what it says of a file that is no sound database any more."""


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
) -> rec.Run:
    """Make one run and return it, read back from its folder.

    runs : the folder that holds run folders. databases : where the database lies while the run
    goes on (default: a temporary folder, removed afterwards; kept in the run folder where an
    invariant broke). template : a folder made by `prepare`, copied instead of loading again.
    conduct : who runs it and beside what, for the manifest. cpus : those that this process is
    confined to, () for none in particular; conductor : as for `machine.CpuMeter`.
    inherit : open files that every process of the run keeps open.
    Raises ModeRefused, FolderUnwritable, RunFailed before anything was measured. What goes wrong
    later is in the manifest: `ok`, `ended`, `findings` and each worker's `state` and `account`.
    """
    making = _Making(plan, runs, name, command, databases, on_progress or (lambda progress: None))
    making.cpus, making.conductor, making.inherit = tuple(cpus), conductor, tuple(inherit)
    if conduct is not None:
        making.manifest.conduct = Conduct(**conduct)
    try:
        try:
            making.load(template)
            making.start()
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
        making.check()
        return making.finish(keep_database)
    finally:
        making.reap()


def prepare(plan: Plan, folder: Path, on_progress: OnProgress | None = None) -> Path:
    """Load a database once, for many runs of the same shape. Returns the template folder."""
    folder.mkdir(parents=True, exist_ok=True)
    making = _Making(plan, folder, "loading", "", folder, on_progress or (lambda progress: None))
    try:
        making.load(None)
    except BaseException:
        making.reap()
        raise
    finally:
        making.abandon()
    return making.home


class _Making:
    """A run while it is made. The public door is `run`."""

    def __init__(
        self,
        plan: Plan,
        runs: Path,
        name: str | None,
        command: str,
        databases: Path | None,
        on_progress: OnProgress,
    ) -> None:
        self.plan, self.on_progress = plan, on_progress
        self.cpus: tuple[int, ...] = ()
        self.conductor = 0
        self.inherit: tuple[int, ...] = ()
        self.hosts: list[Host] = []
        self.ended = "duration"
        self.foreign: dict[str, float] = {}
        self.wal: WalWatch | None = None
        self.pressure: dict[str, dict[str, float]] | None = None
        self.findings: list[FindingEntry] = []
        self.kept = False
        self.folder = _new_folder(Path(runs), name or run_name(plan))
        try:
            self.home = Path(tempfile.mkdtemp(prefix="cwkit-", dir=databases))
        except OSError as error:
            self.folder.rmdir()
            raise FolderUnwritable(
                f"{databases or tempfile.gettempdir()}: cannot hold a database "
                f"({error.strerror}). Give another folder with --databases."
            ) from error
        self.database = self.home / "database.db"
        self.seats = seats_of(plan)
        self.patience_s = plan.patience_s()
        self.hung: list[int] = []
        self.window = (0, 0, 0)
        self.null = find_engine(plan.database).file_format == "none"
        self.manifest = Manifest(
            cwkit=rec.FORMAT_VERSION,
            run=self.folder.name,
            command=command,
            seed=plan.seed,
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            scenario=scenario_entry(plan),
            plan=plan.recorded(),
            machine=Machine(**machine.describe(self.home, plan.files())),
            ended="running",
            ok=False,
            workers=[],
            window=Window(start_ns=0, measure_ns=0, stop_ns=0),
        )

    def _write_job(self) -> None:
        self.board = Board(self.home / "board.bin", len(self.seats), create=True)
        job = {
            "plan": self.plan.model_dump(mode="json"),
            "folder": str(self.folder.resolve()),
            "database": str(self.database),
            "board": str(self.board.path),
            "parent": os.getpid(),
        }
        (self.home / "job.json").write_text(json.dumps(job), encoding="utf-8")
        accounts.hold_back(self.folder)
        for who in ("check", *(f"worker-{worker:03d}" for worker in range(len(self.seats)))):
            accounts.reserve(self.folder, who)

    # -- processes ----------------------------------------------------------------------------

    def _start(self, name: str, *words: str, workers: tuple[int, ...] = ()) -> Host:
        host = start(
            self.home, name, *words, into=self.folder, workers=workers, inherit=self.inherit
        )
        self.hosts.append(host)
        return host

    def _errand(self, word: str, limit_s: float, phase: str) -> dict[str, Any]:
        """Run `load` or `check` in a process of its own. Raises RunFailed with its last words."""
        self.board.at(0)  # until it says so itself
        host = self._start(word, word)
        status = wait(host, limit_s, lambda s: self.on_progress(self._progress(phase, s)))
        if status is None:
            at = self._progress(phase, limit_s).told()
            raise TooLong(
                f"{phase.capitalize()} the database with {self.plan.database} took longer than the "
                f"limit of {limit_s:g} s{at and f' ({at})'}. Give it longer with --{word}-limit "
                f"({word}_limit_s of a sweep's file)"
                f"{', or load fewer rows with --rows' if word == 'load' else ''}."
            )
        if status != 0:
            said = self._account(word)
            words = str(said.get("failed") or ended_words(host))
            if met := MET.get(str(said.get("cause"))):
                raise FolderUnwritable(f"{self.home.parent}: {met} ({words}).")
            raise RunFailed(
                f"{self.plan.database} could not {word} the database: {words}",
                last_words.read(host.stderr),
            )
        return self._account(word)

    def _progress(self, phase: str, elapsed_s: float) -> Progress:
        """How far the process that loads or checks is, as it says itself."""
        step, done, of = (int(self.board.numbers[n]) for n in (boards.STEP, boards.DONE, boards.OF))
        name = boards.STEPS[step] if 0 <= step < len(boards.STEPS) else ""
        return Progress(phase, elapsed_s=elapsed_s, step=name, done=done, of=of)

    def _account(self, who: str) -> dict[str, Any]:
        return accounts.read(self.folder, who)

    # -- the steps of a run -------------------------------------------------------------------

    def load(self, template: Path | None) -> None:
        self._write_job()
        self.loaded: dict[str, Any] = {}
        if self.null:
            return
        if template is not None:
            for path in template.glob("database.db*"):
                shutil.copyfile(path, self.home / path.name)
            self._settle()
            self.loaded = json.loads((template / "load.json").read_text(encoding="utf-8"))
            return
        self.loaded = self._errand("load", self.plan.load_limit_s, "loading")
        if refused := self.loaded.get("refused"):
            raise ModeRefused(*refused)
        self._settle()
        (self.home / "load.json").write_text(json.dumps(self.loaded), encoding="utf-8")

    def _settle(self) -> None:
        """Have the loaded database on the disk before the run, not in it.

        Left to the first fsync of the run, the copy's dirty pages are charged to whoever commits
        first: one run in a hundred stood still for its first tenth of a second, one for all of it.
        """
        for path in self.home.glob("database.db*"):
            with path.open("rb") as file:
                os.fsync(file.fileno())

    def start(self) -> None:
        """Start every worker and wait until each has its connection and its row file."""
        self.manifest.layout = Layout(loaded=self.loaded.get("layout", {}))
        self._write_manifest()
        threads: dict[str, list[int]] = {}
        for worker, (_, engine, _) in enumerate(self.plan.roles()):
            if find_engine(engine).hosting == "thread":
                threads.setdefault(engine, []).append(worker)
            else:
                self._start(f"worker-{worker:03d}", "work", str(worker), workers=(worker,))
        for workers in threads.values():
            # By number: the name of an engine may be the path of a file in another folder.
            name = f"worker-{workers[0]:03d}"
            self._start(name, "work", *map(str, workers), workers=tuple(workers))
        begun = time.monotonic()
        while True:
            statuses = [self.board.status(worker) for worker in range(len(self.seats))]
            if all(status != boards.STARTING for status in statuses):
                break
            elapsed = time.monotonic() - begun
            ready = sum(status != boards.STARTING for status in statuses)
            self.on_progress(Progress("starting", elapsed, alive=ready, workers=len(self.seats)))
            if elapsed > START_LIMIT_S or dead(self.hosts, self.board):
                break
            time.sleep(0.01)
        self._nobody_refused(statuses)

    def _nobody_refused(self, statuses: list[int]) -> None:
        for worker, status in enumerate(statuses):
            _, engine, mode = self.plan.roles()[worker]
            words = str(self._account(f"worker-{worker:03d}").get("account", ""))
            if status == boards.REFUSED:
                raise ModeRefused(engine, mode, words)
            if status == boards.NOT_RECORDED:
                raise FolderUnwritable(
                    f"{self.folder.parent}: attempts cannot be recorded there ({words}). "
                    "Free some space, or give another folder with --runs."
                )

    def watch(self) -> None:
        """Open the gate, follow the run, close it; end whoever does not end by itself."""
        plan, numbers = self.plan, self.board.numbers
        stuck = [w for w in range(len(self.seats)) if self.board.status(w) != boards.READY]
        if stuck:
            self.ended = "worker could not start"
            numbers[boards.STATE] = boards.STOP
            now = time.monotonic_ns()
            self.window = (now, now, now)
            self._end_all(min(plan.deadline_s, 5.0))
            return
        start = time.monotonic_ns() + 20_000_000
        measure = start + int(plan.warmup_s * 1e9)
        stop = measure + int(plan.duration_s * 1e9)
        numbers[boards.START_NS], numbers[boards.MEASURE_NS] = start, measure
        numbers[boards.STOP_NS] = stop
        numbers[boards.STATE] = boards.GO
        follower = Follower(
            plan, self.folder, self.database, self.seats, self.board, self.hosts,
            self.patience_s, self.on_progress, self.cpus, self.conductor,
        )  # fmt: skip
        try:
            self.window = follower.follow(start, measure, stop)
            self.ended = follower.ended
        except KeyboardInterrupt:
            self.ended = "interrupted"
            self.window = (start, measure, min(max(time.monotonic_ns(), measure), stop))
        self.hung, self.foreign = follower.hung, follower.foreign
        self.wal, self.pressure = follower.wal, follower.pressure
        numbers[boards.STATE] = boards.STOP
        # A second Ctrl-C must not leave processes behind: `run` reaps in any case.
        self._end_all(plan.deadline_s)

    def _end_all(self, limit_s: float) -> None:
        until = time.monotonic() + limit_s
        for host in self.hosts:
            with contextlib.suppress(subprocess.TimeoutExpired):
                host.process.wait(max(until - time.monotonic(), 0.01))
        for host in self.hosts:
            if host.process.poll() is None:
                self.hung = [*self.hung, *host.workers]
                if self.ended in ("duration", "transactions"):
                    self.ended = "worker hung"
                end(host.process)

    def check(self) -> None:
        """Have the database checked, whatever happened, unless nothing was ever written."""
        for worker in range(len(self.seats)):
            said = self._account(f"worker-{worker:03d}")
            if said.get("state") == "invariant broken":
                self.findings.append(
                    FindingEntry(
                        check="during the run",
                        ok=False,
                        sentence=said["account"],
                        evidence=said.get("evidence", {}) | {"worker": worker},
                    )
                )
        self.findings += self._unreadable()
        self._write_manifest()
        if self.null:
            return
        try:
            said = self._errand("check", self.plan.check_limit_s, "checking")
            self.findings += [FindingEntry(**finding) for finding in said["findings"]]
            layout = self.manifest.layout.data() | {"left": said.get("layout", {})}
            self.manifest.layout = Layout(**layout)
        except (FolderUnwritable, TooLong) as error:
            # Nothing is known of the database, good or bad.
            self.manifest.unchecked = str(error)
            if self.ended in ("duration", "transactions"):
                self.ended = "not checked"
        except (RunFailed, KeyError) as error:
            self.findings.append(
                FindingEntry(check="invariant", ok=False, sentence=str(error), evidence={})
            )
        except KeyboardInterrupt:
            self.ended = "interrupted"
            self.manifest.unchecked = "the check of the database was interrupted"

    def _unreadable(self) -> list[FindingEntry]:
        """A worker that was told the database is malformed has found something, whatever else."""
        found = []
        for worker, (role, number) in enumerate(self.seats):
            for words in rec.read_messages(self.folder, worker):
                if any(sign in words for sign in CORRUPT):
                    found.append(
                        FindingEntry(
                            check="readable during the run",
                            ok=False,
                            sentence=f"{role} {number} ({self.plan.roles()[worker][1]}) was "
                            f"told: {words}",
                            evidence={"worker": worker},
                        )
                    )
        return found

    def _entry(self, worker: int) -> WorkerEntry:
        """One worker's part of the manifest, from its account and from how its process ended."""
        role, engine, mode = self.plan.roles()[worker]
        said = self._account(f"worker-{worker:03d}")
        host = next((h for h in self.hosts if worker in h.workers), None)
        state, account = said.get("state", "never started"), said.get("account", "")
        if worker in self.hung:
            state = "hung"
            account = f"ended by the run: {self.patience_s:g} s without an answer"
        elif host is not None and host.process.poll() and state in ("died", "never started"):
            state = "died"
            account = ended_words(host)
        return WorkerEntry(
            worker=worker,
            role=role,
            number=self.seats[worker][1],
            engine=engine,
            begin=mode,
            pid=host.process.pid if host else 0,
            state=state,
            account=account,
            opened=rec.segment_path(self.folder, worker, 0).exists(),
            pragmas=said.get("pragmas", {}),
            cpu_s=said.get("cpu_s"),
            cpus=said.get("cpus", ()),
            idle_checkpoints=said.get("idle_checkpoints", 0),
            busy_checkpoints=said.get("busy_checkpoints", 0),
            met=said.get("met"),
        )

    def _write_manifest(self) -> None:
        start, measure, stop = self.window
        engines = {self.plan.database: self.loaded.get("identity", {})}
        for worker, (_, engine, _) in enumerate(self.plan.roles()):
            said = self._account(f"worker-{worker:03d}")
            if said.get("identity"):
                engines[engine] = said["identity"]
        told = self.manifest
        told.workers = [self._entry(worker) for worker in range(len(self.seats))]
        told.engines = {name: EngineEntry(**identity) for name, identity in engines.items()}
        told.window = Window(start_ns=start, measure_ns=measure, stop_ns=stop)
        told.foreign = Foreign(**self.foreign)
        told.findings = self.findings
        told.wal_bytes_max = self.wal.bytes_max if self.wal else 0
        wal = self.wal.data() if self.wal else None
        told.wal = WalEntry(**wal) if wal else None
        told.pressure = self.pressure
        try:
            write_manifest(self.folder, told)
        except OSError:
            # Of a run that goes on a manifest is a note; what is written last has its room.
            if self.window == (0, 0, 0):
                raise

    def finish(self, keep_database: bool) -> rec.Run:
        entries = [self._entry(worker) for worker in range(len(self.seats))]
        broken = [finding for finding in self.findings if not finding.ok]
        well = all(entry.state == "finished" for entry in entries)
        if well and self._nothing_committed():
            self.ended = "nothing was committed"
        accounts.give_back(self.folder)
        self._write_manifest()
        found = troubles(rec.read_workers(self.folder, self.manifest))
        self.manifest.troubles = [TroubleEntry(**asdict(one)) for one in found]
        self.manifest.ended = self.ended
        good = well and not broken and not found
        self.manifest.ok = good and self.ended in ("duration", "transactions")
        self._write_manifest()
        if (broken or keep_database) and not self.null:
            self._keep_database()
        for path in self.folder.glob("*.account.json"):
            path.unlink()
        for host in self.hosts:
            last_words.keep(host.stderr)
        for worker in range(len(self.seats)):
            rec.trim(self.folder, worker)
        return rec.read_run(self.folder)

    def _nothing_committed(self) -> bool:
        """Attempts were made, and failed, every one: a run that says nothing of an engine."""
        rows = [
            rec.read_attempts(self.folder, worker)["outcome"]
            for worker, (role, _) in enumerate(self.seats)
            if role != "checkpointer"
        ]
        outcomes = np.concatenate(rows)
        return bool((outcomes == rec.FAILED).any() and not (outcomes == rec.COMMITTED).any())

    def _keep_database(self) -> None:
        """The evidence: the database as the check left it, beside the attempts."""
        try:
            for path in self.home.glob("database.db*"):
                shutil.copyfile(path, self.folder / path.name)
        except OSError as error:
            self.manifest.database_kept = f"no: {error}"
            self._write_manifest()

    def abandon(self) -> None:
        """The run did not happen: leave no folder that looks as if it had."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def reap(self) -> None:
        for host in self.hosts:
            if host.process.poll() is None:
                end(host.process)
        shutil.rmtree(self.home, ignore_errors=True)


def scenario_entry(plan: Plan) -> ScenarioEntry:
    """The scenario as a reader needs it who must not load a file of the user's."""
    scenario = find_scenario(plan.scenario)
    return ScenarioEntry(
        name=plan.scenario,
        params=plan.shape().model_dump(),
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
