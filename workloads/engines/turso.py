"""Turso Database through pyturso: row-level MVCC, BEGIN CONCURRENT, a file locked to one process.

So all workers of a run are threads of one process, with a connection each. After a write-write
conflict the engine has rolled the transaction back by itself, ROLLBACK fails, and the next
statement would autocommit: `Refusal.over` says so, and half a transaction is never written.

Turso names its log after the file without its suffix: `a.db` and `a.sqlite` in one folder share
`a.db-log` and spoil each other. Every database of ours has a folder of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workloads.engines import versions
from workloads.engines.engine import Identity, Promise, Refusal, Script, Settings
from workloads.engines.refusals import IN_PROGRESS, not_conflict
from workloads.engines.session import DriverSession
from workloads.engines.statements import checked_count
from workloads.records import (
    BUSY,
    CONFLICT,
    FULL,
    IO,
    LIMIT,
    NO_CONFLICT,
    SERIALIZATION,
    STALE,
    STATEMENT,
    UNCLASSIFIED,
    WRITE_WRITE,
)

PACKAGE = "pyturso"
FORMER_MVCC, UP_TO = "experimental_mvcc", ("0.1.", "0.2.", "0.3.", "0.4.")
"""The journal mode's name in these versions."""

LOW, HIGH = -(2**63), 2**63 - 1

MANUAL = "https://github.com/tursodatabase/turso/blob/main/docs/manual.md#transactions"

IO_KINDS = {
    "StorageFull": FULL,
    "QuotaExceeded": FULL,
    "FileTooLarge": LIMIT,
    "OutOfMemory": LIMIT,
}

SINGLE_WRITER = Promise(
    "serializable",
    f"{MANUAL}: 'a single write transaction at a time', and 'full compatibility with SQLite'",
)


class Turso:
    name = "turso"
    version = ""
    file_format = "turso-mvcc"
    hosting = "thread"
    shares = "threads"
    unit = "row"
    options: Mapping[str, tuple[str, ...]] = {
        "journal_mode": ("wal", "wal", "mvcc", "experimental_mvcc", "logical_log"),
        "experimental_features": (
            "attach,generated_columns,vacuum,without_rowid",
            *("attach", "generated_columns", "vacuum", "without_rowid"),
            *("autovacuum", "multiprocess_wal", "mvcc_passive_checkpoint"),
        ),
        "mvcc_checkpoint_threshold": ("1", "0"),
        "mvcc_gc_threshold": ("1",),
        "mvcc_group_commit": ("0", "1"),
        "cache_size": ("10",),
        "cache_spill": ("0",),
        "synchronous": ("full",),
        "temp_store": ("2",),
    }
    arguments = ("experimental_features",)
    promises: Mapping[str, Promise] = {
        **dict.fromkeys(("deferred", "immediate", "exclusive"), SINGLE_WRITER),
        "concurrent": Promise(
            "snapshot-isolation",
            f"{MANUAL}: 'The transaction isolation level provided by concurrent transactions is "
            "snapshot isolation'",
        ),
    }

    def missing(self) -> str | None:
        return versions.why_missing(self.name, PACKAGE, "turso", self.version)

    def load(self) -> None:
        self._driver()

    def identity(self) -> Identity:
        connection = self._driver().connect(":memory:", isolation_level=None)

        def ask(sql: str) -> str:
            try:
                return str(connection.execute(sql).fetchall()[0][0])
            except Exception:
                return ""  # a function that this version does not have

        answer = Identity(
            f"{PACKAGE} {versions.installed(PACKAGE, self.version)}",
            ask("SELECT sqlite_version()"),
            ask("SELECT sqlite_source_id()"),
            (),
        )
        connection.close()
        return answer

    def connect(
        self,
        path: str,
        *,
        begin: str = "deferred",
        settings: Settings | None = None,
        **arguments: str,
    ) -> TursoSession:
        """Open a connection. arguments : of the driver's own connect (experimental_features)."""
        # None: the binding begins nothing by itself.
        connection = self._driver().connect(str(path), isolation_level=None, **arguments)
        try:
            return TursoSession(connection, begin, settings or Settings(), self._journal())
        except BaseException:
            connection.close()
            raise

    def script(self) -> Script:
        return Script(
            SCRIPT.format(
                version=versions.installed(PACKAGE, self.version), journal=self._journal()
            ),
            environment=versions.search_path(PACKAGE, self.version),
        )

    def _journal(self) -> str:
        """The journal mode of its MVCC, whose name was another one in the beginning."""
        return FORMER_MVCC if self.version.startswith(UP_TO) else "mvcc"

    def _driver(self) -> Any:
        return versions.driver(self.name, PACKAGE, "turso", self.version)


