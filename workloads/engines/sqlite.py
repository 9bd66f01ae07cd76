"""SQLite through Python's own sqlite3: the reference beside libSQL, one writer at a time."""

from __future__ import annotations

import platform
import sqlite3
from collections.abc import Mapping

from workloads.engines import Identity, Promise, Refusal, Settings
from workloads.engines.refusals import NO_CODE, by_code
from workloads.engines.session import DriverSession

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


class SqliteSession(DriverSession):
    """One connection."""

    def refusal(self, error: BaseException, phase: int) -> Refusal:
        code = getattr(error, "sqlite_errorcode", NO_CODE)
        return by_code(code, str(error), phase, self.in_transaction())
