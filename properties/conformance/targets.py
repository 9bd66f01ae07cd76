"""Which engines and BEGIN modes the property tests run on, and the runners they run on.

pytest properties --engine turso,path.py:Mine --begin concurrent
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from properties.conformance.book import asked_once, book
from workloads.engines import Identity, Settings, find_engine, modes_of
from workloads.schedules import (
    FAST,
    EngineDied,
    Schedule,
    ScheduleRun,
    ScheduleRunner,
    Schema,
    SessionError,
)

DEFAULT_ENGINES = ("libsql", "sqlite", "sqlite-concurrent", "turso")
KEPT = 8
"""Runners that stay open: each is a database and a few connections, or processes."""


class Target(NamedTuple):
    """An engine in a BEGIN mode, as a test's parameter."""

    engine: str
    mode: str

    @property
    def promise(self) -> str:
        return find_engine(self.engine).promises[self.mode].level

    def __str__(self) -> str:
        return f"{self.engine.rpartition('/')[2]}-{self.mode}"


def targets(engines: tuple[str, ...] = DEFAULT_ENGINES, begin: str = "") -> list[Target]:
    """Every engine in every mode that it promises something for, or in the one mode.

    In the order of the registry and of their modes, so that every xdist worker collects the same.
    Raises UnknownName for an engine, ValueError for a mode that none of them has.
    """
    known = {name: modes_of(find_engine(name)) for name in engines}
    every = list(dict.fromkeys(mode for modes in known.values() for mode in modes))
    if begin and begin not in every:
        raise ValueError(f"There is no mode {begin!r}. Modes: {', '.join(every)}.")
    return [
        Target(name, mode)
        for name, modes in known.items()
        for mode in modes
        if mode in find_engine(name).promises and begin in ("", mode)
    ]


def refused_schema(engine: str, mode: str, schema: Schema) -> str:
    """The engine's own words where it refuses a feature of the schema, else nothing.

    SQLite's family has them all: there an error is something else, and raised. So it is where an
    engine refuses the schema without the feature as well, or cannot be opened at all.
    """
    asked = (_refused(engine, mode, schema.model, feature) for feature in schema.features)
    return next((message for message in asked if message), "")


@asked_once
def _refused(engine: str, mode: str, model: str, feature: str) -> str:
    ScheduleRunner(engine, (mode,), Schema(model)).close()
    try:
        ScheduleRunner(engine, (mode,), Schema(model, features=(feature,))).close()
    except SessionError as error:
        if find_engine(engine).file_format == "sqlite":
            raise
        return error.message
    return ""


@asked_once
def identity(engine: str, mode: str) -> Identity:
    """An engine's own statement of its library and version, asked in a process of its own."""
    with ScheduleRunner(engine, (mode,)) as runner:
        return runner.identity


class Runners:
    """Runners by what they are set for, opened when first wanted, the least used closed again."""

    def __init__(self) -> None:
        self._open: OrderedDict[tuple[object, ...], ScheduleRunner] = OrderedDict()

    def get(
        self,
        engine: str | tuple[str, ...],
        modes: tuple[str, ...],
        schema: Schema,
        settings: Settings = FAST,
        *,
        processes: bool = False,
    ) -> ScheduleRunner:
        key = (engine, modes, schema, settings, processes)
        if key not in self._open:
            while len(self._open) >= KEPT:
                self._open.popitem(last=False)[1].close()
            self._open[key] = ScheduleRunner(engine, modes, schema, settings, processes=processes)
        self._open.move_to_end(key)
        return self._open[key]

    def run(
        self,
        engine: str | tuple[str, ...],
        modes: tuple[str, ...],
        schedule: Schedule,
        *,
        processes: bool = False,
    ) -> ScheduleRun:
        """Run a schedule on the runner for it. Raises EngineDied, as `Book.once` does."""

        def run() -> ScheduleRun:
            runner = self.get(
                engine, modes, schedule.schema, schedule.settings, processes=processes
            )
            return runner.run(schedule)

        return book().once((engine, modes, schedule, processes), run)

    def close(self) -> None:
        """Close them all, whatever happens to one. Raises EngineDied of the last that died so."""
        died = None
        while self._open:
            try:
                self._open.popitem()[1].close()
            except EngineDied as error:
                died = error
        if died is not None:
            raise died
