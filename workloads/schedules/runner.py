"""One schedule over several sessions: real connections, stepped one at a time, nobody waits.

    with ScheduleRunner("libsql", ("deferred", "deferred"), Schema()) as runner:
        made = runner.run(Schedule(("begin; r 0; append 0 1; commit", "append 0 2"), "00100"))
    made.history()      # for the checker
    made.events         # each step with its result or the engine's own message

The busy timeout is 0: a lock is an immediate refusal. A refused transaction is rolled back and its
remaining steps are left out; nothing is tried again, except a BEGIN of a patient schedule, which
holds nothing while it is `blocked`.

The sessions are in a process of their own. Where an engine takes it down, or never comes back,
EngineDied shows the schedule, the step and the last output of the process, and the runner goes on
with a new process.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import weakref
from collections import OrderedDict
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from workloads.engines import OF_CONNECTION, Identity, Settings, find_engine, pragma_values
from workloads.errors import EngineMissing
from workloads.records import Builder, History
from workloads.schedules import sessions
from workloads.schedules.all_steps import State, restore, rows_left, run_steps, state_of
from workloads.schedules.schedule import FAST, READS, Op, Schedule, Schema
from workloads.schedules.schedule_text import as_schedule, pasted, sql_of, stderr_text, timeline
from workloads.schedules.sessions import ProcessDied, SessionProcess, SubprocessSession
from workloads.schedules.stepper import Opening
from workloads.schedules.steps import StepResult, StepTaker, Txn

REUSABLE = ("libsql", "sqlite", "turso", "postgres", "libsql-remote", "libsql-replica")
"""Engines whose database is put back in place between schedules, which is cheaper than a new one.