SCRIPT = """
import turso  # pip install pyturso=={version}


def connect(path, journal_mode="{journal}", **arguments):
    connection = turso.connect(path, isolation_level=None, **arguments)
    connection.execute(f"PRAGMA journal_mode = '{{journal_mode}}'").fetchall()
    return connection
"""


def _cause(kind: str, text: str) -> int:
    """Why a statement failed. An IoError's text ends with Rust's name of the system's error, as in
    "pwrite: StorageFull": https://doc.rust-lang.org/std/io/enum.ErrorKind.html
    """
    if kind == "IoError":
        return IO_KINDS.get(text.rpartition(" ")[2], IO)
    return {"DatabaseFull": FULL, "MemoryError": LIMIT}.get(kind, NO_CONFLICT)


class TursoSession(DriverSession):
    """One connection, for one thread at a time."""

    def __init__(
        self, connection: Any, begin: str, settings: Settings, journal: str = "mvcc"
    ) -> None:
        super().__init__(connection, begin, settings, journal)
        execute = connection.execute
        has_read = False
        counts: dict[str, int] = {}
        count_of = counts.get

        def rows(sql: str, params: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
            nonlocal has_read
            if count_of(sql) != len(params):
                checked_count(counts, sql, params, "Turso")
            for value in params:
                if value.__class__ is int and not LOW <= value <= HIGH:
                    raise OverflowError(f"{value} does not fit into SQLite's 64-bit integers.")
            # Fetched also where no row is wanted: INSERT ... RETURNING is run only then.
            fetched = execute(sql, params).fetchall()
            has_read = True
            return fetched

        def begin_deferred() -> None:
            nonlocal has_read
            has_read = False
            execute("BEGIN DEFERRED")

        self.run = self.rows = rows
        if begin == "deferred":
            self.begin = begin_deferred
        self._has_read = lambda: has_read and begin == "deferred"

    def in_transaction(self) -> bool:
        return self._connection is not None and self._connection.in_transaction

    def refusal(self, error: BaseException, phase: int, within_ns: int | None = None) -> Refusal:
        """Classify by the engine's own class of error, by its text where the class is too coarse.

        The binding turns some of its errors into turso.Error's, which are coarser, and lets others
        through as they are: the engine's own is what the turso.Error was raised from.
        """
        own = error.__context__ if isinstance(error.__context__, Exception) else error
        kind, text, still_open = type(own).__name__, str(error), self.in_transaction()
        lower = text.lower()
        conflict = None
        if "write-write conflict" in lower:
            conflict = WRITE_WRITE
        elif "dependency aborted" in lower:
            conflict = SERIALIZATION
        elif kind == "BusySnapshot" or "snapshot" in lower:
            conflict = STALE
        elif IN_PROGRESS in text:
            pass  # called Busy too: a cursor of this connection, in which nobody else has a part
        elif kind == "Busy" or lower == "database is locked":
            # With MVCC, a deferred transaction that has read gets the same words, after the same
            # wait, where its snapshot is out of date and no waiting could have helped. With a WAL
            # that is a BusySnapshot, and at once. An upgrade waits as any other lock does.
            mvcc = self.pragmas["journal_mode"] != "wal"
            hidden = phase == STATEMENT and still_open and self._has_read() and mvcc
            conflict = UNCLASSIFIED if hidden else BUSY
        elif lower.endswith(" conflict"):
            conflict = UNCLASSIFIED
        if conflict is not None:
            return Refusal(CONFLICT, conflict, text, not still_open)
        certain = kind in ("Constraint", "DatabaseFull")
        return not_conflict(text, phase, still_open, certain=certain, cause=_cause(kind, text))

    def close(self) -> None:
        """Roll back and close. The session's calls then raise."""
        self.rollback()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
