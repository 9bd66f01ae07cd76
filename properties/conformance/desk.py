"""Where a check of the adapter contract works: sessions on one database, with all that they did.

Each call of a session is noted with its result, so that what is broken can be told as a timeline
and played again by the driver alone.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from workloads.engines import Engine, Refusal, Settings, modes_of
from workloads.records import STATEMENT

IMPATIENT = Settings(busy_timeout_ms=0, synchronous="off")

NO_CLASS_OF_A_DRIVER = ("Panic", "SystemError", "AssertionError", "KeyError", "IndexError",
                        "AttributeError", "RuntimeError", "UnicodeDecodeError")  # fmt: skip
"""Classes of errors, or the beginnings of their names, that no caller of a driver expects."""

MOST_SHOWN = 300


class Call(NamedTuple):
    """A call of a session. got : what it returned, None where it raised. error : its class."""

    session: str
    verb: str
    sql: str = ""
    params: Any = ()
    got: Any = None
    error: str = ""
    message: str = ""

    def __str__(self) -> str:
        what = self.sql if self.verb in ("run", "rows", "cursor") else self.verb
        given = f" {shown(self.params)}" if self.params else ""
        end = f"  !! {self.error}: {self.message}" if self.error else ""
        if not self.error and self.got not in (None, []):
            end = f"  -> {shown(self.got)}"
        return f"{self.session}: {what}{given}{end}"


class Broken(AssertionError):
    """What a check sees is not what the contract says."""

    def __init__(self, right: str, seen: str) -> None:
        super().__init__(f"right: {right}; seen: {seen}")
        self.right, self.seen = right, seen


class NotAsked(Exception):
    """The engine has not got what the check needs; its words."""


def shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…"


def described(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def is_a_drivers(error: BaseException) -> bool:
    """Whether `except Exception` catches it, and no caller would take it for a fault of his own."""
    name = type(error).__name__
    return isinstance(error, Exception) and not name.startswith(NO_CLASS_OF_A_DRIVER)


class Traced:
    """A session whose calls are noted. Errors of the driver go through."""

    def __init__(self, name: str, session: Any, calls: list[Call]) -> None:
        self.name, self.session, self.calls = name, session, calls

    def rows(self, sql: str, params: Any = ()) -> Any:
        return self._noted("rows", lambda: self.session.rows(sql, params), sql, params)

    def run(self, sql: str, params: Any = ()) -> None:
        self._noted("run", lambda: _nothing(self.session.run(sql, params)), sql, params)

    def begin(self) -> None:
        self._noted("begin", lambda: _nothing(self.session.begin()))

    def commit(self) -> None:
        self._noted("commit", lambda: _nothing(self.session.commit()))

    def rollback(self) -> None:
        self._noted("rollback", self.session.rollback)

    def close(self) -> None:
        self._noted("close", self.session.close)

    def in_transaction(self) -> bool:
        return bool(self._noted("in_transaction", self.session.in_transaction))

    def half(self, sql: str) -> tuple[Any, Any]:
        """A cursor and its first row. Raises NotAsked where the adapter gives no cursors."""
        if not hasattr(self.session, "cursor"):
            raise NotAsked("its adapter gives no cursors: it fetches each statement whole")
        cursor = self.session.cursor(sql)
        return cursor, self._noted("cursor", cursor.fetchone, sql)

    def refusal(self, error: BaseException, phase: int = STATEMENT) -> Refusal:
        return self.session.refusal(error, phase)

    def _noted(self, verb: str, call: Callable[[], Any], sql: str = "", params: Any = ()) -> Any:
        try:
            got = call()
        except BaseException as error:
            said = type(error).__name__, str(error)
            self.calls.append(Call(self.name, verb, sql, params, None, *said))
            raise
        self.calls.append(Call(self.name, verb, sql, params, got))
        return got


def _nothing(_: Any) -> None:
    """In place of what a call returns that nobody looks at: a cursor would keep its locks."""


class Desk:
    """An engine in a BEGIN mode, and a database without tables for one check.

    engine_name : as `find_engine` takes it.
    """

    def __init__(self, name: str, engine: Engine, mode: str, path: Path) -> None:
        self.engine_name, self.engine, self.mode, self.path = name, engine, mode, path
        self.calls: list[Call] = []
        self._open: list[Traced] = []

    @property
    def served(self) -> bool:
        return hasattr(self.engine, "serve")

    def open(self, *, mode: str = "", settings: Settings = IMPATIENT, path: str = "") -> Traced:
        """Another connection to the database, of which the first is called A."""
        name = chr(ord("A") + len(self._open))
        session = self.engine.connect(
            path or str(self.path), begin=mode or self.mode, settings=settings
        )
        self._open.append(Traced(name, session, self.calls))
        self.calls.append(Call(name, "open", path))
        return self._open[-1]

    def two(self, *tables: str) -> tuple[Traced, Traced]:
        """Two connections to a database with these tables. NotAsked where it refuses one.

        The second is opened when the tables are there: what it sees of later ones, a check asks.
        """
        first = self.open()
        for sql in tables:
            self.needs(first, sql)
        return first, self.open()

    def needs(self, session: Traced, sql: str) -> Any:
        """Run what the check stands on. NotAsked, in the engine's words, where it refuses it."""
        try:
            return session.rows(sql)
        except Exception as error:
            if not is_a_drivers(error):
                raise
            raise NotAsked(str(error)) from error

    def has(self, *modes: str) -> str:
        """The first of these modes that the engine has. NotAsked where it has none of them."""
        for mode in modes:
            if mode in modes_of(self.engine) and mode in self.engine.promises:
                return mode
        raise NotAsked(f"it has no mode {' or '.join(modes)}")

    def close(self) -> None:
        """Close all, whatever each of them says."""
        for one in self._open:
            try:
                one.session.rollback()
                one.session.close()
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt | SystemExit):
                    raise
        gc.collect()  # a connection that is held by a cursor keeps its locks


def same(seen: Any, right: Any, what: str = "") -> None:
    """Raise Broken where what was seen is something else, or the same of another type."""
    if seen != right or repr(seen) != repr(right):
        raise Broken(f"{what} {shown(right)}".strip(), shown(seen))


def holds(truth: object, right: str, seen: str) -> None:
    if not truth:
        raise Broken(right, seen)


def raised(what: str, call: Callable[..., Any], *args: Any) -> BaseException:
    """The error of a call that has to raise. Broken where it does not, or with a panic."""
    try:
        got = call(*args)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit | NotAsked):
            raise
        holds(is_a_drivers(error), f"{what} raises an error of the driver's", described(error))
        return let_go(error)
    raise Broken(f"{what} raises", f"it returned {shown(got)}")


def let_go(error: BaseException) -> BaseException:
    """The error without the frames that it holds, and with them the driver's cursors."""
    one: BaseException | None = error
    while one is not None:
        one.__traceback__, one = None, one.__context__
    return error
