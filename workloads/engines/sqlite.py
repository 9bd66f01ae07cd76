"""SQLite through Python's own sqlite3: the reference beside libSQL, one writer at a time."""

from __future__ import annotations

import platform
import sqlite3
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from workloads.engines import Identity, Promise, Refusal, Settings, pragmas
from workloads.engines.refusals import NO_CODE, by_code

SERIALIZABLE = Promise(
    "serializable",
    "https://sqlite.org/isolation.html: 'transactions in SQLite show \"serializable\" isolation'",
)


class Sqlite:
    name = "sqlite"
    file_format = "sqlite"
    hosting = "process"
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


class SqliteSession:
    """One connection."""

    begin: Callable[[], Any]
    commit: Callable[[], Any]
    run: Callable[..., Any]
    rows: Callable[..., list[tuple[Any, ...]]]
    pragmas: Mapping[str, Any]

    def __init__(self, connection: sqlite3.Connection, begin: str, settings: Settings) -> None:
        self._connection = connection
        execute = connection.execute
        self.pragmas = pragmas.apply(lambda sql: execute(sql).fetchall(), settings, "wal")

        def rows(sql: str, params: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
            return execute(sql, params).fetchall()

        # Not fetched: SQLite makes all changes of a statement, RETURNING or not, in its first
        # step, which execute() takes, and dropping the cursor ends the statement.
        self.run = execute
        self.rows = rows
        self.begin = partial(execute, f"BEGIN {begin.upper()}")
        self.commit = partial(execute, "COMMIT")

    def rollback(self) -> None:
        if self.in_transaction():
            self._connection.execute("ROLLBACK")

    def in_transaction(self) -> bool:
        return self._connection.in_transaction

    def refusal(self, error: BaseException, phase: int) -> Refusal:
        code = getattr(error, "sqlite_errorcode", NO_CODE)
        return by_code(code, str(error), phase, self.in_transaction())

    def close(self) -> None:
        """Close; an open transaction is rolled back. The session's calls then raise."""
        self._connection.close()
