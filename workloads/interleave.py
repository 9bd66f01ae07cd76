"""One schedule over several sessions: real connections, stepped one at a time, nobody waits.

    with Stage("libsql", ("deferred", "deferred"), Schema()) as stage:
        played = stage.play(Schedule(("begin; r 0; append 0 1; commit", "append 0 2"), "00100"))
    played.history()      # what the checker judges
    played.events         # each step with its result or the engine's own words

The busy timeout is 0: a lock is an immediate refusal. A refused transaction is rolled back and its
remaining steps are left out; nothing is tried again, except a BEGIN of a patient schedule, which
holds nothing while it is `blocked`.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections import OrderedDict
from collections.abc import Container, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from workloads.engines import Identity, Settings, find_engine
from workloads.history import Builder, History
from workloads.player import Event, Player, Txn
from workloads.schedule import FAST, READS, Op, Schedule, Schema
from workloads.stepping import Local, Opening, Remote
from workloads.watchdog import watched

REUSABLE = ("libsql", "sqlite", "turso")
"""Engines whose database is put back in place between schedules, which is cheaper than a new one.

Only where nothing but rows can carry over: begin-concurrent decides by page, so a file that an
earlier schedule has rearranged could answer otherwise, and a faulty engine may count.
"""

TEMPLATES_KEPT = 64
_templates: OrderedDict[tuple[str, str, Schema], dict[str, bytes]] = OrderedDict()
"""New databases by engine, mode and schema, as bytes: stages that differ in settings share them."""


@dataclass
class Played:
    """A schedule that was played: its events and transactions, and the rows it left behind.

    final : key -> value of the rows there at the end, read after every transaction was over.
    """

    schedule: Schedule
    engines: tuple[str, ...]
    modes: tuple[str, ...]
    identity: Identity
    events: list[Event]
    txns: list[Txn]
    final: dict[int, Any]

    def history(self, keys: Container[int] | None = None) -> History:
        """For the checker: real time is the place in the schedule; the last read is a session's.

        keys : only what was done to these, None for all.
        Raises ValueError where the schedule deletes: a read of an absent row tells too little.
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
        """What the reads of a session saw, in order; None for one that never came."""
        return [e.value for e in self.events if e.session == session and e.op.name in READS]


