"""A run while it is made: its processes are started, watched and ended here, step by step."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from workloads import records as rec
from workloads.engines import find_engine, logs_of
from workloads.errors import FolderUnwritable, ModeRefused, RunFailed, TooLong
from workloads.files import Temporary, resolved
from workloads.processes import (
    ChildProcess,
    describe_end,
    end,
    give_back,
    hold_back,
    read_account,
    reserve,
    wait,
)
from workloads.records import (
    EngineEntry,
    FindingEntry,
    Foreign,
    Layout,
    Manifest,
    TroubleEntry,
    WalEntry,
    Window,
    WorkerEntry,
    write_manifest,
)
from workloads.runs import control as control_block
from workloads.runs.control import ControlBlock
from workloads.runs.fault_effects import KILLED, went_on
from workloads.runs.faults import Faults, RunUnderWay
from workloads.runs.job import places_of
from workloads.runs.monitor import ALL_KILLED, SERVER_ENDED, Follower, dead
from workloads.runs.page_cache import drop
from workloads.runs.plan import Plan
from workloads.runs.putting_away import DATABASE, is_kept, is_wanted, settle
from workloads.runs.serving import Serving
from workloads.runs.trouble import beyond_faults, troubles
from workloads.runs.wal import WalWatch
from workloads.runs.ways import pool_of
from workloads.runs.worker_entries import (
    CORRUPT,
    Ends,
    accounts_of,
    unreadable,
    worker_entries,
)
from workloads.runs.worker_process import OnProgress, Progress, start

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


class Making:
    """A run while it is made, step by step. `conduct` has the doors.

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
        self.serving = Serving(plan, manifest)
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
            account = read_account(self.folder, name)
            reason = str(account.get("failed") or describe_end(child))
            if why := self.serving.ended():
                raise RunFailed(f"{phase.capitalize()} the database: {SERVER_ENDED} ({why}).")
            if cause := CAUSES_OF_FAILURE.get(str(account.get("cause"))):
                raise FolderUnwritable(f"{self.home.path.parent}: {cause} ({reason}).")
            did = "put the histories together" if name == "history" else f"{name} the database"
            raise RunFailed(
                f"{self.plan.database} could not {did}: {reason}",
                child.stderr_text(),
            )
        return read_account(self.folder, name)

    def _progress(self, phase: str, elapsed_s: float) -> Progress:
        """How far the process that loads or checks is, as it says itself."""
        step, done, of = (
            int(self.control.numbers[n])
            for n in (control_block.STEP, control_block.DONE, control_block.OF)
        )
        name = control_block.STEPS[step] if 0 <= step < len(control_block.STEPS) else ""
        return Progress(phase, elapsed_s=elapsed_s, step=name, done=done, of=of)

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
        self.serving.start(self.database, self.inherit)

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
        self.serving.lay_network(self.folder, self.inherit)
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
        self.serving.measure_network()

    def _nobody_refused(self, statuses: list[int]) -> None:
        for worker, status in enumerate(statuses):
            _, engine, mode = self.plan.roles()[worker]
            message = str(read_account(self.folder, f"worker-{worker:03d}").get("account", ""))
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
        plan, numbers, link = self.plan, self.control.numbers, self.serving.link
        if self._stuck:
            why = self.serving.ended()
            self.ended = f"{SERVER_ENDED}: {why}" if why else "worker could not start"
            now = time.monotonic_ns()
            self.window = (now, now, now)
            return
        start, measure, stop = self.window
        follower = Follower(
            plan, self.folder, self.database, self.places, self.control, self.children,
            self.patience_s, self.on_progress, self.cpus, self.conductor,
            (link.pid,) if link is not None else (), self.serving.server,
            self._killed_by_faults,
        )  # fmt: skip
        disturbing = self._disturbing()
        try:
            numbers[control_block.START_NS], numbers[control_block.MEASURE_NS] = start, measure
            numbers[control_block.STOP_NS] = stop
            if link is not None:
                link.opened(measure)
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
        if not self.serving.end_network() and self._whole:
            self.ended = "the network's relay failed"

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
        for worker, account in enumerate(accounts_of(self.folder, len(self.places))):
            if account.get("state") == "invariant broken":
                self.findings.append(
                    FindingEntry(
                        check="during the run",
                        ok=False,
                        sentence=account["account"],
                        evidence=account.get("evidence", {}) | {"worker": worker},
                    )
                )
        self.findings += unreadable(self.plan, self.folder)

    def check(self) -> None:
        """Have the database checked, whatever happened, unless nothing was ever written."""
        try:
            self._at("checking")
            if self.null:
                return
            if (why := self.serving.ended()) and not self.serving.is_there_again():
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

    def _entries(self, accounts: Sequence[Mapping[str, Any]]) -> list[WorkerEntry]:
        # A file of the user's may not be loaded for it: only where somebody hung is it known.
        waited_s = self.patience_s if self.hung else 0.0
        ends = Ends(self.children, self.hung, self._killed_by_faults(), self.killed, waited_s)
        return worker_entries(self.plan, self.folder, self.manifest, accounts, ends)

    def _fill_manifest(self) -> None:
        """Bring the manifest up to date."""
        start, measure, stop = self.window
        engines = {name: entry.data() for name, entry in self.manifest.engines.items()}
        engines.setdefault(self.plan.database, {})
        if identity := self.loaded.get("identity"):
            engines[self.plan.database] = identity
        accounts = accounts_of(self.folder, len(self.places))
        for account, (_, engine, _) in zip(accounts, self.plan.roles(), strict=True):
            if account.get("identity"):
                engines[engine] = account["identity"]
        manifest = self.manifest
        manifest.workers = self._entries(accounts)
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
        entries = self._entries(accounts_of(self.folder, len(self.places)))
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
        self.serving.stop(keep=is_kept(self.manifest))
        if is_wanted(self.manifest) and not is_kept(self.manifest):
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
        if self.faults is not None:
            self.faults.close()
        self.serving.close(keep=self.manifest.under_way is not None and self.folder.exists())
        os.close(self.held)
        mine = self.database.parent == self.home.path
        if mine and self.manifest.under_way is not None and self.folder.exists():
            self.home.release()  # ended by an error or a second Ctrl-C: `cwkit recover` goes on
        else:
            self.home.remove()
