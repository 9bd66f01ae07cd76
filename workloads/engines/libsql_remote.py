"""libSQL's server, sqld, over HTTP: a statement is two requests, and a connection is a stream that
the server may drop.

The traps of the local binding hold here too, but for two: a text keeps its NUL, and a parameter too
few or too many is refused. New ones: PRAGMA x=y answers "unsupported statement" and is done all the
same; changes() outside a transaction is always 0; a transaction that has been open for 5 s loses
the write lock to whoever waits for it; a stream that was idle for 10 s is gone.
workloads/engines/test_sqld.py holds each against the real server.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from workloads.engines import pragmas, sqld_server
from workloads.engines.dialect import CHANGES
from workloads.engines.engine import Identity, Promise, Refusal, Settings
from workloads.engines.hot_path import c_hot_path
from workloads.engines.libsql import (
    CAUSES,
    HIGH,
    LOW,
    NUL,
    PLAIN,
    SERIALIZABLE,
    Libsql,
    _closed,
    _kind,
    _panicked,
    as_they_are,
)
from workloads.engines.refusals import not_conflict
from workloads.engines.statements import checked_count, without_marked
from workloads.errors import EngineMissing
from workloads.records import BUSY, COMMIT, CONFLICT, FAILED, FULL, NO_CONFLICT, STALE, UNKNOWN

IDLE_S = 5.0
"""After so long without a statement the server may have dropped the stream, which it does after
10 s: a new one is taken before a transaction begins."""

SAID = re.compile(r'Error \{ message: "(?P<message>(?:[^"\\]|\\.)*)", code: "(?P<code>\w+)" \}')
STEP = re.compile(r"\(error code: (?P<code>\w+)\) `(?P<message>[^`]*)`")
"""The server's own words about a statement, in two of the binding's errors."""

NEVER_MADE = ("SQLITE_CONSTRAINT", "SQL_INPUT_ERROR", "SQL_PARSE_ERROR", "ARGS_INVALID")
"""Codes of the server's by which a statement certainly changed nothing, COMMIT among them."""

TIMED_OUT = "TRANSACTION_TIMEOUT"
NO_TRANSACTION = "no transaction is active"
READS = re.compile(r"\s*(SELECT|PRAGMA|EXPLAIN|VALUES|WITH)\b", re.IGNORECASE)


class Told(NamedTuple):
    """The server's own words about a statement. code : "SQLITE_BUSY", ..."""

    code: str
    message: str


class LibsqlRemote(Libsql):
    name = "libsql-remote"
    file_format = "sqld"
    waits_s = 5.0  # then it takes the lock from whoever has it
    promises: Mapping[str, Promise] = dict.fromkeys(
        ("deferred", "immediate", "exclusive"), SERIALIZABLE
    )

    def missing(self) -> str | None:
        return super().missing() or sqld_server.why_missing()

    def identity(self) -> Identity:
        if why := self.missing():
            raise EngineMissing(why)
        return Identity(f"{self._package()}, over HTTP", sqld_server.version(), "", ())

    def serve(
        self, path: Path, settings: Settings, inherit: Sequence[int] = ()
    ) -> sqld_server.Server:
        """Start the server whose data lie beside the path, and write its address there."""
        return sqld_server.Server(path, settings, inherit)

    def connect(
        self, path: str, *, begin: str = "deferred", settings: Settings | None = None
    ) -> ServedSession:
        return ServedSession(self._driver(), Path(path), begin, settings or Settings())

    def bare(self, path: str) -> Any:
        """The driver's own connection, as an application opens it."""
        url = sqld_server.read_address(Path(path)).url
        return self._driver().connect(url, isolation_level=None)


