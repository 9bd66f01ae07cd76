"""Engines broken on purpose: the negative controls. A test that cannot see them sees nothing.

Each wraps a real engine and breaks one promise, deterministically, while it goes on promising what
the real one does. Another engine than SQLite is wrapped by `LostCommit(Turso())`, or by a subclass
with its own `Base`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from workloads.engines.engine import (
    Engine,
    Identity,
    Promise,
    Refusal,
    Session,
    Settings,
    classifier,
)
from workloads.engines.sqlite import Sqlite
from workloads.records import BEGIN, COMMIT, CONFLICT, STATEMENT


def reads(sql: str) -> bool:
    return sql.lstrip()[:6].upper() == "SELECT"


class FaultySession:
    """A real session with something in front of it. See PassingSession for what a fault changes."""

    begin: Callable[[], Any]
    commit: Callable[[], Any]
    run: Callable[..., Any]
    rows: Callable[..., list[tuple[Any, ...]]]

    def __init__(self, real: Session) -> None:
        self.real = real
        self.pragmas: Mapping[str, Any] = real.pragmas
        self._classify = classifier(real)
        self.prepare()

    def prepare(self) -> None:
        """Set the fault's own state, once."""

    def rollback(self) -> None:
        self.real.rollback()

    def refusal(self, error: BaseException, phase: int, within_ns: int | None = None) -> Refusal:
        return self._classify(error, phase, within_ns)

    def in_transaction(self) -> bool:
        return self.real.in_transaction()

    def close(self) -> None:
        self.real.close()


class PassingSession(FaultySession):
    """Passes everything through and does nothing wrong. A subclass breaks one thing."""

    def begin(self) -> None:
        self.real.begin()

    def commit(self) -> None:
        self.real.commit()

    def run(self, sql: str, params: tuple[Any, ...] = ()) -> Any:
        return self.real.run(sql, params)

    def rows(self, sql: str, params: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        return self.real.rows(sql, params)


class LostCommitSession(PassingSession):
    every = 7

    def prepare(self) -> None:
        self._writes = 0  # transactions of this session that wrote
        self._wrote = False

    def begin(self) -> None:
        self._wrote = False
        self.real.begin()

    def run(self, sql: str, params: tuple[Any, ...] = ()) -> Any:
        self._wrote = self._wrote or not reads(sql)
        return self.real.run(sql, params)

    def rows(self, sql: str, params: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        self._wrote = self._wrote or not reads(sql)
        return self.real.rows(sql, params)

    def commit(self) -> None:
        # Counted over transactions that wrote: losing one that only read would not show.
        self._writes += self._wrote
        if self._wrote and self._writes % self.every == 0:
            self.real.rollback()
        else:
            self.real.commit()


class TornReadSession(PassingSession):
    def prepare(self) -> None:
        self._torn = False

    def begin(self) -> None:
        self._torn = False
        self.real.begin()

    def run(self, sql: str, params: tuple[Any, ...] = ()) -> Any:
        return self._tear(sql, self.real.run(sql, params))

    def rows(self, sql: str, params: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        return self._tear(sql, self.real.rows(sql, params))

    def _tear(self, sql: str, answer: Any) -> Any:
        if not reads(sql) and not self._torn and self.real.in_transaction():
            self._torn = True
            self.real.commit()
            self.real.begin()
        return answer


class LostUpdateSession(PassingSession):
    def prepare(self) -> None:
        self._begun = False  # as far as the caller knows
        self._mode_known = False

    def begin(self) -> None:
        if not self._mode_known:  # so that a mode that the real engine refuses is refused here
            self.real.begin()
            self.real.rollback()
            self._mode_known = True
        self._begun = True

    def run(self, sql: str, params: tuple[Any, ...] = ()) -> Any:
        self._begin_late(sql)
        return self.real.run(sql, params)

    def rows(self, sql: str, params: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        self._begin_late(sql)
        return self.real.rows(sql, params)

    def commit(self) -> None:
        if self.real.in_transaction():
            self.real.commit()
        self._begun = False

    def rollback(self) -> None:
        self._begun = False
        self.real.rollback()

    def in_transaction(self) -> bool:
        return self._begun

    def _begin_late(self, sql: str) -> None:
        # The reads until now were outside the transaction: another may write there before we do.
        if self._begun and not reads(sql) and not self.real.in_transaction():
            self.real.begin()


class SilentConflictSession(PassingSession):
    def prepare(self) -> None:
        self._doomed = False
        # Conflicts come at once instead of after a wait, so that a short run meets some.
        self.real.rows("PRAGMA busy_timeout=0")
        self.pragmas = {**self.pragmas, "busy_timeout": 0}

    def begin(self) -> None:
        self._doomed = False
        self._quietly(self.real.begin, BEGIN)

    def run(self, sql: str, params: tuple[Any, ...] = ()) -> Any:
        if not self._doomed:
            return self._quietly(self.real.run, STATEMENT, sql, params)
        return None

    def rows(self, sql: str, params: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        answer = None if self._doomed else self._quietly(self.real.rows, STATEMENT, sql, params)
        if self._doomed:
            # The body needs something to go on with; what it writes is dropped.
            return self.real.rows(sql, params) if reads(sql) else []
        return answer or []

    def commit(self) -> None:
        if not self._doomed:
            self._quietly(self.real.commit, COMMIT)
        self._doomed = False

    def rollback(self) -> None:
        self._doomed = False
        self.real.rollback()

    def in_transaction(self) -> bool:
        return self._doomed or self.real.in_transaction()

    def _quietly(self, call: Callable[..., Any], phase: int, *args: Any) -> Any:
        try:
            return call(*args)
        except Exception as error:
            if self.real.refusal(error, phase).outcome != CONFLICT:
                raise
            self.real.rollback()
            self._doomed = True
            return None


class Faulty:
    """A real engine with one promise broken. `Base()` is the real one unless another is given."""

    Base: ClassVar[Callable[[], Engine]] = Sqlite
    Session: ClassVar[type[FaultySession]] = FaultySession
    name: str = "faulty"

    def __init__(self, base: Engine | None = None) -> None:
        self.base = base or type(self).Base()
        self.file_format = self.base.file_format
        self.hosting = self.base.hosting
        # The promises stay: breaking them is what the tests have to see.
        self.promises: Mapping[str, Promise] = self.base.promises

    def missing(self) -> str | None:
        return self.base.missing()

    def identity(self) -> Identity:
        real = self.base.identity()
        return real._replace(binding=f"{self.name} over {real.binding}")

    def connect(
        self, path: str, *, begin: str = "deferred", settings: Settings | None = None
    ) -> FaultySession:
        real = self.base.connect(path, begin=begin, settings=settings or Settings())
        return self.Session(real)


class LostCommit(Faulty):
    """Acknowledges every seventh writing transaction of a session and rolls it back."""

    name = "faulty-lost-commit"
    Session = LostCommitSession


class TornRead(Faulty):
    """Commits after the first write of a transaction and begins again: others see half of it."""

    name = "faulty-torn-read"
    Session = TornReadSession


class LostUpdate(Faulty):
    """Begins only at the first write: another may overwrite the rows that were read before it."""

    name = "faulty-lost-update"
    Session = LostUpdateSession


class SilentConflict(Faulty):
    """Acknowledges a transaction that the real engine refused because of another one."""

    name = "faulty-silent-conflict"
    Session = SilentConflictSession
