"""A process of a run: it loads a database, works on it, or checks it afterwards.

`python -m workloads.runs.worker JOB.json ROLE [WORKER …]` is started by `workloads.runs.conduct`
and by nobody else. Each such process opens the database with one engine only, so that no two
copies of SQLite ever meet on one file in one process.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from workloads import records as rec
from workloads.engines import (
    AUTOCOMMIT,
    Autocommit,
    Engine,
    LoggedSession,
    NotRecorded,
    Refusal,
    Session,
    Settings,
    choose_loop,
    classifier,
    find_engine,
    layout_of,
    log_path,
    logs_of,
    loop_in_use,
    save_history,
    trees_of,
    usual_mode,
)
from workloads.processes import die_with_parent, leave, note
from workloads.runs import control as control_block
from workloads.runs.cold_start import ColdStart, NotStarted, create
from workloads.runs.commit_notes import noted
from workloads.runs.connections import Borrowing, Passing, PerTransaction, pool_for
from workloads.runs.control import ControlBlock
from workloads.runs.hot_path import Parts, Tries, tries_of
from workloads.runs.pacing import ARRIVALS, LONG_S, arrivals, retry_wait, thinker, wait_until
from workloads.runs.plan import ROLES, Plan
from workloads.runs.snapshots import OneSnapshot, holding
from workloads.runs.stages import warp_of
from workloads.runs.trouble import NOT_RECORDED
from workloads.runs.ways import KEPT, pool_of
from workloads.scenarios import (
    TRANSACTING,
    InvariantBroken,
    RunLog,
    Scenario,
    ScenarioFailed,
    Watched,
    WorkerContext,
    find_scenario,
)

MOST_FAILURES = 1000
"""In a row, before a worker gives up: a database that answers nothing else would fill the disk."""


class Job:
    """A process's task and places, read from the file that its parent wrote."""

    def __init__(self, path: str) -> None:
        job = json.loads(Path(path).read_text(encoding="utf-8"))
        self.plan = Plan(**job["plan"])
        self.folder = Path(job["folder"])
        self.database = str(job["database"])
        self.control_path = Path(job["control"])
        self.parent = int(job["parent"])

    @cached_property
    def scenario(self) -> Scenario:
        """The scenario, made when it is first used: merging histories needs none."""
        return find_scenario(self.plan.scenario)(self.plan.shape())

    def account(self, who: str, **values: Any) -> None:
        """Leave an account for the parent. Raises OSError where the disk has no room for it."""
        leave(self.folder, who, values)


def places_of(plan: Plan) -> tuple[tuple[str, int], ...]:
    """(role, number within the role) of each worker, by worker number."""
    seen: dict[str, int] = {}
    places = []
    for role, _, _ in plan.roles():
        places.append((role, seen.get(role, 0)))
        seen[role] = seen.get(role, 0) + 1
    return tuple(places)


def context_of(plan: Plan, worker: int) -> WorkerContext:
    """The context of one worker without its session, as it is for a replay of its draws."""
    places = places_of(plan)
    role, number = places[worker]
    return WorkerContext(
        role=role,
        number=number,
        of=sum(1 for other, _ in places if other == role),
        worker=worker,
        seed=(plan.seed, ROLES.index(role), number),
        places=places,
        clock=time.monotonic_ns,
    )


def log_of(
    plan: Plan,
    scenario: Scenario,
    workers: Sequence[rec.WorkerRecord],
    on_replay: Callable[[int], None] = lambda replayed: None,
) -> RunLog:
    """The answers that the workers of a run got, for the scenario's check.

    on_replay : as for `RunLog`.
    """
    return RunLog(scenario, workers, lambda worker: context_of(plan, worker.worker), on_replay)


# --- load and check ---------------------------------------------------------------------------


class _Failed(Exception):
    """An errand that could not be done: the sentence, and the cause as the engine classifies it."""

    def __init__(self, sentence: str, cause: int) -> None:
        super().__init__(sentence)
        self.cause = rec.CAUSES.get(cause, "")


