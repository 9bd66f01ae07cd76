"""Engines broken on purpose: sound in every answer, they use up what a process may have."""

from __future__ import annotations

import os
from typing import ClassVar

from workloads.engines.faulty import Faulty, PassingSession

KEPT_BYTES, MOST = 1 << 15, 1 << 14
"""Of each commit, and of how many: a control must not use up the machine."""


class LeaksMemorySession(PassingSession):
    kept: ClassVar[list[bytearray]] = []

    def commit(self) -> None:
        self.real.commit()
        if len(self.kept) < MOST:
            self.kept.append(bytearray(b"x") * KEPT_BYTES)


class LeaksDescriptorsSession(PassingSession):
    def commit(self) -> None:
        self.real.commit()
        os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)


class LeaksMemory(Faulty):
    """Keeps some memory of each transaction that it commits, for as long as its process lives."""

    name = "faulty-leaks-memory"
    Session = LeaksMemorySession


class LeaksDescriptors(Faulty):
    """Opens a file at each commit and never closes it."""

    name = "faulty-leaks-descriptors"
    Session = LeaksDescriptorsSession
