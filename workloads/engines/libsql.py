"""libSQL through libsql-experimental: SQLite 3.45.1's file format, one writer at a time.

The binding has more traps than any other here, and every one is silent: integers beyond 32 bits
are bound as REAL, a missing parameter is NULL, a second statement is dropped, text ends at a NUL,
a RETURNING runs only when it is fetched and again each time it is.
workloads/engines/test_engine_traps.py holds each against the real binding.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from workloads.engines import versions
from workloads.engines.engine import Identity, Promise, Refusal, Script, Session, Settings
from workloads.engines.hot_path import c_hot_path
from workloads.engines.pragmas import OPTIONS
from workloads.engines.refusals import not_conflict, which_lock
from workloads.engines.session import DriverSession
from workloads.engines.statements import checked_count, with_literals
from workloads.errors import EngineMissing
from workloads.records import COMMIT, CONFLICT, FULL, IO, LIMIT, NO_CONFLICT, UNKNOWN

LOW, HIGH = -(2**31), 2**31 - 1
"""The integers that the binding binds as integers."""

CAUSES = {
    "database or disk is full": FULL,
    "disk I/O error": IO,
    "unable to open database file": IO,
    "out of memory": LIMIT,
    "string or blob too big": LIMIT,
    "large file support is disabled": LIMIT,
}
"""SQLite's texts, because the binding has no codes: https://sqlite.org/c3ref/errcode.html"""

PLAIN = (float, bytes, bytearray, type(None), bool)

SERIALIZABLE = Promise(
    "serializable",
    "https://sqlite.org/isolation.html: 'transactions in SQLite show \"serializable\" isolation'",
)


class Libsql:
    """package, module : the distribution that it is installed by, and what is imported of it."""

    name, version = "libsql", ""
    package, module = "libsql-experimental", "libsql_experimental"
    file_format = "sqlite"
    hosting = "process"
    shares = "threads"
    options: Mapping[str, tuple[str, ...]] = OPTIONS
    promises: Mapping[str, Promise] = dict.fromkeys(
        ("deferred", "immediate", "exclusive"), SERIALIZABLE
    )

    def missing(self) -> str | None:
        # Read once, when the binding is first used: a replica's would write a line to standard
        # output for each thing that it asks of its server.
        os.environ["RUST_LOG"] = "off"
        why = versions.why_missing(self.name, self.package, self.module, self.version)
        return why or _too_old(self.name, self.package, self.module, self.version)

    def identity(self) -> Identity:
        connection = self._driver().connect(":memory:", isolation_level=None)
        version, source_id = connection.execute(
            "SELECT sqlite_version(), sqlite_source_id()"
        ).fetchall()[0]
        options = connection.execute("PRAGMA compile_options").fetchall() or []
        return Identity(self._package(), version, source_id, tuple(row[0] for row in options))

    def connect(
        self, path: str, *, begin: str = "deferred", settings: Settings | None = None
    ) -> Session:
        # None: the binding begins nothing by itself. Any other isolation_level begins plainly, and
        # only before some statements.
        connection = self._driver().connect(str(path), isolation_level=None)
        return LibsqlSession(connection, begin, settings or Settings())

    def bare(self, path: str) -> Any:
        """The driver's own connection, as an application opens it."""
        return self._driver().connect(path, isolation_level=None)

    def _package(self) -> str:
        return f"{self.package} {versions.installed(self.package, self.version)}"

    def script(self) -> Script:
        have = versions.installed(self.package, self.version)
        return Script(
            SCRIPT.format(module=self.module, package=self.package, version=have),
            environment=versions.search_path(self.package, self.version),
        )

    def _driver(self) -> Any:
        if why := self.missing():
            raise EngineMissing(why)
        return versions.driver(self.name, self.package, self.module, self.version)


SCRIPT = """
import {module} as driver  # pip install {package}=={version}


def connect(path, journal_mode="wal"):
    connection = driver.connect(path, isolation_level=None)
    connection.execute(f"PRAGMA journal_mode = {{journal_mode}}").fetchall()
    return connection
"""


class Libsql01(Libsql):
    """The package that new projects take, `libsql`: the same SQLite, and the same traps."""

    name = "libsql-0.1"
    package = module = "libsql"