def errand(job: Job, name: str) -> int:
    """Do `load`, `check` or `history`; returns the exit status. A failure is one sentence in the
    account. Standard error is left to what Python cannot catch: an engine's panic.
    """
    try:
        {"load": load, "check": check, "history": history}[name](job)
    except _Failed as failed:
        job.account(name, failed=str(failed), cause=failed.cause)
        return 1
    except BaseException as error:
        job.account(name, failed=_mistake(error) or _error_text(error), cause=_cause_of(error))
        return 1
    return 0


@contextlib.contextmanager
def _database(job: Job, role: str = "reader", path: Path | None = None) -> Iterator[Session]:
    """The run's database, or another, open in the plan's own engine in the mode that is a role's
    there.

    Raises _Failed for what happens there.
    """
    engine = find_engine(job.plan.database)
    mode = usual_mode(engine, role)
    place = str(path or job.database)
    session = engine.connect(place, begin=mode, settings=job.plan.settings())
    try:
        yield session
    except BaseException as error:
        cause = session.refusal(error, rec.STATEMENT).conflict
        raise _Failed(_mistake(error) or _error_text(error), cause) from error
    finally:
        session.close()


def _cause_of(error: BaseException) -> str:
    """The cause by the system's error number, where no engine was asked; "" for other errors."""
    if not isinstance(error, OSError):
        return ""
    return rec.CAUSES[rec.FULL if error.errno in (errno.ENOSPC, errno.EDQUOT) else rec.IO]


def load(job: Job) -> None:
    """Create and fill the database with the plan's own engine, unless a role's mode is refused."""
    control = ControlBlock(job.control_path, len(job.plan.roles()))
    control.at(control_block.ASKING)
    if refused := _refused(job):
        job.account("load", refused=refused)
        return
    if job.plan.cold_start:  # its workers make it
        _rehearse_schema(job)
        job.account("load", identity=identity_of(job.plan.database))
        return
    engine = find_engine(job.plan.database)
    rows = job.plan.shape().rows

    def on_progress(done: int, are_rows: bool) -> None:
        step = control_block.ROWS if are_rows else control_block.STATEMENTS
        if control.numbers[control_block.STEP] != step:
            control.at(step, rows if are_rows else 0)
        control.numbers[control_block.DONE] = done

    getattr(job.scenario, "copy_into", lambda path: None)(job.database)
    with _database(job, "writer") as session:
        for statement in job.scenario.schema():
            session.run(statement)
        # The same rows whatever the seed: a database loaded once serves runs of every seed.
        watched: Any = Watched(session, on_progress)
        job.scenario.load(watched, np.random.default_rng(99))
        getattr(session, "loaded", lambda: None)()
        control.at(control_block.LAYOUT)
        pragmas = dict(session.pragmas)
        trees = trees_of(session, engine.file_format)
    identity, layout = identity_of(job.plan.database), layout_of(job.database, trees)
    job.account("load", identity=identity, pragmas=pragmas, layout=layout)


def _rehearse_schema(job: Job) -> None:
    """Create and fill a database aside, as the workers of a cold start will: what is wrong with a
    schema is told before any of them begins.
    """
    aside = Path(job.database).parent / "rehearsed"
    aside.mkdir()
    with _database(job, "writer", aside / "rehearsed.db") as session:
        session.begin()
        create(session, job.scenario, fill=True)
        session.rollback()
    shutil.rmtree(aside)


def _refused(job: Job) -> list[str]:
    """(engine, mode, message) of the first mode of a role that its engine refuses; [] for none.

    Asked before the database is loaded, which may take minutes. Each engine gets a database of its
    own, because two libraries of SQLite must never open one file in one process.
    """
    modes = ((engine, mode) for _, engine, mode in job.plan.roles())
    asked = dict.fromkeys(both for both in modes if both[1] not in ("", AUTOCOMMIT))
    if hasattr(find_engine(job.plan.database), "serve"):
        return []  # a server has the modes that its engine declares; its workers rehearse them
    settings = replace(job.plan.settings(), synchronous="off", busy_timeout_ms=0)
    for number, (engine, mode) in enumerate(asked):
        folder = Path(job.database).parent / f"asked-{number}"
        folder.mkdir()
        try:
            message = refusal_of(find_engine(engine), mode, str(folder / "asked.db"), settings)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if message is not None:
            return [engine, mode, message]
    return []


