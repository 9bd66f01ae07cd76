"""The engines under study. One engine, one file, one registry line; each is asked, never assumed.

An adapter turns a driver into a `Session` and the driver's errors into a `Refusal`. It never
retries, never substitutes another mode, and knows its binding's traps so that a scenario need not.
Drivers are imported when an engine is first used, because a process that holds two copies of
SQLite must never open one file with both: closing one drops the other's POSIX locks.
"""

from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, cast

from workloads.engines import versions
from workloads.engines.registry import found as found
from workloads.errors import SQLITES, shortened
from workloads.errors import EngineMissing as EngineMissing
from workloads.errors import UnknownName as UnknownName

MODES = SQLITES
"""The BEGIN modes of SQLite's family: those of every engine that declares no others."""

USUAL = {"writer": "immediate", "reader": "deferred"}
"""Role -> the mode in which it begins where a plan names none, of an engine that declares none."""


@dataclass(frozen=True)
class Settings:
    """Pragmas of one connection. They belong to the connection, so every connection sets them.

    cache_size : pages if positive, KiB if negative, as in PRAGMA cache_size.
    journal_mode None : the engine's own default for the file (wal; mvcc for turso).
    sync : no pragma: when a replica fetches what its server has: "begin" (a reader's, before each
        of its transactions), "never" (but once, when it is opened), or how often, "10ms".
    pragma : others, as `asked_pragmas` reads them: "foreign_keys=on,temp_store=memory".
    """

    journal_mode: str | None = None
    synchronous: str = "normal"
    busy_timeout_ms: int = 2000
    cache_size: int = -16000
    page_bytes: int = 4096
    wal_autocheckpoint: int = 1000
    mmap_bytes: int = 0
    sync: str = "begin"
    pragma: str = ""


UNITS_S = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
INTERVAL = re.compile(r"(?P<number>\d+(\.\d+)?)(?P<unit>us|ms|s)")


def sync_interval_s(sync: str) -> float | None:
    """How often a replica fetches by itself, s; None where it does not.

    Raises ValueError for a text that says nothing of the kind.

    >>> sync_interval_s("10ms"), sync_interval_s("never")
    (0.01, None)
    """
    if sync in ("begin", "never"):
        return None
    found = INTERVAL.fullmatch(sync)
    every_s = float(found["number"]) * UNITS_S[found["unit"]] if found else 0.0
    if not 0.001 <= every_s <= 3600:
        raise ValueError(
            f"{shortened(sync)} is no time at which a replica could fetch: give begin, never, or "
            "an interval from 1ms to 3600s."
        )
    return every_s


class Identity(NamedTuple):
    """The library's description of itself: `version` and `source_id` are its own texts."""

    binding: str  # "libsql-experimental 0.0.55"
    version: str  # sqlite_version(), or the library's own version
    source_id: str  # sqlite_source_id(), "" where the engine has none
    options: tuple[str, ...]  # PRAGMA compile_options, () where it has none


class Promise(NamedTuple):
    """The isolation that an engine's makers promise for a mode, with the source of the promise.

    level : one of Elle's names ("serializable", "snapshot-isolation", ...).
    """

    level: str
    source: str


class Script(NamedTuple):
    """How a script opens a database by an engine's driver alone.

    lines : Python that imports the driver and defines `connect(path)`; its connections have
    `execute(sql)` whose cursors have `fetchone` and `fetchall`, `in_transaction` and `close`.
    argv, environment : what such a script needs on this machine, as arguments and variables.
    """

    lines: str
    argv: tuple[str, ...] = ()
    environment: Mapping[str, str] = MappingProxyType({})


class Refusal(NamedTuple):
    """An error, classified. `outcome` and `conflict` are the numbers of workloads.records.attempts.

    conflict : the kind of a conflict. For a failed or an unknown attempt it is the cause, where
        that is a full disk, an I/O error or a limit (FULL, IO, LIMIT). A run that met one is not
        well, and its summary begins with that.
    message : the engine's own text.
    over : the engine has ended the transaction already. A ROLLBACK would fail, and a statement
        would autocommit: the attempt must be given up without touching the session.
    """

    outcome: int
    conflict: int
    message: str
    over: bool

    @property
    def words(self) -> str:
        """The former name of `message`, which users' own engines may read."""
        return self.message