class ServedSession:
    """One connection at a time. A connection that the server dropped is made anew when nothing is
    open: before a transaction begins, or before a statement outside of one.

    anew : how often that was so.
    """

    begin: Callable[[], Any]
    commit: Callable[[], Any]
    run: Callable[..., Any]
    rows: Callable[..., list[tuple[Any, ...]]]
    pragmas: Mapping[str, Any]
    anew = 0
    takes_nul: ClassVar[bool] = True

    def __init__(self, driver: Any, path: Path, begin: str, settings: Settings) -> None:
        self._driver, self._path, self._settings = driver, path, settings
        self._deferred, self._begun_by = begin == "deferred", f"BEGIN {begin.upper()}"
        self._inside = self._has_read = self._lost = self._wrote = False
        self._changed, self._used = 0, time.monotonic()
        self._counts: dict[str, int] = {}
        in_c = c_hot_path()
        self._plain = as_they_are if in_c is None else in_c.as_they_are
        self._connection: Any = None
        self.begin, self.commit = self._begin, self._commit
        self.run = self.rows = self._rows
        self._open()

    def _open(self) -> None:
        """Make the connection, and ask for its settings."""
        self._connection = self._connected()
        self._execute = self._connection.execute
        self.pragmas = self._settle()
        self._lost, self._used = False, time.monotonic()

    def _connected(self) -> Any:
        url = sqld_server.read_address(self._path).url
        # None: the binding begins nothing by itself.
        return self._driver.connect(url, isolation_level=None)

    def _settle(self) -> Mapping[str, Any]:
        execute = self._execute
        execute("SELECT 1").fetchall()  # the first that is sent: a setting's error is no end
        return pragmas.apply(lambda sql: execute(sql).fetchall() or [], self._settings, "wal")

    def _ready(self) -> None:
        """Where nothing is open: have a connection that the server knows."""
        if self._connection is None:
            _closed()
        self._wrote = False  # nothing was sent yet
        if self._lost or self._is_stale():
            self._lost = True  # until the new one is there
            self._open()
            self.anew += 1

    def _is_stale(self) -> bool:
        return time.monotonic() - self._used > IDLE_S

    # -- a session's calls --------------------------------------------------------------------

    def _begin(self) -> None:
        self._ready()
        self._has_read = False
        self._execute(self._begun_by).fetchall()
        self._inside = True

    def _commit(self) -> None:
        self._execute("COMMIT").fetchall()
        self._inside = False
        self._used = time.monotonic()

    def _rows(self, sql: str, params: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        if not self._inside:
            self._ready()
        if CHANGES.fullmatch(sql):
            return [(self._changed,)]
        if not self._plain(self._counts, sql, params):
            sql, params = self._arriving(sql, params)
        self._wrote = READS.match(sql) is None
        # Fetched also where no row is wanted, as the local binding must have it.
        cursor = self._execute(sql, params)
        fetched = cursor.fetchall()
        if self._wrote:
            self._changed = cursor.rowcount
        self._has_read = True
        self._used = time.monotonic()
        return fetched or []

    def rollback(self) -> None:
        """End an open transaction. That of a connection which is gone, the server has ended."""
        if self.in_transaction():
            try:
                self._execute("ROLLBACK").fetchall()
            except Exception as error:
                if (told := self._told(str(error))) is None:
                    self._lost = True
                elif told.code != TIMED_OUT and NO_TRANSACTION not in told.message:
                    raise
        self._inside = False

    def in_transaction(self) -> bool:
        if self._lost or self._connection is None:
            return False
        try:
            return bool(self._connection.in_transaction)
        except BaseException as error:
            if _panicked(error):
                return False
            raise

    def _arriving(self, sql: str, params: Sequence[Any]) -> tuple[str, tuple[Any, ...]]:
        """Text and parameters so that each arrives as it is. Raises for those that would not."""
        if self._counts.get(sql) != len(params):
            checked_count(self._counts, sql, params, "libSQL")
        large = []
        for value in params:
            is_large = value.__class__ is int and not LOW <= value <= HIGH
            if is_large and not -(2**63) <= value < 2**63:
                raise OverflowError(f"{value} does not fit into SQLite's 64-bit integers.")
            if value.__class__ is str:
                if "\0" in value and not self.takes_nul:
                    raise ValueError(NUL)
            elif value.__class__ is not int and not isinstance(value, PLAIN):
                raise TypeError(_kind(value))
            large.append(is_large)
        return without_marked(sql, params, large) if any(large) else (sql, tuple(params))

    # -- errors -------------------------------------------------------------------------------

    def _told(self, text: str) -> Told | None:
        """The server's own words about the statement; None where it gave none."""
        found = SAID.search(text) or STEP.search(text)
        if found is None:
            return None
        message = found["message"].replace('\\"', '"').removeprefix("SQLite error: ")
        return Told(found["code"], message)

    def _is_ours(self, error: BaseException, text: str) -> bool:
        """Whether an error came about on this side, before anything was sent."""
        return not isinstance(error, ValueError) or not text.startswith(("Hrana", "sync error"))

    def refusal(self, error: BaseException, phase: int, within_ns: int | None = None) -> Refusal:
        text = str(error)
        if _panicked(error):
            self._lost = True
            return self._without_answer(f"panic: {text}", phase)
        if (told := self._told(text)) is not None:
            return self._by_the_server(told, phase)
        if self._is_ours(error, text):
            return not_conflict(text, phase, self.in_transaction(), certain=True)
        self._lost = True
        return self._without_answer(text, phase)

    def _without_answer(self, text: str, phase: int) -> Refusal:
        """The connection is gone, and nobody knows what became of a change that was under way."""
        changes = phase == COMMIT or (not self._inside and self._wrote)
        self._inside = False
        return Refusal(UNKNOWN if changes else FAILED, NO_CONFLICT, text, True)

    def _by_the_server(self, told: Told, phase: int) -> Refusal:
        still_open = self.in_transaction()
        self._inside = still_open
        if told.code == TIMED_OUT:  # somebody waited for the lock, and has it now
            return Refusal(CONFLICT, BUSY, told.message, not still_open)
        if told.code.startswith("SQLITE_BUSY"):
            # The server queues whoever wants the write lock, so that a transaction which has read
            # is refused for its snapshot alone.
            stale = self._deferred and self._has_read and phase != COMMIT
            return Refusal(CONFLICT, STALE if stale else BUSY, told.message, not still_open)
        return self._failed(told, phase, still_open)

    def _failed(self, told: Told, phase: int, still_open: bool) -> Refusal:
        cause = next((c for part, c in CAUSES.items() if part in told.message), NO_CONFLICT)
        certain = told.code in NEVER_MADE or cause == FULL or NO_TRANSACTION in told.message
        return not_conflict(told.message, phase, still_open, certain=certain, cause=cause)

    def close(self) -> None:
        """Roll back and close. The session's calls then raise ValueError."""
        with contextlib.suppress(ValueError):
            self.rollback()
        connection, self._connection = self._connection, None
        self._execute = _closed
        if connection is not None:
            connection.close()