def refusal_of(engine: Engine, mode: str, path: str, settings: Settings) -> str | None:
    """The message with which an engine refuses a BEGIN mode, None where it accepts it.

    None also where the engine opens no database at all: its workers will report that.
    """
    try:
        first = engine.connect(path, begin=usual_mode(engine, "reader"), settings=settings)
        first.run("CREATE TABLE asked (id INTEGER PRIMARY KEY)")
    except BaseException:
        return None
    try:
        try:
            session = engine.connect(path, begin=mode, settings=settings)
        except BaseException as error:  # as where a journal mode has none of it
            return str(error)
        try:
            return _rehearse(session)
        finally:
            session.close()
    finally:
        first.close()


def check(job: Job) -> None:
    """After the run, in a process that took no part: integrity, and the scenario's invariant."""
    if not Path(job.database).is_file():
        # Opened, it would be made anew, and everything in it would seem to be lost.
        raise _Failed(f"{job.database} is not there any more", 0)
    run = rec.read_run(job.folder)
    engine = find_engine(job.plan.database)
    findings: list[dict[str, Any]] = []
    control = ControlBlock(job.control_path, len(job.plan.roles()))
    attempts = sum(len(w.rows) for w in run.workers if w.role in TRANSACTING)

    def on_replay(replayed: int) -> None:
        control.numbers[control_block.DONE] = replayed

    control.at(control_block.LAYOUT)
    with _database(job) as session:
        trees = trees_of(session, engine.file_format)
        control.at(control_block.INTEGRITY)
        findings += _integrity(session, job.plan.database)
        if getattr(job.scenario, "logged", None):
            control.at(control_block.HISTORY)
            findings.append(save_history(job.folder))
        control.at(control_block.INVARIANT, attempts)
        findings += _invariant(job, session, log_of(job.plan, job.scenario, run.workers, on_replay))
        control.at(control_block.LAYOUT)
    job.account("check", findings=findings, layout=layout_of(job.database, trees, brief=True))


def history(job: Job) -> None:
    """Put the workers' histories together, where they wrote any and the database is gone."""
    job.account("history", findings=[save_history(job.folder)] if logs_of(job.folder) else [])


def _invariant(job: Job, session: Session, log: RunLog) -> list[dict[str, Any]]:
    """The findings of the scenario's own check. A full disk, say, is no finding."""
    try:
        return [_plain(*finding) for finding in job.scenario.check(session, log)]
    except Exception as error:  # the database may be too broken to answer
        if session.refusal(error, rec.STATEMENT).conflict in rec.CAUSES:
            raise
        mistake = _mistake(error)
        why = f"the scenario's check failed at {mistake}" if mistake else _error_text(error)
        sentence = why if mistake else f"the database could not be read back: {why}"
        return [_plain("invariant", False, sentence, {})]


def _plain(check: str, ok: Any, sentence: str, evidence: dict[str, Any]) -> dict[str, Any]:
    """A finding as the manifest has it; a scenario of the user's may say 1 for True."""
    return {"check": check, "ok": bool(ok), "sentence": sentence, "evidence": evidence}


def _integrity(session: Session, engine: str) -> list[dict[str, Any]]:
    """What the engine's own check of its file says; nothing where it has none."""
    finding: dict[str, Any] = {"check": "integrity", "ok": True, "sentence": "", "evidence": {}}
    if own := getattr(session, "integrity", None):
        if (answer := own()) is None:
            return []
        return [finding | {"ok": answer[0], "sentence": answer[1]}]
    try:
        rows = [str(row[0]) for row in session.rows("PRAGMA integrity_check")]
    except Exception as error:
        if session.refusal(error, rec.STATEMENT).conflict in rec.CAUSES:
            raise  # a full disk, say: nothing was asked
        malformed = "malformed" in str(error) or "not a database" in str(error)
        finding["ok"], finding["checked"] = False, malformed  # else: not ok, and not broken either
        finding["sentence"] = f"{engine} answered integrity_check with: {error}"
        return [finding]
    finding["ok"] = rows == ["ok"]
    finding["sentence"] = f"integrity_check by {engine}: {'; '.join(rows[:5])}"
    finding["evidence"] = {"rows": rows[:50]} if rows != ["ok"] else {}
    return [finding]


