"""What a process does for a run that is no work: it loads the database, or checks it afterwards."""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from workloads import records as rec
from workloads.engines import (
    AUTOCOMMIT,
    Engine,
    Session,
    Settings,
    find_engine,
    layout_of,
    logs_of,
    save_history,
    trees_of,
    usual_mode,
)
from workloads.runs import control as control_block
from workloads.runs.cold_start import create
from workloads.runs.connections import after_attempt
from workloads.runs.control import ControlBlock
from workloads.runs.job import Job, error_text, identity_of, log_of, mistake_in
from workloads.scenarios import (
    TRANSACTING,
    RunLog,
    Watched,
)


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
        job.account(name, failed=mistake_in(error) or error_text(error), cause=_cause_of(error))
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
        raise _Failed(mistake_in(error) or error_text(error), cause) from error
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
        rehearse_schema(job)
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


def rehearse_schema(job: Job) -> None:
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
            return rehearse(session)
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
        mistake = mistake_in(error)
        why = f"the scenario's check failed at {mistake}" if mistake else error_text(error)
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


def rehearse(session: Session) -> str | None:
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
        after_attempt(session)()
    return None
