"""A process of a run: it works on a database here, or does an errand (workloads.runs.errands).

`python -m workloads.runs.worker JOB.json ROLE [WORKER …]` is started by `workloads.runs.making`
and by nobody else. Each such process opens the database with one engine only, so that no two
copies of SQLite ever meet on one file in one process.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

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
    log_path,
    loop_in_use,
    usual_mode,
)
from workloads.processes import die_with_parent, note
from workloads.runs import control as control_block
from workloads.runs.cold_start import ColdStart, NotStarted
from workloads.runs.commit_notes import noted
from workloads.runs.connections import (
    Borrowing,
    Passing,
    PerTransaction,
    after_attempt,
    behind,
    pool_for,
)
from workloads.runs.control import ControlBlock
from workloads.runs.errands import errand, rehearse
from workloads.runs.hot_path import Parts, Tries, tries_of
from workloads.runs.job import Job, context_of, error_text, identity_of, mistake_in
from workloads.runs.pacing import ARRIVALS, LONG_S, arrivals, retry_wait, thinker, wait_until
from workloads.runs.plan import Plan
from workloads.runs.snapshots import OneSnapshot, holding
from workloads.runs.stages import warp_of
from workloads.runs.trouble import NOT_RECORDED
from workloads.runs.ways import KEPT, pool_of
from workloads.scenarios import (
    TRANSACTING,
    InvariantBroken,
    Scenario,
    ScenarioFailed,
    WorkerContext,
)

MOST_FAILURES = 1000
"""In a row, before a worker gives up: a database that answers nothing else would fill the disk."""


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
        if role != "checkpointer" and (message := rehearse(session)) is not None:
            report(control_block.REFUSED, state="refused", account=message)
            return
    except BaseException as error:
        report(control_block.NOT_OPENED, state="could not open", account=error_text(error))
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
            account=error_text(error),
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
        return control_block.DIED, {"state": "died", "account": error_text(error)}
    if account["state"] == "scenario failed":
        control.stop()
        return control_block.MISTAKEN, account
    return control_block.FINISHED, account


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
    finished = after_attempt(session)
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
            mistake = mistake_in(error) if made.phase == rec.STATEMENT else ""
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
    own = behind(session)
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