class Session(Protocol):
    """One connection. `run`, `rows`, `begin` and `commit` are as near to the driver's own bound
    methods as its traps allow; they raise the driver's own errors.

    begin()            BEGIN in the mode the session was opened with.
    commit()           COMMIT; returns only when the engine has acknowledged it.
    rollback()         ends an open transaction; does nothing where none is open.
    run(sql, params)   one statement whose rows are not wanted (they are fetched if there are any).
    rows(sql, params)  one statement, all its rows as a list of tuples, fetched exactly once.
    params are a tuple of None, int (64 bit), float, str, bytes; all ints arrive exactly.

    Optional (`Engine.offers`):
    pipeline(queries)  several queries, each (sql, params), all sent before the first answer is
                       read; a list with the rows of each.
    sync()             of a replica: fetch all that its server has committed.
    """

    begin: Callable[[], Any]
    commit: Callable[[], Any]
    run: Callable[..., Any]
    rows: Callable[..., list[tuple[Any, ...]]]
    pragmas: Mapping[str, Any]  # what was read back after setting, by pragma name

    def rollback(self) -> None: ...

    def refusal(self, error: BaseException, phase: int, within_ns: int | None = None) -> Refusal:
        """Classify an error that a call of this session raised in a phase (BEGIN, ...).

        within_ns : the call took at most so long; None where nobody looked at a clock. It is for
            engines that give one answer for a lock that was waited for and one that was not. An
            engine of your own may leave this argument out.
        """

    def in_transaction(self) -> bool: ...

    def close(self) -> None: ...


class Server(Protocol):
    """A server of one database, as `Engine.serve` starts it. At the database's path lies its
    address, which `connect` reads. It is the starting thread's: it ends with that.

    remembers : all that it acknowledges, with these settings, also where its process is killed.
    """

    remembers: bool

    @property
    def endpoint(self) -> tuple[str, int]:
        """Host and port of its TCP side, whatever `redirect` says."""

    def pids(self) -> list[int]:
        """Its processes now, [] where it is gone: a run counts their CPU time as its own."""

    def ended(self) -> str:
        """How it ended, with its last words; "" while it runs."""

    def redirect(self, port: int) -> None:
        """Have later connections to this path go to 127.0.0.1:port. It rewrites the address."""

    def kill(self) -> None:
        """End it as a crash would, with all its processes, and return when they are gone."""

    def start_again(self) -> None:
        """After `kill`, or another end: the same data at the same port. Raises RunFailed."""

    def close(self, *, keep: bool = True) -> None:
        """End it. keep : its data, which then lie beside the path."""


def classifier(session: Session) -> Callable[[BaseException, int, int | None], Refusal]:
    """`session.refusal`, also of an engine of your own that leaves out `within_ns`.

    >>> class Yours:
    ...     def refusal(self, error, phase):
    ...         return Refusal(3, 0, str(error), True)
    >>> classifier(Yours())(ValueError("no"), 2, 1_000).message
    'no'
    """
    own: Any = session.refusal
    if _takes_within(getattr(own, "__func__", own)):
        return own
    return lambda error, phase, within_ns: own(error, phase)


@cache
def _takes_within(refusal: Callable[..., Any]) -> bool:
    return "within_ns" in inspect.signature(refusal).parameters


