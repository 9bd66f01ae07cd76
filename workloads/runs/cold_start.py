"""All workers of a run open a database file that does not exist yet, at the same moment.

So does an application whose processes start together on a new machine: each opens the file, asks
for its journal mode, creates the schema where it is missing, and goes on. What an engine refuses
meanwhile is no attempt of a transaction: it is counted here, by where it came, in the engine's own
words. A refused worker tries again as its plan's retry policy says; nothing is hidden.
"""

from __future__ import annotations

import re
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np

from workloads import records as rec
from workloads.engines import Refusal, Session, classifier, refused_pragmas
from workloads.runs.connections import not_opened
from workloads.runs.control import STOP_NS, ControlBlock
from workloads.runs.pacing import retry_wait
from workloads.runs.plan import Plan
from workloads.scenarios import InvariantBroken, Scenario, ScenarioFailed

now = time.monotonic_ns

OPENING = "open"
SCHEMA = {rec.BEGIN: "schema, BEGIN", rec.STATEMENT: "schema", rec.COMMIT: "schema, COMMIT"}
"""Where a refusal came, beside "PRAGMA …" by the pragma's own name."""

TABLES = "SELECT name FROM sqlite_master WHERE type = 'table'"
CREATE = re.compile(
    r"(?P<create>\s*CREATE\s+(UNIQUE\s+)?(TABLE|INDEX|TRIGGER|VIEW)\s+)(?!IF\s+NOT\s)",
    re.IGNORECASE,
)


def if_missing(statement: str) -> str:
    """A statement of a schema, as an application writes it that may find the table there.

    >>> if_missing("CREATE TABLE t(a)"), if_missing("CREATE UNIQUE INDEX i ON t(a)")
    ('CREATE TABLE IF NOT EXISTS t(a)', 'CREATE UNIQUE INDEX IF NOT EXISTS i ON t(a)')
    """
    return CREATE.sub(lambda found: f"{found['create']}IF NOT EXISTS ", statement, count=1)


def create(session: Session, scenario: Scenario, *, fill: bool) -> None:
    """A scenario's schema, where it is missing, within the transaction that is open. fill : and
    its rows, which are the same whatever the seed.
    """
    for statement in scenario.schema():
        session.run(if_missing(statement))
    if fill:
        scenario.load(cast("Session", Within(session)), np.random.default_rng(99))


class NotStarted(Exception):
    """A worker that does not come to its first transaction; the text has the engine's words."""


