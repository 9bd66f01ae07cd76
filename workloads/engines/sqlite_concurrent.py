"""SQLite's begin-concurrent branch: several write transactions at once, judged page by page.

It is reached through the private apsw build of `make setup`. BEGIN CONCURRENT takes its snapshot
at the first read. COMMIT refuses the transaction (SQLITE_BUSY_SNAPSHOT) where a page that it has
read or written was written since.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from workloads.engines import concurrent_build as begin_concurrent
from workloads.engines.conflict_log import ConflictLog
from workloads.engines.engine import Identity, Promise, Refusal, Script, Settings
from workloads.engines.pragmas import OPTIONS
from workloads.engines.refusals import by_code, code_of, which_lock
from workloads.engines.session import DriverSession
from workloads.errors import EngineMissing

SERIALIZABLE = Promise(
    "serializable",
    "https://sqlite.org/isolation.html: 'transactions in SQLite show \"serializable\" isolation'",
)
READ = 1
"""SQLITE_TXN_READ: a snapshot is held and nothing is written yet."""

JOURNALS = ("wal", "wal2")
"""In any other journal mode the branch takes BEGIN CONCURRENT for BEGIN, without a word."""


class SqliteConcurrent:
    name = "sqlite-concurrent"
    file_format = "sqlite"
    hosting = "process"
    shares = "threads"
    unit = "page"
    options: Mapping[str, tuple[str, ...]] = {
        **OPTIONS, "journal_mode": (*OPTIONS["journal_mode"], "wal2")
    }  # fmt: skip
    promises: Mapping[str, Promise] = {
        **dict.fromkeys(("deferred", "immediate", "exclusive"), SERIALIZABLE),
        "concurrent": Promise(
            "serializable",
            "doc/begin_concurrent.md of the branch: commits only if 'this transaction did not read "
            "or modify any data modified by any concurrent transaction'",
        ),
    }

    def missing(self) -> str | None:
        try:
            begin_concurrent.load()
        except begin_concurrent.MissingBuild as error:
            return str(error)
        return None

    def listen(self) -> Callable[[], dict[str, Any]]:
        """Count from now on which page each refused commit of this process meets.

        Returns a function that gives the account, ConflictLog.account. Call it before the first
        connection: SQLite can change its log function later, but not safely while other threads use
        the library.
        """
        return _listen(self._driver())

    def identity(self) -> Identity:
        driver = self._driver()
        return identity_of(
            driver, f"apsw {driver.apsw_version()} built on the begin-concurrent branch"
        )

    def script(self) -> Script:
        driver = self._driver()
        what = f"an apsw on SQLite's branch begin-concurrent ({driver.sqlite_lib_version()})"
        return apsw_script(what, str(driver.__file__))

    def connect(
        self, path: str, *, begin: str = "deferred", settings: Settings | None = None
    ) -> ApswSession:
        """Open a connection. ValueError for "concurrent" in a journal mode that has none of it."""
        connection = self._driver().Connection(str(path))
        try:
            session = ApswSession(connection, begin, settings or Settings())
            journal = session.pragmas["journal_mode"]
            if begin == "concurrent" and journal not in JOURNALS:
                raise ValueError(
                    f"{path} is in journal mode {journal!r}, where BEGIN CONCURRENT silently acts "
                    "as BEGIN. Open it with journal_mode='wal', or measure begin='deferred'."
                )
        except BaseException:
            connection.close()
            raise
        return session

    def bare(self, path: str) -> Any:
        """The driver's own connection, as an application opens it."""
        return self._driver().Connection(path)

    def _driver(self) -> Any:
        try:
            return begin_concurrent.load()
        except begin_concurrent.MissingBuild as error:
            raise EngineMissing(str(error)) from error


APSW = """
import importlib.util
import sys

# {what}
# The file of its module is the argument; without one the apsw that is installed is taken.
if len(sys.argv) > 1:
    spec = importlib.util.spec_from_file_location("apsw", sys.argv[1])
    apsw = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(apsw)
else:
    import apsw


def connect(path, journal_mode="wal"):
    connection = apsw.Connection(path)
    connection.execute(f"PRAGMA journal_mode = {{journal_mode}}").fetchall()
    return connection
"""


def apsw_script(what: str, module: str) -> Script:
    """The script of an apsw. module : the file of its extension module."""
    return Script(APSW.format(what=what), (module,))


def identity_of(driver: Any, binding: str) -> Identity:
    """What the library inside an apsw says of itself."""
    connection = driver.Connection(":memory:")
    version, source_id = connection.execute(
        "SELECT sqlite_version(), sqlite_source_id()"
    ).fetchall()[0]
    options = connection.execute("PRAGMA compile_options").fetchall()
    connection.close()
    return Identity(binding, version, source_id, tuple(row[0] for row in options))


@cache
def _listen(driver: Any) -> Callable[[], dict[str, Any]]:
    log = ConflictLog()
    driver.config(driver.SQLITE_CONFIG_LOG, log)
    return log.account


class ApswSession(DriverSession):
    """One connection."""

    def in_transaction(self) -> bool:
        # A closed connection is false in apsw, and asking it anything else raises.
        return bool(self._connection) and self._connection.in_transaction

    def refusal(self, error: BaseException, phase: int, within_ns: int | None = None) -> Refusal:
        code, still_open = code_of(error, "extendedresult"), self.in_transaction()
        # Ask for each file, for each has a lock of its own: one may be read and another waited for.
        states = self._states() if still_open else set()
        lock = which_lock(
            phase,
            held=READ in states,
            certain=states == {READ},
            within_ns=within_ns,
            timeout_ms=self.pragmas["busy_timeout"],
        )
        return by_code(code, str(error), phase, still_open, lock)

    def _states(self) -> set[int]:
        """The states in which this connection holds its files, as sqlite3_txn_state says."""
        connection = self._connection
        return {connection.txn_state(name) for name in connection.db_names() if name != "temp"}