class LibsqlSession(DriverSession):
    """One connection. A new cursor for each statement, fetched exactly once, then dropped."""

    def __init__(self, connection: Any, begin: str, settings: Settings) -> None:
        super().__init__(connection, begin, settings)
        execute = connection.execute
        has_read = False
        counts: dict[str, int] = {}
        in_c = c_hot_path()
        plain = as_they_are if in_c is None else in_c.as_they_are

        def rows(sql: str, params: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
            nonlocal has_read
            if not plain(counts, sql, params):
                sql = _checked(counts, sql, params)
            # Fetched also where no row is wanted: INSERT ... RETURNING is run, and its conflict
            # raised, only then. A statement without columns gives None.
            fetched = execute(sql, params).fetchall()
            has_read = True
            return fetched or []

        def begin_deferred() -> None:
            nonlocal has_read
            has_read = False
            execute("BEGIN DEFERRED")

        self.run = self.rows = rows
        if begin == "deferred":
            self.begin = begin_deferred
        self._has_read = lambda: has_read and begin == "deferred"

    def in_transaction(self) -> bool:
        try:
            return self._connection is not None and self._connection.in_transaction
        except BaseException as error:
            if _panicked(error):
                return False  # the binding's answer to a connection that is gone
            raise

    def refusal(self, error: BaseException, phase: int, within_ns: int | None = None) -> Refusal:
        text, still_open = str(error), self.in_transaction()
        if _panicked(error):
            # A Rust panic unwinds from anywhere, also from after the commit record.
            if phase == COMMIT:
                return Refusal(UNKNOWN, NO_CONFLICT, f"panic: {text}", not still_open)
            return not_conflict(f"panic: {text}", phase, still_open, certain=True)
        if text == "database is locked":
            # The text of SQLITE_BUSY and of SQLITE_BUSY_SNAPSHOT, and there is no code: a refused
            # upgrade may be either.
            lock = which_lock(
                phase,
                held=still_open and self._has_read(),
                within_ns=within_ns,
                timeout_ms=self.pragmas["busy_timeout"],
            )
            return Refusal(CONFLICT, lock, text, not still_open)
        cause = next((cause for part, cause in CAUSES.items() if part in text), NO_CONFLICT)
        certain = "constraint failed" in text or cause == FULL
        return not_conflict(text, phase, still_open, certain=certain, cause=cause)

    def close(self) -> None:
        """Roll back and close. The session's calls then raise ValueError: the binding's panic."""
        connection, self._connection = self._connection, None
        self.run = self.rows = self.begin = self.commit = _closed
        if connection is not None:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            connection.close()


NUL = (
    "a text with a NUL character: the libSQL binding would cut it there without a word. "
    "Use bytes, or a text without it."
)


@lru_cache(maxsize=4)
def _too_old(name: str, package: str, module: str, version: str) -> str | None:
    """Asked, not looked up: 0.0.50 and before raise the error of a statement only at its fetch.

    A BEGIN that was refused would look accepted, and the statements after it would autocommit.
    """
    driver = versions.driver(name, package, module, version)
    connection = driver.connect(":memory:", isolation_level=None)
    connection.execute("BEGIN")
    try:
        connection.execute("BEGIN")
    except ValueError:
        return None
    have = versions.installed(package, version)
    return (
        f"{package} {have} does not raise the error of a statement whose rows are not "
        "fetched, a refused BEGIN's among them. Get a later one: make setup"
    )


def as_they_are(counts: dict[str, int], sql: str, params: Sequence[Any]) -> bool:
    """Whether a text is known to take so many parameters, each of which arrives as it is.

    counts : the parameters of the texts that are known. hot_path.c has the same in C; False is no
    verdict yet, `_checked` has it.
    """
    if counts.get(sql) != len(params):
        return False
    for value in params:
        if value.__class__ is int:
            if not LOW <= value <= HIGH:
                return False
        elif value.__class__ is str:
            if "\0" in value:
                return False
        elif not isinstance(value, PLAIN):
            return False
    return True


def _checked(counts: dict[str, int], sql: str, params: Sequence[Any]) -> str:
    """The text to run for parameters that need a closer look. Raises for those that would not
    arrive as they are.
    """
    if counts.get(sql) != len(params):
        checked_count(counts, sql, params, "libSQL")
    for value in params:
        if value.__class__ is int:
            if not LOW <= value <= HIGH:
                return _exact(sql, params)
        elif value.__class__ is str:
            if "\0" in value:
                raise ValueError(NUL)
        elif not isinstance(value, PLAIN):
            raise TypeError(_kind(value))
    return sql


def _exact(sql: str, params: Sequence[Any]) -> str:
    """The text with its large integers as literals, which the binding would bind as REAL."""
    large = [value.__class__ is int and not LOW <= value <= HIGH for value in params]
    for value, is_large in zip(params, large, strict=True):
        if is_large and not -(2**63) <= value < 2**63:
            raise OverflowError(f"{value} does not fit into SQLite's 64-bit integers.")
        if value.__class__ is str and "\0" in value:
            raise ValueError(NUL)
        if value.__class__ not in (int, str) and not isinstance(value, PLAIN):
            raise TypeError(_kind(value))
    return with_literals(sql, params, large)


def _kind(value: Any) -> str:
    return (
        f"a parameter of type {type(value).__name__}: only None, int, float, str and bytes arrive "
        "as they are. The libSQL binding would turn what looks like a number into a REAL."
    )


def _panicked(error: BaseException) -> bool:
    return type(error).__name__ == "PanicException"


def _closed(*_: Any) -> Any:
    raise ValueError("this session is closed. Open another with engine.connect().")