class ColdStart:
    """One worker's start. `aside` is a session on another file, for the engine's modes and for the
    meaning of errors that come before there is a session; it is closed when the start is over.
    """

    def __init__(
        self,
        worker: int,
        plan: Plan,
        scenario: Scenario,
        database: Path,
        connect: Callable[[Path], Session],
        control: ControlBlock,
        recorder: rec.OpenRecorder,
    ) -> None:
        self._plan, self._scenario, self._control = plan, scenario, control
        self._connect, self._database, self._recorder = connect, database, recorder
        self._role = plan.roles()[worker][0]
        self._home = database.parent / f"aside-{worker:03d}"
        self._home.mkdir()
        self.aside = connect(self._home / "aside.db")
        self._own = self._tables(self.aside)
        self._wait = retry_wait(
            plan.retry.policy, plan.retry.base_us, plan.retry.cap_us, (plan.seed, worker)
        )
        self._refused: Counter[tuple[str, str, int]] = Counter()
        self._tries = {"open": 0, "schema": 0}
        self._created = False
        self._start = self._opened = self._ready = 0
        self.session: Session | None = None

    def __call__(self) -> Session:
        """The worker's session, its schema there. Raises NotStarted, or ScenarioFailed."""
        self._start = now()
        try:
            self.session = session = self._until_done("open", self._open)
            self._opened = now()
            if self._role != "checkpointer":
                self._until_done("schema", lambda: self._schema(session))
            self._ready = now()
        finally:
            self._recorder.close()
            self.leave()
        return session

    def leave(self) -> None:
        """Close what was opened aside."""
        self.aside.close()
        shutil.rmtree(self._home, ignore_errors=True)

    def account(self) -> dict[str, Any]:
        """For the manifest, as of workloads.records.ColdStart. Times are ns since it began."""
        since = [at - self._start if at else None for at in (self._opened, self._ready)]
        return {
            "tries": self._tries["open"],
            "schema_tries": self._tries["schema"],
            "opened_ns": since[0],
            "ready_ns": since[1],
            "created": self._created,
            "refused": [
                {"at": at, "message": message, "outcome": rec.OUTCOMES[outcome], "times": times}
                for (at, message, outcome), times in self._refused.items()
            ],
        }

    # -- trying ------------------------------------------------------------------------------------

    def _until_done(self, what: str, step: Callable[[], Session | Refusal]) -> Session:
        """A step, tried again as the policy says where another worker was in the way."""
        while True:
            self._tries[what] += 1
            done = step()
            if not isinstance(done, Refusal):
                return done
            if done.outcome == rec.FAILED:
                raise NotStarted(f"{what}: {done.message}")
            tries, retry = self._tries[what], self._plan.retry
            if retry.policy == "none" or tries == retry.most_tries:
                raise NotStarted(f"{what}: refused after {tries} tries, the last: {done.message}")
            time.sleep(self._wait(tries))
            if self._control.stopping() or now() >= self._control.numbers[STOP_NS]:
                raise NotStarted(f"{what}: the run was over after {tries} tries: {done.message}")

    def _note(self, at: str, found: Refusal) -> Refusal:
        self._refused[at, found.message, found.outcome] += 1
        return found

    def _open(self) -> Session | Refusal:
        start = now()
        session: Session | None = None
        failure: BaseException | None = None
        with refused_pragmas() as refused:
            try:
                session = self._connect(self._database)
            except BaseException as error:  # a panic of Rust's, too
                failure = error
        # An application's own statement would have raised each of these, whatever came of it.
        for name, raised in refused:
            found = self._meaning(raised)
            if found.outcome == rec.CONFLICT or name == "journal_mode":
                self._note(f"PRAGMA {name}", found)
            if found.outcome == rec.CONFLICT:
                if session is not None:
                    session.close()
                return found
        if session is None:
            assert failure is not None
            return self._note(OPENING, self._meaning(failure))
        self._recorder.add(start, now(), 0, 0, rec.COLD)
        return session

    def _meaning(self, error: BaseException) -> Refusal:
        try:
            return classifier(self.aside)(error, rec.BEGIN, None)
        except Exception:
            return not_opened(error)

    def _schema(self, session: Session) -> Session | Refusal:
        """Create the schema where it is missing and fill it, in one transaction."""
        start, phase = now(), rec.BEGIN
        try:
            session.begin()
            phase = rec.STATEMENT
            missing = self._tables(session) <= self._own
            create(session, self._scenario, fill=missing)
            there = self._tables(session)
            phase = rec.COMMIT
            session.commit()
            phase = rec.STATEMENT
            self._seen(there, self._tables(session))
        except ScenarioFailed as error:
            session.rollback()
            if not (refused := error.__cause__):
                raise
            return self._note(SCHEMA[phase], classifier(session)(refused, phase, None))
        except InvariantBroken:
            raise
        except BaseException as error:
            found = classifier(session)(error, phase, None)
            if not found.over:
                session.rollback()
            return self._note(SCHEMA[phase], found)
        self._created = missing
        self._recorder.add(start, now(), 0, 0, rec.SCHEMA)
        return session

    def _seen(self, within: set[str], after: set[str]) -> None:
        """The schema was there within its transaction, and is after its COMMIT."""
        if within <= self._own and self._scenario.schema():
            raise InvariantBroken(
                "A transaction that created the schema and was acknowledged did not see it.",
                tables=sorted(within),
            )
        if gone := sorted(within - after):
            raise InvariantBroken(
                f"The schema was committed, and then it was not there: {', '.join(gone)}.",
                tables=gone,
            )

    @staticmethod
    def _tables(session: Session) -> set[str]:
        return {str(name) for (name,) in session.rows(TABLES)}


class Within:
    """A session inside a transaction that is ended by somebody else: it begins and ends none."""

    def __init__(self, real: Session) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def begin(self) -> None:
        pass

    def commit(self) -> None:
        pass

    def in_transaction(self) -> bool:
        return False
