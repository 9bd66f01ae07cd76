"""No transactions: each statement commits by itself, as a driver's connection does in autocommit.

It is a way of working and no mode of an engine's, so it is in no engine's `modes`: every engine can
be asked for it, by a scenario whose transactions change with one statement at most.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from workloads.engines.engine import Refusal, Session
from workloads.records import COMMIT, STATEMENT

AUTOCOMMIT = "autocommit"

nothing: Callable[[], Any] = bool
"""Called without arguments it does nothing, at half the price of a function of Python's."""


class Autocommit:
    """A session whose `begin` and `commit` do nothing. Everything else is the real session's.

    writes : whether its statements change anything. An error of one that does is classified as one
        of COMMIT, which it is: after a lost answer nobody knows whether it was made.
    """

    def __init__(self, real: Session, *, writes: bool) -> None:
        self._real, self._phase = real, COMMIT if writes else STATEMENT
        self.begin = self.commit = nothing
        self.run, self.rows, self.pragmas = real.run, real.rows, real.pragmas

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def refusal(self, error: BaseException, phase: int, within_ns: int | None = None) -> Refusal:
        return self._real.refusal(error, self._phase if phase == STATEMENT else phase, within_ns)
