"""More engines broken on purpose: each shows one anomaly that no real engine shows.

With those of `faulty` every anomaly of the catalogue that a test can find is found once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from workloads.engines.engine import Engine, Promise, Session, Settings
from workloads.engines.faulty import Faulty, FaultySession, PassingSession, reads
from workloads.engines.turso import Turso


class AbortedReadSession(PassingSession):
    def rollback(self) -> None:
        if self.real.in_transaction():
            self.real.commit()


class DoubleWriteSession(PassingSession):
    def run(self, sql: str, params: tuple[Any, ...] = ()) -> Any:
        if self.real.in_transaction() and sql.startswith("UPDATE"):
            self.real.run(sql, params)
        return self.real.run(sql, params)


class TwoSidedSession(PassingSession):
    """Reads through another connection than it writes through."""

    def __init__(self, real: Session, other: Session) -> None:
        self.other = other
        self.begun = 0
        self.wrote = False
        super().__init__(real)

    def begin(self) -> None:
        self.real.begin()
        self.begun += 1
        self.wrote = False

    def run(self, sql: str, params: tuple[Any, ...] = ()) -> Any:
        self.wrote = True
        return self.real.run(sql, params)

    def rows(self, sql: str, params: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        aside = self.real.in_transaction() and reads(sql) and self.goes_aside()
        return (self.other if aside else self.real).rows(sql, params)

    def goes_aside(self) -> bool:
        """Whether the next read of the open transaction goes through the other connection."""
        return True

    def close(self) -> None:
        self.other.close()
        self.real.close()


class BlindToItselfSession(TwoSidedSession):
    pass


class StaleReadSession(TwoSidedSession):
    def prepare(self) -> None:
        self._renew()

    def _renew(self) -> None:
        self.other.rollback()
        self.other.begin()
        self.other.rows("SELECT count(*) FROM sqlite_master")  # takes the snapshot

    def begin(self) -> None:
        super().begin()
        if self.begun % 3 == 0:
            self._renew()

    def goes_aside(self) -> bool:
        return not self.wrote


class AbortedRead(Faulty):
    """Commits where it was asked to roll back."""

    name = "faulty-aborted-read"
    Session = AbortedReadSession


class DoubleWrite(Faulty):
    """Does every UPDATE of a transaction twice."""

    name = "faulty-double-write"
    Session = DoubleWriteSession


class TwoSided(Faulty):
    """Opens two connections for one session."""

    def connect(
        self, path: str, *, begin: str = "deferred", settings: Settings | None = None
    ) -> FaultySession:
        settings = settings or Settings()
        real = self.base.connect(path, begin=begin, settings=settings)
        other = self.base.connect(path, begin="deferred", settings=settings)
        return self.Sides(real, other)

    Sides: ClassVar[type[TwoSidedSession]] = TwoSidedSession


class BlindToItself(TwoSided):
    """A transaction does not see its own writes."""

    name = "faulty-blind-to-itself"
    Sides = BlindToItselfSession


class StaleRead(TwoSided):
    """Reads from a snapshot that is up to three transactions old."""

    name = "faulty-stale-read"
    Sides = StaleReadSession


class WriteSkew(Faulty):
    """Snapshot isolation that promises to be serializable."""

    name = "faulty-write-skew"
    Base: ClassVar[Callable[[], Engine]] = Turso
    Session = PassingSession

    def __init__(self, base: Engine | None = None) -> None:
        super().__init__(base)
        self.promises: Mapping[str, Promise] = dict.fromkeys(
            self.base.promises, Promise("serializable", "nobody: a negative control")
        )
