"""Sessions of all drivers share this: how they begin, commit, roll back and close."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from workloads.engines import pragmas
from workloads.engines.engine import Settings


class DriverSession:
    """One connection whose `execute(sql, params)` gives a cursor, in the driver's autocommit mode.

    `run`, `begin` and `commit` are the driver's own bound method, so that nothing stands between
    the hot loop and it. A subclass classifies the driver's errors (`refusal`), and replaces the
    methods that the driver's traps forbid.
    """

    begin: Callable[[], Any]
    commit: Callable[[], Any]
    run: Callable[..., Any]
    rows: Callable[..., list[tuple[Any, ...]]]
    pragmas: Mapping[str, Any]

    def __init__(
        self, connection: Any, begin: str, settings: Settings, journal: str = "wal"
    ) -> None:
        self._connection = connection
        execute = connection.execute
        self.pragmas = pragmas.apply(lambda sql: execute(sql).fetchall() or [], settings, journal)

        def rows(sql: str, params: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
            return execute(sql, params).fetchall()

        # Not fetched: SQLite makes all changes of a statement, RETURNING or not, in its first
        # step, which execute() takes, and dropping the cursor ends the statement. That matters:
        # with a cursor left open the begin-concurrent branch refuses COMMIT.
        self.run = execute
        self.rows = rows
        self.begin = partial(execute, f"BEGIN {begin.upper()}")
        self.commit = partial(execute, "COMMIT")

    def cursor(self, sql: str) -> Any:
        """A cursor whose rows are still to be fetched, by `fetchone` and `fetchall`."""
        return self._connection.execute(sql)

    def rollback(self) -> None:
        if self.in_transaction():
            self._connection.execute("ROLLBACK")

    def in_transaction(self) -> bool:
        return self._connection.in_transaction

    def close(self) -> None:
        """Close; an open transaction is rolled back. The session's calls then raise."""
        self._connection.close()
