"""Judge a schedule that was run, and say what is wrong with it so that somebody can act on it.

There are two judges that share nothing: the checker reads the history, the model replays the
events. At least one of them judges every schedule, or `judge` raises ValueError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import settings as hypothesis_settings

from properties.checker import FORBIDS, Verdict, check, explain
from properties.conformance.book import asked_once
from properties.conformance.model import Forbidden, Model, Refused, StatementModel
from workloads.engines import Engine, find_engine
from workloads.records import History
from workloads.schedules import (
    Schedule,
    ScheduleRun,
    ScheduleRunner,
    Schema,
    pasted,
    stderr_text,
    timeline,
)

LOCKED_AT_BEGIN = {"immediate", "exclusive"}
"""Modes in which the model judges two attached files too.

The model has one snapshot for a transaction. Two files have two, each taken when its file is first
read, and a serializable engine may take them at two moments as long as nobody can tell: a model
with a snapshot a file would have to allow read skew, which is what nobody may see. Where BEGIN
locks every file nobody commits between the two, and they are one. Elsewhere the checker judges,
which asks only what was seen, and each file alone too (`ScheduleRun.history(keys)`).
"""


@dataclass
class Judged:
    """Both judges' answers about a schedule. `wrong` is empty where the level was kept.

    verdict : the checker's, None where the schedule deletes rows. refused : by the model's count.
    """

    run: ScheduleRun
    level: str
    verdict: Verdict | None
    wrong: list[str]
    refused: list[Refused]

    @property
    def anomalies(self) -> list[str]:
        """Names of every anomaly that was seen, forbidden at this level or not."""
        return list(self.verdict.anomalies) if self.verdict else []


def judge(run: ScheduleRun, level: str, checker: Callable[[History], Verdict] = check) -> Judged:
    """Both judges on one schedule, at a level of Elle's names.

    checker : the function that judges the history; a benchmark gives another one.
    Raises ValueError for a schedule that neither of them judges.
    """
    schedule = run.schedule
    two_snapshots = "attached" in schedule.schema.features and not (
        set(run.modes) <= LOCKED_AT_BEGIN
    )
    if two_snapshots and not schedule.checkable:
        # The checker has no deleted rows, and the model has no second snapshot: the schedule would
        # pass whatever the engine did.
        raise ValueError(
            "nobody judges a schedule that deletes rows in attached files: the checker knows no "
            "deleted rows, and the model judges attached files only where every session begins "
            f"{' or '.join(sorted(LOCKED_AT_BEGIN))}, not {', '.join(run.modes)}. Leave out "
            f'the deletes or the feature "attached": {pasted(schedule)}'
        )
    wrong: list[str] = []
    verdict = None
    if schedule.checkable:
        verdict = checker(run.history())
        names = [name for name in verdict.anomalies if name in FORBIDS[level]]
        if names or verdict.levels[level] is False:
            wrong.append(
                f"the checker found {', '.join(names) or 'a cycle'}, which {level} forbids"
            )
    model = model_of(run, level)
    if two_snapshots:
        return Judged(run, level, verdict, wrong, model.refused)
    try:
        for event in run.events:
            model.see(event)
        model.finish(run.final)
    except Forbidden as forbidden:
        wrong.append(f"the model of {level} forbids it: {forbidden}")
    return Judged(run, level, verdict, wrong, model.refused)


def model_of(run: ScheduleRun, level: str) -> Model | StatementModel:
    """The model as the engines of a schedule keep it."""
    return model_for(run.schedule.schema, level, run.engines, run.modes)


def model_for(
    schema: Schema, level: str, engines: Sequence[str], modes: Sequence[str]
) -> Model | StatementModel:
    """A model of these sessions: of snapshots, or of statements where less is promised."""
    aborts = [bool(getattr(find_engine(name), "aborts", False)) for name in engines]
    if not FORBIDS["snapshot-isolation"] <= FORBIDS[level]:
        return StatementModel(schema, aborts)
    at_begin = [snapshot_at_begin(*of) for of in zip(engines, modes, strict=True)]
    return Model(schema, level, at_begin, aborts)


@asked_once
def snapshot_at_begin(engine: str, mode: str) -> bool | None:
    """Whether a snapshot is taken at BEGIN or at the first read: asked, by trying it.

    None where it cannot be told, as with a BEGIN that lets nobody write before the first read.
    """
    asked = run_schedule(engine, mode, Schedule(("begin; r 0; commit", "append 0 1"), "0100"))
    written = [txn.outcome for txn in asked.txns if txn.session == 1] == ["committed"]
    return asked.seen(0) == [()] if written else None


def promised(engine: Engine, mode: str) -> str:
    """The level that an engine's makers promise for a mode."""
    return engine.promises[mode].level


def insist(run: ScheduleRun, level: str | None = None) -> Judged:
    """Raise AssertionError, with everything an engine's developer needs, unless the level is kept.

    level : None for the weakest of what the sessions' modes promise.
    """
    if level is None:
        modes = zip(run.engines, run.modes, strict=True)
        level = weakest(promised(find_engine(name), mode) for name, mode in modes)
    judged = judge(run, level)
    if judged.wrong:
        raise AssertionError(complaint(judged))
    return judged


def weakest(levels: Iterable[str]) -> str:
    """The level that forbids least: what several sessions of different promises keep together."""
    return min(levels, key=lambda level: len(FORBIDS[level]))


def complaint(judged: Judged) -> str:
    """The failure as text: reasons, timeline, explanation, engine, and a line to paste."""
    run = judged.run
    identity = run.identity
    parts = [
        f"{' and '.join(dict.fromkeys(run.engines))} promises {judged.level}, but:",
        *(f"  - {sentence}" for sentence in judged.wrong),
        "",
        timeline(run.events, run.modes),
        "",
        *explained(judged),
        f"engine: {identity.binding}, {identity.version} {identity.source_id}".rstrip(),
        f"modes: {', '.join(run.modes)}; rows at the end: {run.final}",
        *(stderr_text(run.stderr) if run.stderr else []),
        f"@example({pasted(run.schedule)})",
    ]
    return "\n".join(parts)


def explained(judged: Judged) -> list[str]:
    """The first forbidden anomaly, explained."""
    if judged.verdict is None:
        return []
    for name, witnesses in judged.verdict.anomalies.items():
        if name in FORBIDS[judged.level]:
            return [explain(judged.verdict.history, witnesses[0]), ""]
    return []


QUICK = 30
"""Examples of the profile that every change is tested with, and at most of a quick one."""


def how_many(share: float, *, quick: float | None = None) -> int:
    """Examples for a test that costs more, as a share of what the profile gives each.

    quick : the share in a quick profile, where fewer show every engine that is broken on purpose.
    """
    most = hypothesis_settings().max_examples
    return max(5, int(most * (share if quick is None or most > QUICK else quick)))


def run_schedule(engine: str, mode: str, schedule: Schedule, **options: Any) -> ScheduleRun:
    """Run one schedule on a runner of its own: for a fixed schedule, or at a prompt."""
    modes = (mode,) * len(schedule.programs)
    with ScheduleRunner(engine, modes, schedule.schema, schedule.settings, **options) as runner:
        return runner.run(schedule)
