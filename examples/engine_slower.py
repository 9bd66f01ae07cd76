"""An engine of your own: SQLite, a planted tenth slower. `cwkit compare` must find it.

    cwkit run --database examples/engine_slower.py:Slower --writers 1

It sleeps inside the transaction, before COMMIT, for a tenth of the time that its transactions take
without it: the negative control of every comparison that found no difference.
"""

from __future__ import annotations

import time
from typing import ClassVar

from workloads.engines import Faulty, FaultySession

SHORTEST_S = 0.001
"""Shorter sleeps last longer than they should: what is owed is slept off together."""


class SlowerSession(FaultySession):
    share: ClassVar[float] = 0.1

    def prepare(self) -> None:
        self._begun = self._owed = 0.0
        self.run, self.rows = self.real.run, self.real.rows

    def begin(self) -> None:
        self._begun = time.perf_counter()
        self.real.begin()

    def commit(self) -> None:
        slept = 0.0
        if self._owed >= SHORTEST_S:
            at = time.perf_counter()
            time.sleep(self._owed)
            slept = time.perf_counter() - at
            self._owed -= slept
        self.real.commit()
        self._owed += self.share * (time.perf_counter() - self._begun - slept)


class Slower(Faulty):
    name = "slower"
    Session = SlowerSession