Only where nothing but rows can carry over: begin-concurrent decides by page, so a file that an
earlier schedule has rearranged could answer otherwise, and a faulty engine may count.
"""

TEMPLATES_KEPT = 64
_templates: OrderedDict[tuple[str, str, Schema], dict[str, bytes]] = OrderedDict()
"""New databases by engine, mode and schema, as bytes, shared by runners of different settings."""


ALL_STEPS_TAKEN = "what was open was ended and the rows that are left were read"
"""For a death after the last step. Where a step is under way, the step is named instead."""


class EngineDied(RuntimeError):
    """An engine took down the process of its sessions, or never came back from a call.

    The text has everything: the schedule, the step and the process's output; `first` is its first
    line. hung : the process was ended because it had not answered for too long.
    """

    def __init__(self, text: str, *, hung: bool) -> None:
        super().__init__(text)
        self.first = text.partition("\n")[0]
        self.hung = hung


@dataclass
class ScheduleRun:
    """A schedule that was run: its steps and transactions, and the rows it left behind.

    final : key -> value of the rows there at the end, read after every transaction was over.
    stderr : the standard error of the sessions' processes meanwhile.
    """

    schedule: Schedule
    engines: tuple[str, ...]
    modes: tuple[str, ...]
    identity: Identity
    events: list[StepResult]
    txns: list[Txn]
    final: dict[int, Any]
    stderr: str = ""

    def history(self, keys: Container[int] | None = None) -> History:
        """The history for the checker. Real time is the place in the schedule. A session of its own
        reads all rows at the end.

        keys : only operations on these, None for all.
        Raises ValueError where the schedule deletes: a read of an absent row shows too little.
        """
        if not self.schedule.checkable:
            raise ValueError("a schedule that deletes rows has no history that tells all of it.")
        schema = self.schedule.schema
        builder = Builder("list-append" if schema.model == "list" else "rw-register")
        for txn in self.txns:
            ops = [op for op in txn.ops if keys is None or op[1] in keys]
            builder.add(txn.session, 2 * txn.begin, 2 * txn.end + 1, txn.outcome, ops)
        last = 2 * len(self.events) + 2
        nothing = () if schema.model == "list" else None
        asked = [key for key in schema.keys if keys is None or key in keys]
        reads = [("r", key, self.final.get(key, nothing)) for key in asked]
        builder.add("end", last, last + 1, "committed", reads)
        return builder.build()

    def seen(self, session: int) -> list[Any]:
        """The values that the reads of a session saw, in order; None for a read without answer."""
        return [e.value for e in self.events if e.session == session and e.op.name in READS]


class ScheduleRunner:
    """Sessions on one database, which is brought back to its first state before each schedule.

    engine    : a name, or one for each session ("libsql", "sqlite-concurrent"); several only with
        processes, because two copies of SQLite in one process spoil each other's file.
    modes     : the BEGIN mode of each session.
    processes : a process a session, not one for all. Raises ValueError for an engine that is locked
        to one.
    Raises EngineMissing, EngineDied, and SessionError where the engine cannot make the schema.
    """

    listeners: ClassVar[list[Callable[[Sequence[StepResult]], None]]] = []
    """Called with the steps of each schedule that was run, when it is over."""

    def __init__(
        self,
        engine: str | Sequence[str],
        modes: Sequence[str],
        schema: Schema | None = None,
        settings: Settings = FAST,
        *,
        processes: bool = False,
    ) -> None:
        self.modes, self.schema = tuple(modes), schema or Schema()
        engines = (engine,) * len(self.modes) if isinstance(engine, str) else tuple(engine)
        self.engines = engines
        self._together = not processes
        if len(set(engines)) > 1 and not processes:
            raise ValueError(
                f"{', '.join(engines)} on one file in one process would drop each other's locks. "
                "Give each its own with processes=True."
            )
        found = [find_engine(name) for name in engines]
        if processes and any(e.hosting == "thread" for e in found):
            raise ValueError(f"{engines[0]} locks its file to one process: leave out processes.")
        for one in found:
            if why := one.missing():
                raise EngineMissing(why)
        self.settings = self._pragmas(settings)
        self._reusable = (
            set(engines) <= set(REUSABLE)
            and "attached" not in self.schema.features
            and not (found[0].file_format == "sqlite" and "concurrent" in self.modes)
        )
        self.folder = Path(tempfile.mkdtemp(prefix="stage-", dir=sessions.room()))
        self._gone = weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        self._processes: list[SessionProcess] = []
        self.sessions: list[SubprocessSession] = []
        self._count = 0
        self._taker: StepTaker | None = None
        self._noted: list[tuple[int, Op] | StepResult] = []
        self._before: Schedule | None = None
        self._used = self._dead = self._spoilt = False
        self._server: Any = None
        self.database = self.folder
        self._served = getattr(found[0], "serve", None)
        self._anew: tuple[str, ...] = getattr(found[0], "anew", ())
        try:
            with self._at("the sessions were opened"):
                self._template = self._make_template()
                self._first = self._fresh()
                self.identity = self._processes[0].identity()
        except BaseException:
            self.close()
            raise

    def _pragmas(self, settings: Settings) -> Settings:
        return replace(settings, busy_timeout_ms=0, page_bytes=self.schema.page_bytes)

    # --- when an engine dies -----------------------------------------------------------------

    @contextlib.contextmanager
    def _at(self, what: str, schedule: Schedule | None = None) -> Iterator[None]:
        """Turns the death of a process into EngineDied; other errors get the schedule as a note.

        A database on which anything was raised is not used again: the next schedule gets a new one.
        """
        try:
            yield
            return
        except ProcessDied as died:
            text, hung = self._death_text(died, what, schedule), died.hung
        except BaseException as error:
            if schedule is not None and isinstance(error, Exception):
                error.add_note(f"{self._names}, while {what}: {pasted(schedule)}")
            self._spoilt = True
            raise
        self._dead = True
        raise EngineDied(text, hung=hung)

    @property
    def _names(self) -> str:
        return " and ".join(dict.fromkeys(self.engines))

    def _death_text(self, died: ProcessDied, what: str, schedule: Schedule | None) -> str:
        """The text of an EngineDied. Also counts the steps until the death."""
        events, step = self._until(died)
        asked = died.asked
        if step is not None:
            (session, op), at = step, len(events)
            what = f"session {session} ({self.modes[session]}) took step {at}, `{op}`"
            asked = sql_of(op, self.schema)
            events.append(StepResult(at, session, -1, op, "died", None, died.how))
        self._notify(events)
        verb = "never came back" if died.hung else "took its process down"
        parts = [f"{self._names} {verb} while {what} ({asked}): {died.how}.", ""]
        if events:
            parts += [timeline(events, self.modes), ""]
        parts += [*stderr_text(died.stderr), ""]
        parts.append(f"modes: {', '.join(self.modes)}; {self.schema}; {self.settings}")
        if schedule is None and events:
            schedule = as_schedule(events, self.schema, self.settings)
        if schedule is not None:
            parts.append(f"@example({pasted(schedule)})")
        elif self._before is not None:
            # A thread of the engine's own may have outlived the schedule that made it fail.
            parts.append(f"the schedule before: {pasted(self._before)}")
        return "\n".join(parts)

    def _until(self, died: ProcessDied) -> tuple[list[StepResult], tuple[int, Op] | None]:
        """The steps before a death, and the step of the death; None for it between two."""
        noted = died.noted or (self._noted if self._taker else [])
        events = [one for one in noted if isinstance(one, StepResult)]
        last = noted[-1] if noted and not isinstance(noted[-1], StepResult) else None
        return events, last

    # --- making and restoring the database ---------------------------------------------------

    def _process(self, session: int) -> SessionProcess:
        """The process of a session; processes that died are replaced."""
        while len(self._processes) <= (0 if self._together else session):
            self._processes.append(sessions.take(self.engines[len(self._processes)]))
        return self._processes[0 if self._together else session]

    def _open(self, folder: Path, count: int) -> list[SubprocessSession]:
        """The first `count` sessions on the database in a folder."""
        openings = [self._opening(folder, session) for session in range(count)]
        if self._together:
            return self._process(0).open(openings)
        return [self._process(at).open([one])[0] for at, one in enumerate(openings)]

    def _opening(self, folder: Path, session: int) -> Opening:
        more = []
        if "foreign" in self.schema.features:
            more.append("PRAGMA foreign_keys=ON")
        if "attached" in self.schema.features:
            more.append(f"ATTACH '{folder / 'other' / 'other.db'}' AS other")
            more += [
                f"PRAGMA other.{name}={value}"
                for name, value in pragma_values(self.settings, "wal").items()
                if name not in OF_CONNECTION
            ]
        return Opening(
            self.engines[session],
            str(folder / "a.db"),
            self.modes[session],
            self.settings,
            tuple(more),
        )

    def _make_template(self) -> dict[str, bytes]:
        """The files of a new database: path within its folder -> bytes."""
        if self._served is not None:
            return {}  # its database is made anew where it is
        key = (self.engines[0], self.modes[0], self.schema)
        if key in _templates:
            _templates.move_to_end(key)
            return _templates[key]
        folder = self.folder / "template"
        (folder / "other").mkdir(parents=True)
        making = self._open(folder, 1)
        try:
            making[0].run_all((sql, ()) for sql in self.schema.statements())
        finally:
            sessions.close(making)
        files = [path for path in folder.rglob("*") if path.is_file()]
        made = {str(path.relative_to(folder)): path.read_bytes() for path in files}
        shutil.rmtree(folder)
        _templates[key] = made
        if len(_templates) > TEMPLATES_KEPT:
            _templates.popitem(last=False)
        return made

    def _fresh(self) -> State:
        """A new copy of the database, and new sessions on it. Returns its state."""
        self._close_sessions()
        if self._served is not None:
            self._make_anew(self._served)
            self.sessions = self._open(self.database, len(self.modes))
            return state_of(self.sessions[0], self.schema)
        self._count += 1
        folder = self.database = self.folder / str(self._count)
        (folder / "other").mkdir(parents=True)
        for name, content in self._template.items():
            (folder / name).write_bytes(content)
        self.sessions = self._open(folder, len(self.modes))
        return state_of(self.sessions[0], self.schema)

    def _make_anew(self, serve: Callable[..., Any]) -> None:
        """An empty database at the runner's own server, and the schema in it."""
        anew = self._anew
        if self._server is not None and not anew:
            self._server.close(keep=False)
            self._server = None
            shutil.rmtree(self.database)
        self.database = self.folder / "served"
        if self._server is None:
            self.database.mkdir()
            self._server = serve(Path(self._opening(self.database, 0).path), self.settings)
        making = self._open(self.database, 1)
        try:
            making[0].run_all((sql, ()) for sql in (*anew, *self.schema.statements()))
        finally:
            sessions.close(making)

    def _close_sessions(self) -> None:
        """Close all sessions. After a death none can be closed, so all processes are ended."""
        self._spoilt = False
        if self.dead:
            for process in self._processes:
                process.end()
            self._processes.clear()
            self._dead = False
        open_ones, self.sessions = self.sessions, []
        sessions.close(open_ones)
        if self._count:
            shutil.rmtree(self.folder / str(self._count), ignore_errors=True)

    # --- running ----------------------------------------------------------------------------

    def run(self, schedule: Schedule) -> ScheduleRun:
        """Take all steps of a schedule, on a database in its first state."""
        if schedule.schema != self.schema or len(schedule.programs) > len(self.modes):
            raise ValueError(
                "these sessions were opened for another schema, or for fewer sessions."
            )
        if self._pragmas(schedule.settings) != self.settings:
            raise ValueError(
                f"these sessions were opened with {self.settings}, not {schedule.settings}."
            )
        if self._together:
            first = self._renewed()
            self._before = schedule
            with self._at(ALL_STEPS_TAKEN, schedule):
                events, txns, final = self._process(0).run_schedule(self.sessions, schedule, first)
        else:
            taker = self.step_taker()
            self._before = schedule
            with self._at(ALL_STEPS_TAKEN, schedule):
                final = run_steps(taker, self.sessions, schedule)
            events, txns = taker.events, taker.txns
            self._taker = None
        self._notify(events)
        stderr = "".join(process.stderr() for process in self._processes)
        modes, identity = self.modes, self.identity
        return ScheduleRun(schedule, self.engines, modes, identity, events, txns, final, stderr)

    def _renewed(self) -> State | None:
        """New sessions where the old ones will not do; else the rows that are to be put back."""
        self._taker = None
        used, self._used = self._used, True
        if self.dead or self._spoilt or (used and not self._reusable):
            with self._at("a new database was made"):
                self._fresh()
            return None
        return self._first if used else None

    def step_taker(self) -> StepTaker:
        """A StepTaker over the sessions, on the database's first state, for `step` and `end`."""
        first = self._renewed()
        if first is not None:
            with self._at("its database was put back"):
                restore(self.sessions[0], self.schema, first)
        self._noted = []
        self._taker = StepTaker(self.sessions, self.schema, self._noted.append)
        return self._taker

    def step(self, session: int, op: Op | str) -> StepResult:
        """Take one step. Raises EngineDied with the steps so far."""
        with self._at(ALL_STEPS_TAKEN):
            return self._taking.step(session, op)

    def in_transaction(self) -> list[bool]:
        """Whether each session's engine says that it is in a transaction."""
        assert self._taking
        with self._at("each session was asked whether it is in a transaction"):
            return sessions.in_transaction(self.sessions)

    def end(self) -> dict[int, Any]:
        """Roll back all open transactions, and return the rows that are left."""
        taker = self._taking
        self._before = as_schedule(taker.events, self.schema, self.settings)
        with self._at(ALL_STEPS_TAKEN):
            taker.give_up()
            final = rows_left(self.sessions[0], self.schema)
        self._taker = None
        self._notify(taker.events)
        return final

    @property
    def _taking(self) -> StepTaker:
        assert self._taker is not None, "step_taker() comes first"
        return self._taker

    def _notify(self, events: Sequence[StepResult]) -> None:
        for listener in self.listeners:
            listener(events)

    @property
    def dead(self) -> bool:
        """Whether a process of its sessions is gone: the next schedule gets new ones."""
        return self._dead or not all(process.alive for process in self._processes)

    def reopened(self) -> SubprocessSession:
        """Close every session and open one anew: what it sees is what was kept. Ends the runner's
        use of this database; the next schedule gets a new one.
        """
        with self._at("all sessions were closed and one was opened again"):
            open_ones, self.sessions = self.sessions, []
            sessions.close(open_ones)
            self._reusable = False
            self.sessions = self._open(self.database, 1)
        return self.sessions[0]

    def close(self) -> None:
        """Close every session and remove the database."""
        try:
            with self._at("the sessions were closed"):
                self._close_sessions()
        finally:
            for process in self._processes:
                sessions.give_back(process)
            self._processes.clear()
            if self._server is not None:
                self._server.close(keep=False)
                self._server = None
            self._gone()

    def __enter__(self) -> ScheduleRunner:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