class Stage:
    """Sessions on one database, which is brought back to its first state before each schedule.

    engine    : a name, or one for each session ("libsql", "sqlite-concurrent"); several only with
        processes, because two copies of SQLite in one process spoil each other's file.
    modes     : the BEGIN mode of each session.
    processes : a process a session. Raises ValueError for an engine that is locked to one.
    Raises EngineMissing, and the engine's own error where it cannot make the schema.
    """

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
        if len(set(engines)) > 1 and not processes:
            raise ValueError(
                f"{', '.join(engines)} on one file in one process would drop each other's locks. "
                "Give each its own with processes=True."
            )
        found = [find_engine(name) for name in engines]
        if processes and any(e.hosting == "thread" for e in found):
            raise ValueError(f"{engines[0]} locks its file to one process: leave out processes.")
        self.identity = found[0].identity()
        self._session = Remote if processes else Local
        self.settings = self._pragmas(settings)
        self._reusable = (
            set(engines) <= set(REUSABLE)
            and "attached" not in self.schema.features
            and not (found[0].file_format == "sqlite" and "concurrent" in self.modes)
        )
        self.folder = Path(tempfile.mkdtemp(prefix="cwkit-stage-", dir=_fast_folder()))
        self._gone = weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        self.sessions: list[Local | Remote] = []
        self._count = 0
        with self._watched("opening"):
            self._template = self._make_template()
            self._first = self._fresh()

    def _watched(self, what: object) -> AbstractContextManager[None]:
        """A step that never comes back ends this process; one in a process of its own only that."""
        if self._session is Remote:
            return nullcontext()
        return watched(f"{', '.join(self.engines)} in {', '.join(self.modes)}: {what}")

    def _pragmas(self, settings: Settings) -> Settings:
        return replace(settings, busy_timeout_ms=0, page_bytes=self.schema.page_bytes)

    # --- making and restoring the database ---------------------------------------------------

    def _open(self, folder: Path, session: int) -> Local | Remote:
        more = []
        if "foreign" in self.schema.features:
            more.append("PRAGMA foreign_keys=ON")
        if "attached" in self.schema.features:
            more.append(f"ATTACH '{folder / 'other' / 'other.db'}' AS other")
            wanted = {
                "page_size": self.settings.page_bytes,  # before journal_mode writes the first page
                "journal_mode": "wal",
                "synchronous": self.settings.synchronous,
                "cache_size": self.settings.cache_size,
                "mmap_size": self.settings.mmap_bytes,
            }
            more += [f"PRAGMA other.{name}={value}" for name, value in wanted.items()]
        opening = Opening(
            self.engines[session],
            str(folder / "a.db"),
            self.modes[session],
            self.settings,
            tuple(more),
        )
        return self._session(opening)

    def _make_template(self) -> dict[str, bytes]:
        """The files of a new database: path within its folder -> bytes."""
        key = (self.engines[0], self.modes[0], self.schema)
        if key in _templates:
            _templates.move_to_end(key)
            return _templates[key]
        folder = self.folder / "template"
        (folder / "other").mkdir(parents=True)
        session = self._open(folder, 0)
        try:
            for sql in self.schema.statements():
                session.run(sql)
        finally:
            session.close()
        files = [path for path in folder.rglob("*") if path.is_file()]
        made = {str(path.relative_to(folder)): path.read_bytes() for path in files}
        shutil.rmtree(folder)
        _templates[key] = made
        if len(_templates) > TEMPLATES_KEPT:
            _templates.popitem(last=False)
        return made

    def _fresh(self) -> dict[str, list[Any]]:
        """A new copy of the database, and new sessions on it. Returns its state."""
        self._close_sessions()
        self._count += 1
        folder = self.database = self.folder / str(self._count)
        (folder / "other").mkdir(parents=True)
        for name, content in self._template.items():
            (folder / name).write_bytes(content)
        for number in range(len(self.modes)):
            self.sessions.append(self._open(folder, number))
        return self._state()

    def _state(self) -> dict[str, list[Any]]:
        rows = self.sessions[0].rows
        state = {t: rows(f"SELECT * FROM {t} ORDER BY id") for t in self.schema.all_tables}
        if "trigger" in self.schema.features and "attached" not in self.schema.features:
            state["sqlite_sequence"] = rows("SELECT name, seq FROM sqlite_sequence WHERE seq > 0")
        return state

    def _close_sessions(self) -> None:
        while self.sessions:
            self.sessions.pop().close()
        if self._count:
            shutil.rmtree(self.folder / str(self._count), ignore_errors=True)

    def reset(self) -> None:
        """Bring the database back to its first state: in place where nothing can carry over."""
        if not self._reusable:
            self._fresh()
            return
        if (state := self._state()) == self._first:
            return
        run = self.sessions[0].run
        changed = [table for table in self._first if state[table] != self._first[table]]
        if "foreign" in self.schema.features:
            changed = list(self._first)  # a row cannot go before those that refer to it
        for table in changed:
            run(f"DELETE FROM {table}")
        for table in reversed(changed):
            for row in self._first[table]:
                run(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", tuple(row))
        if "trigger" in self.schema.features:  # putting the rows back has left its trace
            run("DELETE FROM audit")
            run("UPDATE sqlite_sequence SET seq = 0")
        if self._state() != self._first:
            raise RuntimeError(
                f"{self.engines[0]} did not put back the rows it was asked to: "
                f"{self._state()} instead of {self._first}."
            )

    # --- playing ----------------------------------------------------------------------------

    def player(self) -> Player:
        """A player over the sessions, on the database's first state."""
        with self._watched("reset"):
            return self._player()

    def _player(self) -> Player:
        if self._used:
            self.reset()
        self._used = True
        return Player(self.sessions, self.schema)

    _used = False

    def play(self, schedule: Schedule) -> Played:
        """Take all steps of a schedule, on a database in its first state."""
        if schedule.schema != self.schema or len(schedule.programs) > len(self.modes):
            raise ValueError("this stage was set for another schema, or for fewer sessions.")
        if self._pragmas(schedule.settings) != self.settings:
            raise ValueError(f"this stage was set with {self.settings}, not {schedule.settings}.")
        with self._watched(schedule):
            player = self._player()
            try:
                _take(player, schedule)
            finally:
                player.give_up()
            rows = [
                row
                for table in self.schema.tables
                for row in self.sessions[0].rows(f"SELECT id, value FROM {table} WHERE id >= 0")
            ]
        final = {int(key): self.schema.value(stored) for key, stored in rows}
        return Played(
            schedule, self.engines, self.modes, self.identity, player.events, player.txns, final
        )

    def reopened(self) -> Local | Remote:
        """Close every session and open one anew: what it sees is what was kept. Ends the stage's
        use of this database; the next schedule gets a new one.
        """
        with self._watched("closing and opening again"):
            while self.sessions:
                self.sessions.pop().close()
            self._reusable = False
            self.sessions.append(self._open(self.database, 0))
        return self.sessions[0]

    def close(self) -> None:
        """Close every session and remove the database."""
        with self._watched("closing"):
            self._close_sessions()
        self._gone()

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def _take(player: Player, schedule: Schedule) -> None:
    steps = schedule.steps()
    at = [0] * len(steps)
    blocked: set[int] = set()

    def take(session: int) -> None:
        if session in blocked or at[session] == len(steps[session]):
            return
        event = player.step(session, steps[session][at[session]], patient=schedule.patient)
        if event.status == "blocked":
            blocked.add(session)
            return
        at[session] += 1
        name = event.op.name
        if event.status in ("conflict", "ended", "unknown") and name != "commit":
            _skip(session)
        if session not in player.open:
            blocked.clear()

    def _skip(session: int) -> None:
        """Leave out the rest of a transaction that is over."""
        depth = steps[session]
        if not _inside(depth, at[session]):
            return
        while at[session] < len(depth) and depth[at[session]].name not in ("commit", "rollback"):
            at[session] += 1
        at[session] += at[session] < len(depth)

    for digit in schedule.order:
        take(int(digit))
    # What the order left over. Each session in turn runs until it is through or blocked; one that
    # is blocked goes on when the others are through, and then nobody holds what it waits for.
    for _ in range(len(steps)):
        for session in range(len(steps)):
            before = -1
            while at[session] != before and session not in blocked:
                before = at[session]
                take(session)
        for session in sorted(player.open):
            if at[session] == len(steps[session]):
                player.step(session, "rollback")
                blocked.clear()


def _inside(steps: Sequence[Op], place: int) -> bool:
    """Whether the step before this place was inside BEGIN … COMMIT."""
    for op in reversed(steps[:place]):
        if op.name in ("commit", "rollback"):
            return False
        if op.name == "begin":
            return True
    return False


def _fast_folder() -> str | None:
    """Memory where there is some: schedules ask for isolation, not for durability."""
    shm = Path("/dev/shm")
    return str(shm) if shm.is_dir() and shutil.disk_usage(shm).free > 1 << 28 else None
