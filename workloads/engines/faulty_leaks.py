"""Engines broken on purpose: sound in every answer, they use up what a process may have."""

from __future__ import annotations

import os
from typing import Any, ClassVar

from workloads.engines.faulty import Faulty, PassingSession, reads

KEPT_BYTES, MOST = 1 << 15, 1 << 14
"""Of each commit, and of how many: a control must not use up the machine."""


class LeaksMemorySession(PassingSession):
    kept: ClassVar[list[bytearray]] = []

    def prepare(self) -> None:
        self._wrote = False

    def run(self, sql: str, params: tuple[Any, ...] = ()) -> Any:
        self._wrote = self._wrote or not reads(sql)
        return self.real.run(sql, params)

    def commit(self) -> None:
        self.real.commit()
        wrote, self._wrote = self._wrote, False
        if wrote and len(self.kept) < MOST:
            self.kept.append(bytearray(b"x") * KEPT_BYTES)


class LeaksDescriptorsSession(PassingSession):
    def commit(self) -> None:
        self.real.commit()
        os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)


class LeaksMemory(Faulty):
    """Keeps memory of each transaction that wrote, for as long as its process lives."""

    name = "faulty-leaks-memory"
    Session = LeaksMemorySession


class LeaksDescriptors(Faulty):
    """Opens a file at each commit and never closes it."""

    name = "faulty-leaks-descriptors"
    Session = LeaksDescriptorsSession
