"""Replicas broken on purpose, without any server: SQLite, read through older snapshots of its log.

Each breaks a guarantee that a session has where it stays at one replica (Terry et al. 1994). A
snapshot is a transaction that another connection keeps open, so it is a state that the database
once had, and what was committed since is not in it. Writes go to the database itself, and so do
the reads of a transaction after its first write.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from workloads.engines.engine import Session, Settings
from workloads.engines.faulty import Faulty, FaultySession, PassingSession, reads

RENEWED = 4
"""Each how many transactions an old snapshot is taken anew."""


class ReplicaSession(PassingSession):
    """copies : connections, each with a snapshot of its own age."""

    def __init__(self, real: Session, copies: Sequence[Session]) -> None:
        self.copies = list(copies)
        self.begun = 0
        self.wrote = False
        super().__init__(real)

    def prepare(self) -> None:
        self.sync()

    def sync(self) -> None:
        """Let every copy be as the database is now."""
        for copy in self.copies:
            renew(copy)

    def begin(self) -> None:
        self.real.begin()
        self.begun += 1
        self.wrote = False
        self.read = 0
        if self.begun % RENEWED == 0:
            self.sync()

    def run(self, sql: str, params: tuple[Any, ...] = ()) -> Any:
        self.wrote = True
        return self.real.run(sql, params)

    def rows(self, sql: str, params: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        if not reads(sql) or self.wrote or not self.real.in_transaction():
            return self.real.rows(sql, params)
        self.read += 1
        return self.asked().rows(sql, params)

    def asked(self) -> Session:
        """Who answers the next read of a transaction that has not written."""
        return self.copies[0]

    def close(self) -> None:
        for copy in self.copies:
            copy.close()
        self.real.close()


def renew(copy: Session) -> None:
    """Let a copy take its snapshot now."""
    copy.rollback()
    copy.begin()
    copy.rows("SELECT count(*) FROM sqlite_master")


class MovingSession(ReplicaSession):
    def begin(self) -> None:
        super().begin()
        renew(self.copies[0])

    def asked(self) -> Session:
        return self.copies[self.begun % 2]


class TornSession(ReplicaSession):
    def asked(self) -> Session:
        return self.real if self.read == 1 else self.copies[0]


class Replica(Faulty):
    """A session's reads do not include its own last writes, and never go back."""

    name = "faulty-replica"
    copies: ClassVar[int] = 1
    At: ClassVar[type[ReplicaSession]] = ReplicaSession

    def connect(
        self, path: str, *, begin: str = "deferred", settings: Settings | None = None
    ) -> FaultySession:
        settings = settings or Settings()
        real = self.base.connect(path, begin=begin, settings=settings)
        copies = [
            self.base.connect(path, begin="deferred", settings=settings) for _ in range(self.copies)
        ]
        return self.At(real, copies)


class MovingReplica(Replica):
    """A session asks a fresh and an old copy in turn: it no longer sees what it has seen."""

    name = "faulty-replica-moves"
    copies = 2
    At = MovingSession


class TornReplica(Replica):
    """A transaction's first read is fresh and its later ones are old: a write without its past."""

    name = "faulty-replica-torn"
    At = TornSession