def identity_of(name: str) -> dict[str, Any]:
    """The engine's own account of itself, as it goes into the manifest."""
    engine = find_engine(name)
    identity = engine.identity()._asdict()
    identity["options"] = list(identity["options"])
    return identity | {
        "file_format": engine.file_format,
        "hosting": engine.hosting,
        "unit": getattr(engine, "unit", ""),
    }


# --- work -------------------------------------------------------------------------------------


def work(job: Job, worker: int, control: ControlBlock) -> None:
    """One worker from its connection to its account. Never raises."""
    plan = job.plan
    role, engine_name, _ = plan.roles()[worker]
    about: dict[str, Any] = {"identity": {}, "pragmas": {}}
    session = read_log = None
    report = partial(_report, job, control, worker, about)
    try:
        if plan.cpus or plan.pin:
            cpus = plan.cpus or tuple(sorted(os.sched_getaffinity(0)))
            os.sched_setaffinity(0, {cpus[worker % len(cpus)]} if plan.pin else set(cpus))
        choose_loop(plan.loop)  # before a session takes its part of it
        if role in TRANSACTING:
            about["loop"] = loop_in_use()
        engine = find_engine(engine_name)
        # Before anything opens a connection: a library takes a log best while nobody uses it.
        if hasattr(engine, "listen") and not pool_of(plan.connection):  # a process has one log
            read_log = engine.listen()
        about["identity"] = identity_of(engine_name)
        start = _cold_start(job, worker, engine, control)
        session = start.aside if start else _session(job, worker, engine, control)
        about["pragmas"] = {} if start else dict(session.pragmas)
        if role != "checkpointer" and (message := _rehearse(session)) is not None:
            report(control_block.REFUSED, state="refused", account=message)
            return
    except BaseException as error:
        report(control_block.NOT_OPENED, state="could not open", account=_error_text(error))
        return
    try:
        recorder = rec.AttemptRecorder(job.folder, worker)
        contexts = partial(_context_with, job, worker, control=control, file=engine.file_format)
        begin: Callable[[], WorkerContext]
        if start is not None:
            begin = partial(_started, start, contexts, about)
        else:
            context = contexts(session=session)
            begin = lambda: context  # noqa: E731
    except BaseException as error:
        full = isinstance(error, OSError)
        state = NOT_RECORDED if full else "could not open"
        report(
            control_block.NOT_RECORDED if full else control_block.NOT_OPENED,
            state=state,
            account=_error_text(error),
        )
        return
    # The collector would walk every object now and then inside somebody's transaction.
    gc.collect()
    gc.freeze()
    # Reported before the run: a worker that is killed in it still has its pragmas in the manifest.
    if report(control_block.READY, state="died", account=""):
        status, account = _worked(job, worker, begin, recorder, control)
        if start is not None:
            about["start"], session = start.account(), start.session or start.aside
        account["cpus"] = sorted(os.sched_getaffinity(0))
        account["reconnects"] = getattr(session, "anew", 0)
        if read_log is not None:
            account["met"] = read_log()
        report(status, **account)
    _leave(session)


def _cold_start(job: Job, worker: int, engine: Engine, control: ControlBlock) -> ColdStart | None:
    """A worker's start on a database that does not exist yet; None where it finds one loaded."""
    plan = job.plan
    if not plan.cold_start:
        return None
    role, _, mode = plan.roles()[worker]
    settings = plan.settings()

    def connect(path: Path) -> Session:
        return _connected(engine, str(path), role, mode, settings)

    recorder = rec.OpenRecorder(job.folder, worker)
    path = Path(job.database)
    return ColdStart(worker, plan, job.scenario, path, connect, control, recorder)


