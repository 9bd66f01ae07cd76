"""The model keeps each transaction's runs and goes on with them; from the start it is the same.

Schedules are played on a real engine, and their events are told to both, as they are and damaged:
answers, outcomes and whole steps that the engine never gave.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from properties.conformance.model import Forbidden, Member, Model, Run, replay
from tools.bench.bench_schedules import drawn
from workloads.schedules import READS, ScheduleRunner, Schema, StepResult

LEVELS = ("snapshot-isolation", "serializable", "strict-serializable")


class FromTheStart(Model):
    """Every run is made anew, from the transaction's first step."""

    def _run(self, member: Member, snapshot: int) -> Run | None:
        return replay(self.schema, self.versions[snapshot], member.steps)


class KeepsWhatWasTakenBack(Model):
    def _take_back(self, member: Member) -> None:
        member.steps.pop()


class GoesOnAnywhere(Model):
    """Takes the run on one snapshot for that on another."""

    def _run(self, member: Member, snapshot: int) -> Run | None:
        if member.runs and snapshot not in member.runs:
            member.runs[snapshot] = next(iter(member.runs.values()))
        return super()._run(member, snapshot)


class SkipsAStep(Model):
    def _run(self, member: Member, snapshot: int) -> Run | None:
        done, run = member.runs.get(snapshot, (0, None))
        if done == 2 < len(member.steps):
            member.runs[snapshot] = done + 1, run
        return super()._run(member, snapshot)


def told(kind: type[Model], level: str, known: bool | None, events: list[StepResult]) -> Any:
    """Everything that a model says of events: what it forbids, its versions, its transactions."""
    model, forbidden = kind(Schema(), level, (known,) * 3), ""
    try:
        for event in events:
            model.see(event)
    except Forbidden as error:
        forbidden = str(error)
    committed = [(m.number, m.version, m.snapshot, m.written, m.effects) for m in model.committed]
    still_open = [(session, model._written(m)) for session, m in sorted(model.open.items())]
    return forbidden, model.versions, model.refused, committed, still_open


def damaged(rng: random.Random, events: list[StepResult]) -> list[StepResult]:
    """One step of the events becomes another, or is not there."""
    at = rng.randrange(len(events))
    event = events[at]
    if event.op.name in READS and event.status == "ok":
        others = [e.value for e in events if e.op.name == event.op.name and e.value != event.value]
        return [*events[:at], event._replace(value=rng.choice([(), *others])), *events[at + 1 :]]
    if event.op.name in ("begin", "commit", "rollback"):
        return events
    if rng.random() < 0.5:
        return [*events[:at], event._replace(status="failed"), *events[at + 1 :]]
    return events[:at] + events[at + 1 :]


@pytest.fixture(scope="module")
def streams() -> list[list[StepResult]]:
    """The events of 200 schedules on SQLite."""
    with ScheduleRunner("sqlite", ("deferred",) * 3, Schema()) as runner:
        return [runner.run(schedule).events for schedule in drawn(200)]


def differences(kind: type[Model], streams: list[list[StepResult]], seed: int) -> Iterator[str]:
    """What a kind of model says differently from one that runs everything from the start."""
    rng = random.Random(seed)
    for events in streams:
        for number in range(8):
            some = damaged(rng, events) if number else events
            given = rng.choice(LEVELS), rng.choice((None, True, False))
            expected, found = told(FromTheStart, *given, some), told(kind, *given, some)
            if expected != found:
                yield "\n".join([str(given), *map(str, some), str(expected), str(found)])


def test_a_run_that_goes_on_is_the_one_from_the_start(
    streams: list[list[StepResult]], seed: int
) -> None:
    for difference in differences(Model, streams, seed):
        pytest.fail(difference)
    texts = {told(Model, "serializable", None, damaged(random.Random(n), s))[0][:1]
             for n, s in enumerate(streams)}  # fmt: skip
    assert len(texts) > 1, "nothing was forbidden, or everything"


@pytest.mark.parametrize("wrong", [KeepsWhatWasTakenBack, GoesOnAnywhere, SkipsAStep])
def test_a_run_that_goes_on_wrongly_is_caught(
    wrong: type[Model], streams: list[list[StepResult]], seed: int
) -> None:
    assert next(differences(wrong, streams, seed), "")
