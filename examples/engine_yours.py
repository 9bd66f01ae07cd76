"""An engine of your own, whole: Python's sqlite3 by nothing but plain calls. Copy it, put your
driver in its place, and hunt:

    cwkit fuzz --engine examples/engine_yours.py:Yours --minutes 10

`script` is what makes the `repro.py` of a finding: without it a finding has none. Your driver must
be importable by this Python, by `pip install` or PYTHONPATH.
"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import Any

from workloads.engines import OPTIONS, Identity, Promise, Refusal, Script, Settings
from workloads.records import BUSY, COMMIT, CONFLICT, FAILED, NO_CONFLICT, UNKNOWN

SOURCE = "https://sqlite.org/isolation.html"

SCRIPT = """import sqlite3


def connect(path, journal_mode="wal"):
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute(f"PRAGMA journal_mode = {journal_mode}").fetchall()
    return connection
"""


class Yours:
    name = "yours"
    file_format = "sqlite"  # engines of one format can share a file
    hosting = "process"  # "thread" where the engine locks its file to one process
    promises = dict.fromkeys(("deferred", "immediate"), Promise("serializable", SOURCE))
    options = OPTIONS  # PRAGMAs that a hunt may draw; leave it out for none
    shares = "threads"  # two sessions may use one connection, also from two threads: leave it out

    def missing(self) -> str | None:
        return None  # or a sentence that says how to get your driver

    def identity(self) -> Identity:
        return Identity("sqlite3 by plain calls", sqlite3.sqlite_version, "", ())

    def connect(
        self, path: str, *, begin: str = "deferred", settings: Settings | None = None
    ) -> YourSession:
        return YourSession(
            sqlite3.connect(str(path), isolation_level=None, check_same_thread=False),
            begin,
            settings or Settings(),
        )

    def script(self) -> Script:
        """Lines that define `connect(path)` by the driver alone, for a finding's repro.py."""
        return Script(SCRIPT)


class YourSession:
    """One connection. `run` and `rows` raise the driver's own errors, and retry nothing."""

    def __init__(self, connection: sqlite3.Connection, mode: str, settings: Settings) -> None:
        self.connection, self.mode = connection, mode
        wanted = {
            "busy_timeout": settings.busy_timeout_ms,  # a hunt gives 0: nobody is waited for
            "journal_mode": settings.journal_mode or "wal",
            "synchronous": settings.synchronous,
        }
        self.pragmas: dict[str, Any] = {}
        for name, value in wanted.items():
            self.pragmas[name] = ""
            with contextlib.suppress(sqlite3.Error):  # where it is locked, nothing is read back
                self.rows(f"PRAGMA {name} = {value}")
                self.pragmas[name] = self.rows(f"PRAGMA {name}")[0][0]

    def begin(self) -> None:
        self.run(f"BEGIN {self.mode.upper()}")

    def commit(self) -> None:
        self.run("COMMIT")

    def rollback(self) -> None:
        if self.in_transaction():
            self.run("ROLLBACK")

    def run(self, sql: str, params: tuple[Any, ...] = ()) -> None:
        self.connection.execute(sql, params).fetchall()

    def rows(self, sql: str, params: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        return self.connection.execute(sql, params).fetchall()

    def cursor(self, sql: str) -> Any:
        """A query whose rows are still to be fetched. Without it no cursor is left half read."""
        return self.connection.execute(sql)

    def in_transaction(self) -> bool:
        return self.connection.in_transaction

    def refusal(self, error: BaseException, phase: int) -> Refusal:
        """What an error means: a conflict, which has no effect, a failure, or that nobody knows.

        Its last field: the engine has ended the transaction already.
        """
        text, over = str(error), not self.in_transaction()
        busy = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
        if busy and "in progress" not in text:  # that is a cursor of one's own
            return Refusal(CONFLICT, BUSY, text, over)
        sure = phase != COMMIT or busy or isinstance(error, sqlite3.IntegrityError)
        return Refusal(FAILED if sure else UNKNOWN, NO_CONFLICT, text, over)

    def close(self) -> None:
        self.connection.close()