def _started(
    start: ColdStart, contexts: Callable[..., WorkerContext], about: dict[str, Any]
) -> WorkerContext:
    """Open the database behind the gate, and the worker's context with that session."""
    session = start()
    about["pragmas"] = dict(session.pragmas)
    return contexts(session=session)


def _session(job: Job, worker: int, engine: Engine, control: ControlBlock) -> Session:
    """A worker's session, connected as the plan says. A checkpointer keeps its connection."""
    plan = job.plan
    role, name, mode = plan.roles()[worker]
    connect = partial(_connected, engine, job.database, role, mode, plan.settings())
    if plan.connection == KEPT or role not in TRANSACTING:
        return connect()
    recorder = rec.OpenRecorder(job.folder, worker)
    made: Any
    if many := pool_of(plan.connection):
        made = Borrowing(pool_for((job.database, name, role, mode)), connect, many, recorder)
    else:
        made = PerTransaction(connect, Path(job.database), control, worker, recorder)
    return cast("Session", made)


def _connected(engine: Engine, path: str, role: str, mode: str, settings: Settings) -> Session:
    """A worker's session, in its mode. A checkpointer has none."""
    if mode != AUTOCOMMIT:
        mode = mode or usual_mode(engine, "reader")
        return engine.connect(path, begin=mode, settings=settings)
    session = engine.connect(path, begin=usual_mode(engine, role), settings=settings)
    return Autocommit(session, writes=role == "writer")


def _error_text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _report(
    job: Job,
    control: ControlBlock,
    worker: int,
    about: Mapping[str, Any],
    status: int,
    **more: Any,
) -> bool:
    """Leave a worker's account, then set the worker's status in the control block.

    False where the account could not be written; the status is then NOT_RECORDED.
    """
    try:
        job.account(f"worker-{worker:03d}", **about, **more)
    except OSError:
        control.set_status(worker, control_block.NOT_RECORDED)
        return False
    control.set_status(worker, status)
    return True


def _worked(
    job: Job,
    worker: int,
    begin: Callable[[], WorkerContext],
    recorder: rec.AttemptRecorder,
    control: ControlBlock,
) -> tuple[int, dict[str, Any]]:
    """From the gate to the end of the run: the worker's status and its account.

    begin : gives its context, once the gate is open.
    """
    account: dict[str, Any] = {"state": "finished", "account": ""}
    try:
        if _gate(control, job.parent):
            control.set_status(worker, control_block.RUNNING)
            cpu = time.thread_time_ns()
            context = begin()
            loop = _checkpoint_loop if context.role == "checkpointer" else _loop
            account |= loop(job.plan, context, job.scenario, recorder, control)
            account["cpu_s"] = (time.thread_time_ns() - cpu) / 1e9
    except InvariantBroken as broken:
        account = {"state": "invariant broken", "account": broken.sentence}
        control.stop()
        return control_block.BROKEN, account | {"evidence": broken.evidence}
    except NotStarted as error:  # the others go on
        return control_block.FINISHED, {"state": "could not start", "account": str(error)}
    except ScenarioFailed as error:
        account = {"state": "scenario failed", "account": str(error)}
    except OSError as error:
        return control_block.NOT_RECORDED, {"state": NOT_RECORDED, "account": f"{error}"}
    except BaseException as error:
        return control_block.DIED, {"state": "died", "account": _error_text(error)}
    if account["state"] == "scenario failed":
        control.stop()
        return control_block.MISTAKEN, account
    return control_block.FINISHED, account


def _rehearse(session: Session) -> str | None:
    """None where the engine accepts the mode of this session, else its message.

    A rehearsal that meets another worker's lock says nothing against the mode.
    """
    try:
        session.begin()
    except BaseException as error:
        refusal = session.refusal(error, rec.BEGIN)
        if refusal.conflict == rec.IO:
            raise  # its server is away, say: that says nothing against the mode either
        return None if refusal.outcome == rec.CONFLICT else refusal.message
    else:
        session.rollback()
    finally:
        _finished(session)()
    return None


def _finished(session: Session) -> Callable[[], None]:
    """What gives up an attempt's connection; nothing where the worker keeps its own."""
    own = _behind(session)
    return own.finished if isinstance(own, Passing) else lambda: None