class Engine(Protocol):
    """A library that opens databases.

    name        : its name in the registry.
    file_format : engines of one format can open each other's files ("sqlite").
    hosting     : "process" (a process a worker) or "thread" (all workers of a run are threads of
                  one process, because the engine locks its file to one).
    serve       : optional; (path, settings, inherit) -> a `Server` for the database at this path:
                  for an engine that is a server. Whoever makes a database has it served for as long
                  as anybody connects (`serving`). What belongs to the database lies beside the
                  path, under names that begin with the path's.
    copied      : optional; False where a database cannot be copied with the files at its path.
    forsake     : optional; (path) removes what a database has elsewhere than beside its path.
    clear_left  : optional; removes what killed processes left elsewhere; sentences of what.
    anew        : optional; of an engine that is a server: the statements that empty a database.
    unit        : optional; the unit over which BEGIN CONCURRENT is refused: "page" (one that it
                  read or wrote was written since) or "row" (one that it writes was written since).
    aborts      : optional; True where a statement that fails leaves its transaction nothing but
                  ROLLBACK, or ROLLBACK TO a savepoint.
    bare        : optional; (path) -> the driver's own connection, as an application opens it, for
                  whoever measures the driver. `execute(sql)` gives a cursor; nothing is open.
    load        : optional; () imports its library and opens nothing, for a process that is to be
                  forked. Without it `missing` does so, or the first connection.
    takes_pragmas : optional; False where a connection takes none (`Settings.pragma`).
    most_durable : optional; the most of `synchronous` that its writers can have.
    waits_s     : optional; how long it waits for a lock, s, whatever the busy timeout, where it
                  cannot be asked for less.
    listen      : optional; for an engine whose library logs the page that a refused commit met.
                  Called once in a worker's process, before its first connection. Returns a function
                  that gives the account (plain data, `met` in the manifest).
    modes       : optional; the modes that it is asked for, as `--begin` takes them. MODES without
                  it. The session alone knows with which statement a mode begins.
    version     : optional; "", or the version that `NAME@VERSION` asks for, of an engine whose
                  package comes in several (workloads.engines.versions).
    script      : optional; () -> Script, by which a finding becomes a script that needs nothing but
                  the driver.
    usual       : optional; role -> the mode where a plan names none. USUAL without it.
    options     : optional; name -> the values with which the hunter opens connections now and then:
                  PRAGMAs, and what `connect` itself takes.
    arguments   : optional; the names among `options` that are arguments of `connect`, and of the
                  `connect` of its script. The journal mode is one of the settings.
    shares      : optional; "threads" where several threads may use a connection, one after the
                  other; "cursors" where one thread alone may, with several cursors.
    offers      : optional; the optional methods that its sessions have: "pipeline", "sync".
    promises    : mode -> Promise, only for modes it is known to accept.
    """

    name: str
    file_format: str
    hosting: str
    promises: Mapping[str, Promise]

    def missing(self) -> str | None:
        """None if it can be used here, else one sentence: what is missing, how to get it."""

    def identity(self) -> Identity: ...

    def connect(self, path: str, *, begin: str = "deferred", settings: Settings = ...) -> Session:
        """Open a connection and set and read back its pragmas. Raises EngineMissing, OSError, or
        the driver's own error. Does not ask whether the mode is accepted: BEGIN will say.
        """


def modes_of(engine: Engine) -> tuple[str, ...]:
    """The modes that an engine is asked for, in its own order."""
    return tuple(getattr(engine, "modes", MODES))


def usual_mode(engine: Engine, role: str) -> str:
    """The mode in which a role ("writer", "reader") begins where nobody names one."""
    usual: Mapping[str, str] = getattr(engine, "usual", USUAL)
    return usual[role]


@contextlib.contextmanager
def serving(
    engine: Engine, path: str | Path, settings: Settings | None = None, inherit: Sequence[int] = ()
) -> Iterator[Server | None]:
    """Have the database at this path served meanwhile, where its engine is a server, else None."""
    serve = getattr(engine, "serve", None)
    if serve is None:
        yield None
        return
    server: Server = serve(Path(path), settings or Settings(), inherit)
    try:
        yield server
    finally:
        server.close()


def forsake(name: str, path: Path) -> str:
    """Remove what the database at this path has elsewhere; what that was, "" where nothing was."""
    found = getattr(find_engine(name), "forsake", None)
    return found(path) if found is not None else ""


def clear_elsewhere() -> list[str]:
    """Remove what killed processes left elsewhere than in temporary folders: sentences of what."""
    engines = map(find_engine, REGISTRY)
    found = (engine.clear_left() for engine in engines if hasattr(engine, "clear_left"))
    return [sentence for sentences in found for sentence in sentences]


