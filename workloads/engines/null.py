"""An engine that does nothing: it shows what the generator and the recording cost by themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workloads.engines.engine import Identity, Promise, Refusal, Settings
from workloads.records import FAILED, NO_CONFLICT

ZEROS = [(0,) * 64]
"""The answer to every query: one row of enough zeros to keep any scenario's body going."""


class Null:
    name = "null"
    takes_pragmas = False
    file_format = "none"
    hosting = "process"
    promises: Mapping[str, Promise] = {}

    def missing(self) -> str | None:
        return None

    def identity(self) -> Identity:
        return Identity("none", "does nothing", "", ())

    def connect(
        self, path: str, *, begin: str = "deferred", settings: Settings | None = None
    ) -> NullSession:
        return NullSession()


class NullSession:
    """Keeps nothing and refuses nothing."""

    pragmas: Mapping[str, Any] = {}

    @staticmethod
    def begin() -> None:
        pass

    @staticmethod
    def commit() -> None:
        pass

    @staticmethod
    def run(sql: str, params: tuple[Any, ...] = ()) -> None:
        pass

    @staticmethod
    def rows(sql: str, params: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        return ZEROS

    def rollback(self) -> None:
        pass

    def refusal(self, error: BaseException, phase: int, within_ns: int | None = None) -> Refusal:
        # Nothing here can be refused: this is the scenario's own error.
        return Refusal(FAILED, NO_CONFLICT, str(error), True)

    def in_transaction(self) -> bool:
        return False

    def close(self) -> None:
        pass