def _behind(session: Session) -> Any:
    """The session behind those that only look on."""
    own: Any = session
    while isinstance(own, (LoggedSession, OneSnapshot)):
        own = own.real
    return own


def _context_with(
    job: Job, worker: int, session: Session, control: ControlBlock, file: str
) -> WorkerContext:
    """A worker's context with its session. file : its engine's file format."""
    context = context_of(job.plan, worker)
    shape = job.plan.shape()
    model = getattr(job.scenario, "logged", None)
    if context.role == "reader" and job.plan.reader_holds_s:
        session = cast("Session", OneSnapshot(session, checked=file != "none"))
    if model and context.role != "checkpointer":
        engine = job.plan.roles()[worker][1]
        session = LoggedSession(session, log_path(job.folder, worker), model, worker, engine)
    if context.role != "checkpointer" and hasattr(job.scenario, "session"):
        session = job.scenario.session(session)
    context.session, context.board = session, control.scenario()
    context.think = thinker(
        shape.think_of(context.role), shape.think, control.stopping, context.thought
    )
    context.stopping = control.stopping
    if hasattr(context, "checked"):
        context.checked = file != "none"
    return context


def _gate(control: ControlBlock, parent: int) -> bool:
    """Wait for the start. False where the run was called off or its parent is gone."""
    numbers = control.numbers
    while numbers[control_block.STATE] == control_block.WAIT:
        if os.getppid() != parent:
            return False
        time.sleep(0.0005)
    while (left := numbers[control_block.START_NS] - time.monotonic_ns()) > 0:
        time.sleep(max(left - 200_000, 0) / 1e9 if left > 200_000 else 0)
    return numbers[control_block.STATE] == control_block.GO


def _leave(session: Session) -> None:
    try:
        session.rollback()
        session.close()
    except BaseException:
        pass


def _loop(
    plan: Plan,
    context: WorkerContext,
    scenario: Scenario,
    recorder: rec.AttemptRecorder,
    control: ControlBlock,
) -> dict[str, Any]:
    """Transactions until the run ends: what becomes of each try that does not commit.

    Those that commit are made by `workloads.runs.hot_path`, one after the other.
    Raises InvariantBroken (after closing the row) and OSError (the recording's disk is full).
    """
    session = context.session
    assert session is not None
    finished = _finished(session)
    rollback, refused, thought = session.rollback, classifier(session), context.thought
    wait = retry_wait(plan.retry.policy, plan.retry.base_us, plan.retry.cap_us, context.seed)
    most_tries = 1 if plan.retry.policy == "none" else plan.retry.most_tries
    made = tries_of(_parts(plan, context, scenario, control))
    run, numbers, state, stop = made.run, control.numbers, control_block.STATE, control_block.STOP
    stop_ns = numbers[control_block.STOP_NS]
    buffer, offset, limit = recorder.buffer, recorder.offset, recorder.limit
    txn = failures = 0
    tries = 1

    while True:
        try:
            if run(buffer, offset, limit, txn, tries):
                return {}
        except BaseException as error:
            if not made.phase:
                raise
            outcome, message, over = _closed(error, made, refused, thought[0], recorder, buffer)
            mistake = _mistake(error) if made.phase == rec.STATEMENT else ""
        else:
            txn, tries, failures = made.txn, 1, 0
            buffer, offset, limit = recorder.roll()
            continue
        if made.txn != txn:
            txn, failures = made.txn, 0  # others committed before this one
        if not over:
            rollback()
        finished()
        offset = made.offset + rec.ROW_BYTES
        if recorder.full is not None:
            raise recorder.full
        if offset == limit:
            buffer, offset, limit = recorder.roll()
        if mistake:
            return {"state": "scenario failed", "account": mistake}
        if outcome != rec.CONFLICT:
            failures += 1
            if failures == MOST_FAILURES:
                return {
                    "state": "gave up",
                    "account": f"{MOST_FAILURES} transactions in a row failed, "
                    f"the last with: {message}",
                }
        else:
            tries = made.tries
            ends = tries == most_tries or made.end >= stop_ns or numbers[state] == stop
            if not ends and _waited(wait(tries), stop_ns, control):
                tries = min(tries + 1, 65_535)
                continue
        txn, tries = txn + 1, 1


