"""SQLite through Python's own sqlite3: the reference beside libSQL, one writer at a time."""

from __future__ import annotations

import platform
import sqlite3
from collections.abc import Mapping
from typing import Any

from workloads.engines.engine import Identity, Promise, Refusal, Script, Settings
from workloads.engines.pragmas import OPTIONS
from workloads.engines.refusals import by_code, code_of, which_lock
from workloads.engines.session import DriverSession

SERIALIZABLE = Promise(
    "serializable",
    "https://sqlite.org/isolation.html: 'transactions in SQLite show \"serializable\" isolation'",
)


class Sqlite:
    name = "sqlite"
    file_format = "sqlite"
    hosting = "process"
    shares = "threads"
    options: Mapping[str, tuple[str, ...]] = OPTIONS
    promises: Mapping[str, Promise] = dict.fromkeys(
        ("deferred", "immediate", "exclusive"), SERIALIZABLE
    )

    def missing(self) -> str | None:
        return None  # a Python without sqlite3 fails at this module's import

    def identity(self) -> Identity:
        connection = sqlite3.connect(":memory:")
        version, source_id = connection.execute(
            "SELECT sqlite_version(), sqlite_source_id()"
        ).fetchone()
        options = connection.execute("PRAGMA compile_options").fetchall()
        connection.close()
        binding = f"sqlite3 of Python {platform.python_version()}"
        return Identity(binding, version, source_id, tuple(row[0] for row in options))

    def script(self) -> Script:
        return Script(SCRIPT.format(version=sqlite3.sqlite_version))

    def connect(
        self, path: str, *, begin: str = "deferred", settings: Settings | None = None
    ) -> SqliteSession:
        # isolation_level=None: otherwise the module begins on its own, and only plainly.
        connection = sqlite3.connect(str(path), isolation_level=None, check_same_thread=False)
        try:
            return SqliteSession(connection, begin, settings or Settings())
        except BaseException:
            connection.close()
            raise

    def bare(self, path: str) -> sqlite3.Connection:
        """The driver's own connection, as an application opens it."""
        return sqlite3.connect(path, isolation_level=None)


SCRIPT = """
import sqlite3  # its SQLite was {version}


def connect(path, journal_mode="wal"):
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute(f"PRAGMA journal_mode = {{journal_mode}}").fetchall()
    return connection
"""


class SqliteSession(DriverSession):
    """One connection.

    In deferred mode it remembers whether the transaction has read (by `rows`): the module tells
    SQLITE_BUSY from SQLITE_BUSY_SNAPSHOT, but not whether the transaction holds a snapshot.
    """

    def __init__(self, connection: Any, begin: str, settings: Settings) -> None:
        super().__init__(connection, begin, settings)
        execute = connection.execute
        has_read = False

        def rows(sql: str, params: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
            nonlocal has_read
            fetched = execute(sql, params).fetchall()
            has_read = True
            return fetched

        def begin_deferred() -> None:
            nonlocal has_read
            has_read = False
            execute("BEGIN DEFERRED")

        if begin == "deferred":
            self.rows, self.begin = rows, begin_deferred
        self._has_read = lambda: has_read

    def refusal(self, error: BaseException, phase: int, within_ns: int | None = None) -> Refusal:
        code, still_open = code_of(error, "sqlite_errorcode"), self.in_transaction()
        lock = which_lock(
            phase,
            held=still_open and self._has_read(),
            within_ns=within_ns,
            timeout_ms=self.pragmas["busy_timeout"],
        )
        return by_code(code, str(error), phase, still_open, lock)
