"""Engines that break one sentence of the adapter contract each: negative controls of its checks.

BREAKS names them by the check that catches them. What broken.py has is not here once more.
"""

from __future__ import annotations

import re
import sqlite3
import weakref
from collections.abc import Callable
from typing import Any

from properties.hunter.broken import (
    ActsThenRaises,
    Broken,
    LosesItsPlace,
    NoTransactions,
    Session,
    word,
)
from workloads.engines import Refusal, Settings
from workloads.records import BUSY, CONFLICT, FAILED, NO_CONFLICT

Rows = list[tuple[Any, ...]]
LARGE = 2**53


class _Bound(Session):
    """Changes what is bound."""

    def bound(self, sql: str, params: Any) -> tuple[str, Any]:
        return sql, params

    def rows(self, sql: str, params: Any = ()) -> Rows:
        return self.real.rows(*self.bound(sql, params))


def _each(change: Callable[[Any], Any]) -> type[_Bound]:
    class Changes(_Bound):
        def bound(self, sql: str, params: Any) -> tuple[str, Any]:
            return sql, tuple(map(change, params))

    return Changes


def _text(change: Callable[[str, Any], tuple[str, Any]]) -> type[_Bound]:
    class Changes(_Bound):
        def bound(self, sql: str, params: Any) -> tuple[str, Any]:
            return change(sql, params)

    return Changes


def _got(change: Callable[[str, Rows], Rows]) -> type[Session]:
    class Changes(Session):
        def rows(self, sql: str, params: Any = ()) -> Rows:
            return change(sql, self.real.rows(sql, params))

    return Changes


def _padded(sql: str, params: Any) -> tuple[str, Any]:
    takes = sql.count("?") if "?1" not in sql else len(params)
    return sql, (*params, *[None] * takes)[:takes]


def _by_place(sql: str, params: Any) -> tuple[str, Any]:
    return (re.sub(r":\w+", "?", sql), tuple(params.values())) if params.__class__ is dict else (
        sql, params)  # fmt: skip


class _RunsTwice(Session):
    def run(self, sql: str, params: Any = ()) -> Any:
        again = word(sql) == "UPDATE" and "RETURNING" in sql
        return [self.real.rows(sql, params) for _ in range(1 + again)][-1]


class _SwallowsWhatReturningMeets(Session):
    def run(self, sql: str, params: Any = ()) -> Any:
        try:
            return self.real.rows(sql, params)
        except sqlite3.IntegrityError:
            if "RETURNING" not in sql:
                raise


class _HalfARow(Session):
    def cursor(self, sql: str) -> Any:
        return super().cursor(re.sub(r"(VALUES \([^)]*\)).* RETURNING", r"\1 RETURNING", sql))


class _KeepsCursors(Session):
    def cursor(self, sql: str) -> Any:
        made = super().cursor(sql)
        self.kept = made, getattr(self, "kept", None)
        return made


class _CommitsAtRollback(Session):
    def rollback(self) -> None:
        if self.real.in_transaction():
            self.real.commit()


class _ReadsItsCache(Session):
    def prepare(self) -> None:
        self.known: dict[str, Rows] = {}

    def rows(self, sql: str, params: Any = ()) -> Rows:
        if word(sql) != "SELECT" or params:
            self.known.clear()
            return self.real.rows(sql, params)
        return self.known.setdefault(sql, self.real.rows(sql))


class _BeginsByItself(Session):
    def rows(self, sql: str, params: Any = ()) -> Rows:
        if word(sql) in ("UPDATE", "DELETE") and not self.real.in_transaction():
            self.real.begin()
        return self.real.rows(sql, params)


class _BeginsAgain(Session):
    def begin(self) -> None:
        if not self.real.in_transaction():
            self.real.begin()


class _CommitsNothing(Session):
    def commit(self) -> None:
        if self.real.in_transaction():
            self.real.commit()


class _SwallowsAFailedCommit(Session):
    def commit(self) -> None:
        try:
            self.real.commit()
        except sqlite3.IntegrityError:
            self.real.rollback()


def _refuses(change: Callable[[Refusal], Refusal]) -> type[Session]:
    class Changes(Session):
        def refusal(
            self, error: BaseException, phase: int, within_ns: int | None = None
        ) -> Refusal:
            return change(super().refusal(error, phase, within_ns))

    return Changes


class _MindsKeptErrors(Session):
    kept: Any = None

    def begin(self) -> None:
        try:
            self.real.begin()
        except sqlite3.Error as error:
            self.kept = weakref.ref(error)
            raise

    def rows(self, sql: str, params: Any = ()) -> Rows:
        if self.kept and self.kept() is not None and word(sql) == "UPDATE":
            return []
        return self.real.rows(sql, params)


class _RaisesValueErrors(Session):
    def rows(self, sql: str, params: Any = ()) -> Rows:
        try:
            return self.real.rows(sql, params)
        except sqlite3.Error as error:
            raise ValueError(str(error)) from None