def _closed(
    error: BaseException,
    made: Tries,
    refused: Callable[[BaseException, int, int | None], Refusal],
    thought_ns: int,
    recorder: rec.AttemptRecorder,
    buffer: memoryview,
) -> tuple[int, str, bool]:
    """Close the row of a try that did not commit: its outcome, the engine's words, whether the
    transaction is over. Raises the error itself where it ends the run.
    """
    phase, end, offset = made.phase, made.end, made.offset
    close_row, close_at = rec.CLOSE_PART.pack_into, offset + rec.CLOSE_AT
    if isinstance(error, NotRecorded):
        # Nothing was begun: the row, which was opened before BEGIN, is one never used.
        rec.OPEN_PART.pack_into(buffer, offset, 0, 0, 0, 0, 0, 0)
        raise error
    if isinstance(error, InvariantBroken):
        close_row(buffer, close_at, made.begun, made.worked, end, 0, 0, rec.FAILED, 0, phase)
        raise error  # the sentence is the finding's: messages are the engines' own
    # A statement is not timed by itself, which every one of them would pay for: what it took is
    # known up to the statements before it.
    since = (0, made.start, max(made.begun, thought_ns), made.worked)[phase]
    outcome, conflict, message, over = refused(error, phase, end - since)
    close_row(
        buffer, close_at, made.begun, made.worked, end, 0,
        recorder.message(message), outcome, conflict, phase,
    )  # fmt: skip
    if phase == rec.STATEMENT:
        at = offset + rec.WITHIN_AT
        buffer[at : at + 3] = rec.packed_within(end - since)
    return outcome, message, over


def _parts(plan: Plan, context: WorkerContext, scenario: Scenario, control: ControlBlock) -> Parts:
    """The parts of a worker's transactions."""
    assert context.session is not None
    numbers = control.numbers
    rate = plan.rate if context.role == "writer" else plan.read_rate
    draw, bodies = scenario.draw(context), tuple(scenario.bodies(context))
    if context.role == "reader" and plan.reader_holds_s:
        bodies = holding(bodies, plan.reader_holds_s, context)
    acknowledged = _acknowledged(scenario, context)
    start_ns = numbers[control_block.START_NS]
    warp = warp_of(plan, context.role)
    due = arrivals(rate / context.of, start_ns, context.rng(ARRIVALS), warp) if rate else None
    parts = Parts(
        begin=context.session.begin,
        commit=context.session.commit,
        draw=draw,
        bodies=bodies,
        due=due,
        acknowledged=acknowledged,
        stopping=context.stopping,
        numbers=numbers,
        state=control_block.STATE,
        stop=control_block.STOP,
        stop_ns=numbers[control_block.STOP_NS],
        most=plan.transactions or -1,
    )
    return noted(parts, scenario, context)


def _acknowledged(scenario: Scenario, context: WorkerContext) -> Callable[[Any, int], None] | None:
    """The scenario's hook, behind which a connection that is not kept is given up."""
    hook, session = scenario.acknowledged(context), context.session
    assert session is not None
    own = _behind(session)
    if not isinstance(own, Passing):
        return hook

    def acknowledged(drawn: Any, result: int) -> None:
        if hook is not None:
            hook(drawn, result)
        own.finished()

    return acknowledged


def _waited(pause_s: float, stop_ns: int, control: ControlBlock) -> bool:
    """Wait before a transaction is tried again. False where the run ended meanwhile."""
    if pause_s <= 0:
        return True
    if pause_s < LONG_S:
        time.sleep(pause_s)
        return True
    wait_until(min(time.monotonic_ns() + int(pause_s * 1e9), stop_ns), control.stopping)
    return time.monotonic_ns() < stop_ns and not control.stopping()


MISTAKES = (NameError, AttributeError, TypeError, KeyError, IndexError, ZeroDivisionError)
"""No driver raises these for an engine's answer: the scenario's own code is wrong."""