REGISTRY: dict[str, str] = {
    "libsql": "workloads.engines.libsql:Libsql",
    "libsql-0.1": "workloads.engines.libsql:Libsql01",
    "sqlite": "workloads.engines.sqlite:Sqlite",
    "sqlite-concurrent": "workloads.engines.sqlite_concurrent:SqliteConcurrent",
    "sqlite-latest": "workloads.engines.sqlite_latest:SqliteLatest",
    "turso": "workloads.engines.turso:Turso",
    "postgres": "workloads.engines.postgres:Postgres",
    "libsql-remote": "workloads.engines.libsql_remote:LibsqlRemote",
    "libsql-replica": "workloads.engines.libsql_replica:LibsqlReplica",
    "null": "workloads.engines.null:Null",
    "faulty-lost-commit": "workloads.engines.faulty:LostCommit",
    "faulty-torn-read": "workloads.engines.faulty:TornRead",
    "faulty-lost-update": "workloads.engines.faulty:LostUpdate",
    "faulty-silent-conflict": "workloads.engines.faulty:SilentConflict",
    "faulty-aborted-read": "workloads.engines.faulty_isolation:AbortedRead",
    "faulty-double-write": "workloads.engines.faulty_isolation:DoubleWrite",
    "faulty-blind-to-itself": "workloads.engines.faulty_isolation:BlindToItself",
    "faulty-stale-read": "workloads.engines.faulty_isolation:StaleRead",
    "faulty-replica": "workloads.engines.faulty_replica:Replica",
    "faulty-replica-moves": "workloads.engines.faulty_replica:MovingReplica",
    "faulty-replica-torn": "workloads.engines.faulty_replica:TornReplica",
    "faulty-early-ack": "workloads.engines.faulty_crash:EarlyAck",
    "faulty-forgets": "workloads.engines.faulty_crash:Forgets",
    "faulty-refuses-and-keeps": "workloads.engines.faulty_crash:RefusesAndKeeps",
    "faulty-keeps-its-lock": "workloads.engines.faulty_crash:KeepsItsLock",
    "faulty-dies-of-damage": "workloads.engines.faulty_damage:DiesOfDamage",
    "faulty-trusts-its-log": "workloads.engines.faulty_damage:TrustsItsLog",
    "faulty-throws-its-log-away": "workloads.engines.faulty_damage:ThrowsItsLogAway",
    "faulty-never-locks": "workloads.engines.faulty_damage:NeverLocks",
    "faulty-leaks-memory": "workloads.engines.faulty_leaks:LeaksMemory",
    "faulty-leaks-descriptors": "workloads.engines.faulty_leaks:LeaksDescriptors",
    "faulty-write-skew": "workloads.engines.faulty_isolation:WriteSkew",
}
"""Name -> "module:Class". The class is called without arguments and satisfies Engine."""


def engine_names() -> Sequence[str]:
    return tuple(REGISTRY)


def find_engine(name: str) -> Engine:
    """The engine of a name ("turso", "turso@0.7.2"), or of a user's own file ("path.py:Class").

    It is made anew at each look-up, once for each worker. State that its connections share belongs
    to the class or its module, which is the same for a whole process (workloads.engines.registry).
    Raises UnknownName with the nearest name; never an ImportError of a missing driver (that is
    what `missing()` is for).
    """
    family, version = versions.parted(name)
    made = found(family, REGISTRY, "engine", "`cwkit engines` lists them")
    if version and not hasattr(made, "version"):
        raise UnknownName(f"{family} comes in one version: name it without @{version}.")
    try:
        engine: Any = made()
        if version:
            engine.name, engine.version = name, version
    except Exception as error:
        raise UnknownName(f"{name!r} cannot be made: {type(error).__name__}: {error}.") from error
    needs = ("file_format", "hosting", "promises", "missing", "identity", "connect")
    # Of its class first: a bridge's own are what its program says, which is not started for this.
    if lacks := [n for n in needs if not hasattr(made, n) and not hasattr(engine, n)]:
        raise UnknownName(f"{name!r} is no engine: it lacks {', '.join(lacks)}.")
    return cast("Engine", engine)


@dataclass(frozen=True)
class Answer:
    """An engine's answer to one of its modes.

    accepted : it began. message : the engine's own text where it refused, "" otherwise.
    overlaps : two connections held write transactions at once and both committed; None if not
        tried. A mode that is accepted and does not overlap acts as a single writer.
    upgrade : for "deferred": the result of a write after a read while another transaction held the
        write lock; "" if not tried.
    """

    accepted: bool
    message: str
    overlaps: bool | None = None
    upgrade: str = ""


@dataclass(frozen=True)
class Probe:
    """An engine's answers when it was probed (`cwkit engines`).

    processes_message : the engine's own text where a second process was refused.
    """

    engine: str
    missing: str | None
    identity: Identity | None = None
    modes: Mapping[str, Answer] = field(default_factory=dict)
    several_processes: bool | None = None
    processes_message: str = ""
    pragmas: Mapping[str, Any] = field(default_factory=dict)
