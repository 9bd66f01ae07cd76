"""The isolation matrix: every engine and mode against every anomaly, as data for the report.

    rows = isolation_matrix(["libsql", "turso"], examples=300)
    rows[0]["anomalies"]["G2-item"]["result"]     # "prevented", "possible" or "not decided"

A fixed schedule shows an anomaly or what prevents it; drawn ones look for what nobody wrote down.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings

from properties.checker import FORBIDS, GUARANTEES
from properties.conformance.classics import CLASSICS, Found, how
from properties.conformance.judge import complaint, judge, promised, run_schedule
from properties.conformance.known_deviations import known_findings
from properties.conformance.strategies import schedules
from properties.conformance.targets import DEFAULT_ENGINES
from workloads.engines import find_engine, modes_of
from workloads.schedules import (
    EngineDied,
    Schedule,
    ScheduleRun,
    ScheduleRunner,
    Schema,
    SessionError,
    pasted,
)

SESSIONS = 3
__all__ = ["isolation_matrix", "known_findings"]

Progress = Callable[[str], None]

SCHEMAS = (Schema("list"), Schema("list", 3, 2, ("index", "spread"), 1024))
"""Drawn schedules run on rows that share a page and on rows that have one each: it matters to an
engine that decides by page."""


def isolation_matrix(
    engines: Iterable[str] = DEFAULT_ENGINES,
    modes: Iterable[str] = (),
    *,
    examples: int = 200,
    progress: Progress = lambda text: None,
) -> list[dict[str, Any]]:
    """One row for each engine and mode, JSON-able, in the order given.

    modes : those to try, of an engine that has them; all of each engine's where none is named.
    examples : schedules drawn for each, always the same ones. A row has
        engine, mode, identity {binding, version, source_id}, accepted, words (the engine's own
        where it refuses the mode or is missing);
        promised {level, source}, observed (the strongest level that no schedule violated),
        observed_violated (levels that some did);
        anomalies {name: {result, how, step, words, story, source, forbidden, schedule}}, where
        result is "prevented" (how: blocked, refused, snapshot), "possible" or "not decided", and
        schedule is what shows it, as it is written in a test;
        schedules (died: in how many of them the engine took its process down), transactions
        {outcome: count}, refusals {kind: {refused, needless}},
        others (names of anomalies that drawn schedules showed, with how many did), and
        deviations (what contradicts the promise, in full).
    """
    asked = tuple(modes)
    return [
        _row(name, mode, examples, progress)
        for name in engines
        for mode in modes_of(find_engine(name))
        if not asked or mode in asked
    ]


def _row(name: str, mode: str, examples: int, progress: Progress) -> dict[str, Any]:
    engine = find_engine(name)
    row: dict[str, Any] = {"engine": name, "mode": mode, "accepted": False, "words": ""}
    if why := engine.missing():
        return row | {"words": why, "identity": None}
    row["identity"] = dict(engine.identity()._asdict())
    row["identity"].pop("options")
    if (message := _refused(name, mode)) is not None:
        return row | {"words": message}
    row["accepted"] = True
    promise = engine.promises.get(mode)
    row["promised"] = dict(promise._asdict()) if promise else None
    level = promised(engine, mode) if promise else "read-uncommitted"
    tally = _Tally(level)
    progress(f"{name}, {mode}: {len(CLASSICS)} schedules of the literature")
    row["anomalies"] = {key: _classic(name, mode, key, tally) for key in CLASSICS}
    progress(f"{name}, {mode}: {examples} drawn schedules")
    for schema in SCHEMAS:
        _draw(name, mode, schema, examples // len(SCHEMAS), tally)
    return row | tally.as_row()


def _refused(name: str, mode: str) -> str | None:
    """The engine's own words where it does not begin in this mode."""
    try:
        run = run_schedule(name, mode, Schedule(("begin; commit",)))
    except SessionError as error:
        return error.message
    except EngineDied as died:
        return died.first
    first = run.events[0]
    return None if first.status == "ok" else first.message


def _classic(name: str, mode: str, key: str, tally: _Tally) -> dict[str, Any]:
    classic = CLASSICS[key]
    found = Found("died")
    try:
        run = run_schedule(name, mode, classic.schedule)
        tally.add(run)
        found = how(classic, run)
    except EngineDied as died:
        tally.add_death(died)
    forbidden = bool(set(classic.names) & FORBIDS[tally.level])
    result = {"seen": "possible"}.get(found.result, "prevented" if found.step else "not decided")
    return {
        "result": result,
        "how": "" if found.result == "seen" else found.result,
        "step": found.step,
        "words": found.message,
        "story": classic.story,
        "source": classic.source,
        "forbidden": forbidden,
        "schedule": pasted(classic.schedule),
    }


def _draw(name: str, mode: str, schema: Schema, examples: int, tally: _Tally) -> None:
    with ScheduleRunner(name, (mode,) * SESSIONS, schema) as runner:

        @settings(
            max_examples=max(examples, 1),
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(schedules(schema))
        def look(schedule: Schedule) -> None:
            try:
                tally.add(runner.run(schedule))
            except EngineDied as died:
                tally.add_death(died)

        look()


class _Tally:
    """Counts over the schedules of one row."""

    def __init__(self, level: str) -> None:
        self.level = level
        self.schedules = self.died = 0
        self.outcomes: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.needless: Counter[str] = Counter()
        self.names: Counter[str] = Counter()
        self.violated: set[str] = set()
        self.deviations: list[str] = []

    def add(self, run: ScheduleRun) -> None:
        judged = judge(run, self.level)
        self.schedules += 1
        self.outcomes.update(txn.outcome for txn in run.txns)
        for refused in judged.refused:
            self.refused[refused.kind] += 1
            self.needless[refused.kind] += refused.needless
        self.names.update(judged.anomalies)
        if judged.verdict is not None:
            levels = judged.verdict.levels.items()
            self.violated |= {level for level, kept in levels if kept is False}
        if judged.wrong and len(self.deviations) < 3:
            self.deviations.append(complaint(judged))

    def add_death(self, died: EngineDied) -> None:
        self.schedules += 1
        self.died += 1
        if len(self.deviations) < 3:
            self.deviations.append(str(died))

    def as_row(self) -> dict[str, Any]:
        judged = self.schedules > self.died
        # A session guarantee is no isolation level, and nothing that is isolated follows from it.
        isolating = [level for level in FORBIDS if level not in GUARANTEES]
        kept = [level for level in isolating if judged and level not in self.violated]
        return {
            "observed": max(kept, key=lambda level: len(FORBIDS[level])) if kept else None,
            "observed_violated": sorted(self.violated),
            "schedules": self.schedules,
            "died": self.died,
            "transactions": dict(sorted(self.outcomes.items())),
            "refusals": {
                kind: {"refused": self.refused[kind], "needless": self.needless[kind]}
                for kind in sorted(self.refused)
            },
            "others": dict(sorted(self.names.items())),
            "deviations": self.deviations,
        }