def _mistake(error: BaseException) -> str:
    """Where a scenario's body went wrong, "" where the error is the engine's."""
    if isinstance(error, ScenarioFailed):
        return str(error)
    if not isinstance(error, MISTAKES):
        return ""
    at = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(at.filename).name}:{at.lineno}: {type(error).__name__}: {error}"


def _checkpoint_loop(
    plan: Plan,
    context: WorkerContext,
    scenario: Scenario,
    recorder: rec.AttemptRecorder,
    control: ControlBlock,
) -> dict[str, Any]:
    """PRAGMA wal_checkpoint until the run ends; a row for each that moved frames or failed.

    result = frames that are now copied. Checkpoints that found nothing to do or another one at
    work are counted and have no row: without a pause there are 100,000 of them a second.
    """
    session = context.session
    assert session is not None
    numbers = control.numbers
    stop_ns = numbers[control_block.STOP_NS]
    statement = f"PRAGMA wal_checkpoint({plan.checkpoint.upper()})"
    hook = getattr(scenario, "checkpointed", lambda context: None)(context)
    pause_s = plan.checkpoint_pause_ms / 1000
    pauses = context.rng(8)
    buffer, offset, limit = recorder.buffer, recorder.offset, recorder.limit
    txn = idle = locked = 0
    before: tuple[int, int] = (-1, -1)
    state, stop = control_block.STATE, control_block.STOP
    while (start := time.monotonic_ns()) < stop_ns and numbers[state] != stop:
        rec.OPEN_PART.pack_into(buffer, offset, start, start, txn, 1, 0, 0)
        busy = log = done = conflict = message = phase = 0
        if pause_s:  # else there are too many of them for the log of a run that is recorded
            note("checkpoint begun")
        try:
            busy, log, done = (int(value) for value in session.rows(statement)[0][:3])
            outcome = rec.CONFLICT if busy else rec.COMMITTED
        except BaseException as error:
            phase = rec.STATEMENT
            outcome, conflict, text, over = session.refusal(error, phase)
            message = recorder.message(text)
            if not over:
                session.rollback()
        end = time.monotonic_ns()
        if pause_s:
            note("checkpoint ended")
        if hook is not None and outcome == rec.COMMITTED:
            hook(busy, log, done)
        if busy or (outcome == rec.COMMITTED and (log, done) == before):
            locked += bool(busy)
            idle += not busy
            rec.OPEN_PART.pack_into(buffer, offset, 0, 0, 0, 0, 0, 0)
        else:
            before = (log, done)
            rec.CLOSE_PART.pack_into(
                buffer, offset + rec.CLOSE_AT, start, end, end, done,
                message, outcome, conflict, phase,
            )  # fmt: skip
            txn += 1
            offset += rec.ROW_BYTES
            if recorder.full is not None:
                raise recorder.full
            if offset == limit:
                buffer, offset, limit = recorder.roll()
        if pause_s:
            pause_ns = int(pauses.uniform(0, 2e9 * pause_s))
            wait_until(min(time.monotonic_ns() + pause_ns, stop_ns), context.stopping)
    rec.OPEN_PART.pack_into(buffer, offset, 0, 0, 0, 0, 0, 0)
    return {"idle_checkpoints": idle, "busy_checkpoints": locked}


def work_all(job: Job, workers: Sequence[int]) -> None:
    """The workers of one process, each in a thread, the first in this one."""
    control = ControlBlock(job.control_path, len(job.plan.roles()))
    threads = [threading.Thread(target=work, args=(job, w, control)) for w in workers[1:]]
    for thread in threads:
        thread.start()
    work(job, workers[0], control)
    for thread in threads:
        thread.join()


# --- the process ------------------------------------------------------------------------------


def main(argv: list[str]) -> int:
    """Run JOB.json load | check | history | work WORKER…; the results are in the accounts."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when the run ends
    job = Job(argv[0])
    die_with_parent()
    if argv[1] == "work":
        work_all(job, [int(text) for text in argv[2:]])
        return 0
    return errand(job, argv[1])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
