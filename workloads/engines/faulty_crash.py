"""Engines broken on purpose: what a crash shows of them, and nothing else does."""

from __future__ import annotations

import os
from pathlib import Path

from workloads.engines.engine import Settings
from workloads.engines.faulty import Faulty, FaultySession, PassingSession


class EarlyAckSession(PassingSession):
    def prepare(self) -> None:
        self._owed = False

    def commit(self) -> None:
        self._owed = True

    def begin(self) -> None:
        self._pay()
        self.real.begin()

    def rollback(self) -> None:
        if not self._owed:
            self.real.rollback()

    def in_transaction(self) -> bool:
        return self.real.in_transaction() and not self._owed

    def close(self) -> None:
        self._pay()
        self.real.close()

    def _pay(self) -> None:
        if self._owed:
            self._owed = False
            self.real.commit()


class EarlyAck(Faulty):
    """Acknowledges a transaction when it is asked to commit, and commits it before the next one."""

    name = "faulty-early-ack"
    Session = EarlyAckSession


class Forgets(Faulty):
    """Cuts the last frame off a write-ahead log that it recovers."""

    name = "faulty-forgets"
    Session = PassingSession

    def connect(
        self, path: str, *, begin: str = "deferred", settings: Settings | None = None
    ) -> FaultySession:
        log = Path(f"{path}-wal")
        # Without shared memory nobody has the log open: what is in it has to be recovered.
        if log.exists() and log.stat().st_size and not Path(f"{path}-shm").exists():
            os.truncate(log, log.stat().st_size - 1)
        return super().connect(path, begin=begin, settings=settings)