class _AnswersWhenClosed(Session):
    closed = False

    def rows(self, sql: str, params: Any = ()) -> Rows:
        return [] if self.closed else self.real.rows(sql, params)

    def close(self) -> None:
        self.closed = True
        self.real.close()


class _ClosesOnce(_AnswersWhenClosed):
    def close(self) -> None:
        if self.closed:
            raise sqlite3.ProgrammingError("it is closed")
        super().close()


class _CommitsAtClose(Session):
    def close(self) -> None:
        if self.real.in_transaction():
            self.real.commit()
        self.real.close()


class _KnowsColumns(Session):
    def prepare(self) -> None:
        self.known: dict[str, int] = {}

    def rows(self, sql: str, params: Any = ()) -> Rows:
        made = self.real.rows(sql, params)
        width = self.known.setdefault(sql, len(made[0])) if made else 0
        return [row[:width] for row in made]


class _SwallowsLocks(Session):
    def begin(self) -> None:
        self.rows("BEGIN IMMEDIATE")

    def rows(self, sql: str, params: Any = ()) -> Rows:
        try:
            return self.real.rows(sql, params)
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
            return []


class _NeverWaits(Session):
    def prepare(self) -> None:
        self.real.rows("PRAGMA busy_timeout = 0")


class OpensElsewhere(Broken):
    """A path is another one, where it has a space."""

    def connect(
        self, path: str, *, begin: str = "deferred", settings: Settings | None = None
    ) -> Session:
        return super().connect(path.replace(" ", "_"), begin=begin, settings=settings)


class OpensWithARuntimeError(Broken):
    """To open what is not there raises what is no error of a driver."""

    def connect(
        self, path: str, *, begin: str = "deferred", settings: Settings | None = None
    ) -> Session:
        try:
            return super().connect(path, begin=begin, settings=settings)
        except sqlite3.OperationalError as error:
            raise RuntimeError(str(error)) from error


def _of(session_: type[Session]) -> type[Broken]:
    return type("Breaks", (Broken,), {"session": session_, "__doc__": session_.__doc__})


def _floats(sql: str, rows: Rows) -> Rows:
    return [tuple(float(v) if isinstance(v, int) and abs(v) > LARGE else v for v in row)
            for row in rows]  # fmt: skip


BREAKS: dict[str, type[Broken]] = {
    "integers": _of(_got(_floats)),
    "integers-compared": _of(
        _each(lambda v: float(v) if isinstance(v, int) and abs(v) > LARGE else v)
    ),
    "integers-summed": _of(_got(lambda sql, rows: _floats(sql, rows) if "sum(" in sql else rows)),
    "integers-beyond": _of(
        _each(lambda v: max(-(2**63), min(v, 2**63 - 1)) if isinstance(v, int) else v)
    ),
    "values": _of(_each(lambda v: None if v == "" else v)),
    "text-with-nul": _of(_each(lambda v: v.split("\0")[0] if isinstance(v, str) else v)),
    "numbered-parameters": _of(_text(lambda sql, p: (sql.replace("?2, ?1", "?1, ?2"), p))),
    "named-parameters": _of(_text(_by_place)),
    "parameter-count": _of(_text(_padded)),
    "two-statements": _of(_text(lambda sql, p: (sql.split(";")[0], p))),
    "rows": _of(_got(lambda sql, rows: rows[:100])),
    "returning": _of(_RunsTwice),
    "returning-raises": _of(_SwallowsWhatReturningMeets),
    "returning-half-read": _of(_HalfARow),
    "cursor-dropped": _of(_KeepsCursors),
    "in-transaction": LosesItsPlace,
    "failed-statement": ActsThenRaises,
    "rollback": _of(_CommitsAtRollback),
    "isolated-until-commit": NoTransactions,
    "seen-at-once": _of(_ReadsItsCache),
    "autocommit": _of(_BeginsByItself),
    "begin-twice": _of(_BeginsAgain),
    "commit-without-begin": _of(_CommitsNothing),
    "failed-commit": _of(_SwallowsAFailedCommit),
    "conflict": _of(_refuses(lambda r: r._replace(outcome=FAILED, conflict=NO_CONFLICT))),
    "after-a-conflict": _of(_refuses(lambda r: r._replace(over=not r.over))),
    "error-kept": _of(_MindsKeptErrors),
    "ordinary-errors": _of(_refuses(lambda r: r._replace(outcome=CONFLICT, conflict=BUSY))),
    "error-classes": _of(_RaisesValueErrors),
    "opening-errors": OpensWithARuntimeError,
    "use-after-close": _of(_AnswersWhenClosed),
    "close-twice": _of(_ClosesOnce),
    "close-rolls-back": _of(_CommitsAtClose),
    "schema-of-others": _of(_KnowsColumns),
    "path": OpensElsewhere,
    "no-waiting": _of(_SwallowsLocks),
    "waiting": _of(_NeverWaits),
}
"""A check's name -> an engine that breaks its sentence."""
