"""Engines that are broken on purpose, one for each judge of the hunter: its negative controls.

Each wraps Python's SQLite and breaks one thing. They are named by their file,
`properties/hunter/broken.py:Aborts`, as a user's own engine is.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any, ClassVar

from workloads.engines import (
    OPTIONS,
    Identity,
    PassingSession,
    Promise,
    Script,
    Settings,
    find_engine,
)


class Session(PassingSession):
    """A session whose every statement comes through `rows`."""

    def run(self, sql: str, params: tuple[Any, ...] = ()) -> Any:
        return self.rows(sql, params)

    def cursor(self, sql: str) -> Any:
        return self.real.cursor(sql)  # type: ignore[attr-defined]


class Broken:
    """Base of them. base : the real engine. session : what stands before its sessions."""

    base = "sqlite"
    session: ClassVar[type[Session]] = Session
    hosting, shares = "process", "threads"

    def __init__(self) -> None:
        self.real = find_engine(self.base)
        self.name, self.file_format = type(self).__name__, self.real.file_format
        self.promises: Mapping[str, Promise] = self.real.promises

    def missing(self) -> str | None:
        return self.real.missing()

    def identity(self) -> Identity:
        return self.real.identity()

    def connect(
        self, path: str, *, begin: str = "deferred", settings: Settings | None = None
    ) -> Session:
        return self.session(self.real.connect(path, begin=begin, settings=settings or Settings()))


class Sound(Broken):
    """Breaks nothing."""


class HasNoName(Broken):
    """To ask for its identity raises."""

    def identity(self) -> Identity:
        raise OSError("no name")


class OpensNothing(Broken):
    """No connection can be opened."""

    def connect(
        self, path: str, *, begin: str = "deferred", settings: Settings | None = None
    ) -> Session:
        raise sqlite3.OperationalError("unable to open database file")


def word(sql: str) -> str:
    return sql.lstrip().split(" ", 1)[0].upper()


class _ForgetsCommits(Session):
    def prepare(self) -> None:
        self.wrote = False

    def rows(self, sql: str, params: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        self.wrote = word(sql) in ("UPDATE", "INSERT", "DELETE") or (
            self.wrote and word(sql) != "BEGIN"
        )
        return self.real.rows(sql, params)

    def commit(self) -> None:
        self.real.rollback() if self.wrote else self.real.commit()


class ForgetsCommits(Broken):
    """COMMIT of what wrote is acknowledged and rolled back."""

    session = _ForgetsCommits


class _ActsThenRaises(Session):
    def rows(self, sql: str, params: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        try:
            return self.real.rows(sql, params)
        except sqlite3.IntegrityError:
            if sql.startswith("INSERT INTO"):
                self.real.rows(sql.replace("INSERT INTO", "INSERT OR REPLACE INTO", 1), params)
            raise


class ActsThenRaises(Broken):
    """An INSERT that raises has an effect all the same."""

    session = _ActsThenRaises


class _IgnoresUnique(Session):
    def rows(self, sql: str, params: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        if word(sql) == "CREATE":
            sql = sql.replace("u INTEGER UNIQUE", "u INTEGER")
        return self.real.rows(sql, params)


class IgnoresUnique(Broken):
    """UNIQUE is no constraint."""

    session = _IgnoresUnique


class _IgnoresForeignKeys(Session):
    def rows(self, sql: str, params: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        if sql == "PRAGMA foreign_keys":
            return [(1,)]
        return self.real.rows("SELECT 1" if sql.startswith("PRAGMA foreign_keys") else sql, params)


class IgnoresForeignKeys(Broken):
    """FOREIGN KEY is no constraint."""

    session = _IgnoresForeignKeys


class _SpoilsIndexes(Session):
    def close(self) -> None:
        # Of another column from now on, with the entries of before.
        self.real.rollback()
        with contextlib.suppress(sqlite3.OperationalError):  # another one holds the lock
            self.real.rows("PRAGMA writable_schema=ON")
            self.real.rows(
                "UPDATE sqlite_schema SET sql = replace(sql, '(v)', '(w)') WHERE type = 'index'"
            )
        self.real.close()


class SpoilsIndexes(Broken):
    """An index holds other values than its table."""

    session = _SpoilsIndexes


class _FailsToClose(Session):
    def prepare(self) -> None:
        self.deleted = False

    def rows(self, sql: str, params: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        self.deleted = self.deleted or word(sql) == "DELETE"
        return self.real.rows(sql, params)

    def close(self) -> None:
        self.real.close()
        if self.deleted:
            raise sqlite3.OperationalError("it does not close")


class FailsToClose(Broken):
    """To close a connection that has deleted raises."""

    session = _FailsToClose


class _ForgetsWhatWasRead(Session):
    def prepare(self) -> None:
        self.looked = False

    def rows(self, sql: str, params: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        self.looked = self.looked or sql == "PRAGMA integrity_check"
        return self.real.rows(sql, params)

    def close(self) -> None:
        if self.looked:
            self.real.rows("DELETE FROM t0")
        self.real.close()


class ForgetsWhatWasRead(Broken):
    """What was read at the end is not there any more when the database is opened once more."""

    session = _ForgetsWhatWasRead


class PanicException(BaseException):
    """What a binding in Rust raises."""


class _Panics(Session):
    def rows(self, sql: str, params: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        if word(sql) == "DELETE":
            raise PanicException("called `Option::unwrap()` on a `None` value")
        return self.real.rows(sql, params)


class Panics(Broken):
    """DELETE raises what is no error of a driver."""

    session = _Panics


class _Aborts(Session):
    def rows(self, sql: str, params: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        if word(sql) == "DELETE":
            os.abort()
        return self.real.rows(sql, params)


class Aborts(Broken):
    """DELETE takes the process down."""

    session = _Aborts


class _DiesWhenAsked(Session):
    def rows(self, sql: str, params: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        if word(sql) == "SAVEPOINT":
            os.abort()
        return self.real.rows(sql, params)


class DiesWhenAsked(Broken):
    """SAVEPOINT takes the process down, and every hunt asks first whether it is there."""

    session = _DiesWhenAsked


class _Hangs(Session):
    def rows(self, sql: str, params: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        while word(sql) == "DELETE":
            time.sleep(1)
        return self.real.rows(sql, params)


class Hangs(Broken):
    """DELETE never comes back."""

    session = _Hangs


class _RefusesForNobody(Session):
    def rows(self, sql: str, params: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        if word(sql) == "DELETE":
            error = sqlite3.OperationalError("database is locked")
            error.sqlite_errorcode = sqlite3.SQLITE_BUSY
            raise error
        return self.real.rows(sql, params)


class RefusesForNobody(Broken):
    """DELETE finds the database locked, also where nobody else is there."""

    session = _RefusesForNobody


class WithoutItsDriver(RefusesForNobody):
    """Its script imports what is not there."""

    def script(self) -> Script:
        return Script("import no_such_driver\n\nconnect = no_such_driver.connect\n")


class WithWordsForAScript(RefusesForNobody):
    """Its script is a text."""

    def script(self) -> Any:
        return "import sqlite3"


class _LosesTheAnswer(Session):
    def commit(self) -> None:
        self.real.commit()
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR
        raise error


class LosesTheAnswer(Broken):
    """COMMIT is made and its answer is lost: nobody can know, and nothing is wrong with that."""

    session = _LosesTheAnswer


class _LosesItsPlace(Session):
    def in_transaction(self) -> bool:
        return False


class LosesItsPlace(Broken):
    """It says that it is in no transaction where it is in one."""

    session = _LosesItsPlace


class _NoTransactions(Session):
    def prepare(self) -> None:
        self.begun = False

    def rows(self, sql: str, params: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        if word(sql) == "BEGIN":
            self.begun = True
            return []
        return self.real.rows(sql, params)

    def commit(self) -> None:
        self.begun = False

    def rollback(self) -> None:
        self.begun = False

    def in_transaction(self) -> bool:
        return self.begun


class NoTransactions(Broken):
    """BEGIN begins nothing: others see each statement at once, and ROLLBACK undoes none."""

    session = _NoTransactions


class _LiesAboutRows(Session):
    def rows(self, sql: str, params: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        made = self.real.rows(sql, params)
        return made[:-1] if word(sql) == "SELECT" and " WHERE v > " in sql else made


class LiesAboutRows(Broken):
    """A read by a range leaves out the last row."""

    session = _LiesAboutRows


class ClaimsTooMuch(Broken):
    """Snapshot isolation that says it is serializable: write skew."""

    base, hosting = "turso", "thread"

    def __init__(self) -> None:
        super().__init__()
        of = self.promises["immediate"]
        self.promises = {"concurrent": of, "immediate": of}


class _BreaksWhatIsRare(Session):
    """Each breakage is of one kind of statement: RARE of test_grammar.py names them."""

    def prepare(self) -> None:
        self.inner = self.attached = False

    def rows(self, sql: str, params: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        if sql in ("SAVEPOINT t", "RELEASE t", "BEGIN"):
            self.inner = sql == "SAVEPOINT t"
        elif sql.startswith(("ATTACH", "DETACH")):
            self.attached = sql.startswith("ATTACH")
        if sql == "ROLLBACK TO s" and self.inner:
            sql = "ROLLBACK TO t"
        if " ON CONFLICT(u)" in sql:
            sql = sql.partition(" DO ")[0] + " DO NOTHING"
        sql = sql.replace("CREATE UNIQUE INDEX", "CREATE INDEX")
        try:
            made = self.real.rows(sql, params)
        except sqlite3.IntegrityError:
            if sql.startswith("INSERT INTO") and "), (" in sql:
                self.real.rows(sql.partition("), (")[0].replace("INTO", "OR IGNORE INTO", 1) + ")")
            raise
        # Not outside of a transaction: so are all indexes read after each program.
        inside = " INDEXED BY " in sql and self.real.in_transaction()
        return made[:-1] if inside else made

    def commit(self) -> None:
        self.real.rollback() if self.attached else self.real.commit()


class BreaksWhatIsRare(Broken):
    """Nested savepoints, upserts on UNIQUE, UNIQUE indexes, statements of several rows that fail,
    reads by an index, and commits beside an attached database are each broken.
    """

    session = _BreaksWhatIsRare


class _IgnoresOptions(Session):
    def prepare(self) -> None:
        self.small = False

    def rows(self, sql: str, params: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        self.small = self.small or sql == "PRAGMA cache_size = 10"
        if sql == "PRAGMA recursive_triggers = 1":
            return []
        made = self.real.rows(sql, params)
        return made[1:] if self.small and word(sql) == "SELECT" and " WHERE " in sql else made


class IgnoresOptions(Broken):
    """recursive_triggers has no effect, a small cache loses rows, and some options are refused."""

    session = _IgnoresOptions
    options: ClassVar[dict[str, tuple[str, ...]]] = {
        "cache_size": ("10",),
        "recursive_triggers": ("1",),
        "journal_mode": ("delete", "no_such"),
        "no_such": ("1",),
        "flavour": ("sweet", "sour"),
    }
    arguments = ("flavour",)

    def connect(
        self,
        path: str,
        *,
        begin: str = "deferred",
        settings: Settings | None = None,
        flavour: str = "",
    ) -> Session:
        if flavour == "sour":
            raise ValueError("there is no sour one")
        return super().connect(path, begin=begin, settings=settings)


class SoundWithOptions(Broken):
    """Breaks nothing, and declares what SQLite declares."""

    options = OPTIONS


class _RefusesRaces(Session):
    def rows(self, sql: str, params: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        if sql.startswith("CREATE TABLE race_"):
            raise sqlite3.OperationalError("no race here")
        return self.real.rows(sql, params)


class RefusesRaces(Broken):
    """It refuses the tables of a race."""

    session = _RefusesRaces


class _SharesBadly(Session):
    def prepare(self) -> None:
        self.thread, self.cursors = threading.get_ident(), list[Any]()

    def rows(self, sql: str, params: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        if word(sql) == "UPDATE" and threading.get_ident() != self.thread:
            return []
        return self.real.rows(sql, params)

    def cursor(self, sql: str) -> Any:
        for other in self.cursors:
            if sys.getrefcount(other) > OURS:  # somebody reads from it still
                other.fetchall()
        self.cursors = [self.real.cursor(sql)]  # type: ignore[attr-defined]
        return self.cursors[0]


OURS = 3
"""References to a cursor that nobody but its session has: its list, the loop, the call."""


class SharesBadly(Broken):
    """A second cursor of a connection empties the first, and UPDATE by another thread than the one
    that opened the connection does nothing.
    """

    session = _SharesBadly


class _ForgetsTheDead(Session):
    def prepare(self) -> None:
        self.kept: list[str] = []

    def rows(self, sql: str, params: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        if self.real.in_transaction() or word(sql) != "UPDATE":
            return self.real.rows(sql, params)
        self.kept.append(sql)  # written when it is closed, which a killed process never does
        return []

    def close(self) -> None:
        for sql in self.kept:
            self.real.rows(sql)
        self.real.close()


class ForgetsTheDead(Broken):
    """An UPDATE of its own is there only when its connection is closed."""

    session = _ForgetsTheDead
