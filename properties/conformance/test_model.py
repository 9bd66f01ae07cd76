"""The model keeps each transaction's runs and goes on with them; from the start it is the same.

Schedules are played on a real engine, and their events are told to both, as they are and damaged:
answers, outcomes and whole steps that the engine never gave.
"""

from __future__ import annotations

import ast
import random
import re
from collections.abc import Iterator
from typing import Any

import pytest

from properties.conformance.model import Forbidden, Member, Model, Run, StatementModel, replay
from tools.bench.bench_schedules import drawn
from workloads.schedules import READS, ScheduleRunner, Schema, StepResult
from workloads.schedules.schedule import parse

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


# --- statements on what is committed ----------------------------------------------------------


def follow(*steps: str, aborts: bool = False, schema: Schema | None = None) -> StatementModel:
    """A model that has been told steps: "0 r 1 -> (5,)" or "1 w 0 5 ! failed"; session first."""
    model = StatementModel(schema or Schema("list", 2, 1), (aborts,) * 3)
    for at, text in enumerate(steps):
        said, _, value = text.partition(" -> ")
        said, _, status = said.partition(" ! ")
        session, op = said.split(" ", 1)
        answer = ast.literal_eval(value) if value else None
        model.see(StepResult(at, int(session), 0, parse(op), status or "ok", answer, "no", "busy"))
    return model


OTHERS_COMMIT = ("0 begin", "0 r 0 -> ()", "1 begin", "1 append 0 1", "1 commit")


def test_a_statement_sees_what_was_committed_when_it_began() -> None:
    model = follow(*OTHERS_COMMIT, "0 r 0 -> (1,)", "0 append 0 2", "0 r 0 -> (1, 2)", "0 commit")
    model.finish({0: (1, 2), 1: ()})


def test_a_lost_update_is_allowed_and_its_own_row_is_seen_as_it_left_it() -> None:
    model = follow(*OTHERS_COMMIT, "0 append 0 2", "0 rollback", "2 r 0 -> (1,)")
    model.finish({0: (1,), 1: ()})


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        ((*OTHERS_COMMIT, "0 r 0 -> ()"), "could only be: (1,)"),
        (("0 begin", "0 append 0 1", "1 r 0 -> (1,)"), "could only be: ()"),
        (("0 begin", "0 append 0 1", "0 r 0 -> ()"), "could only be: (1,)"),
        (("0 begin", "0 append 0 1", "1 begin", "1 append 0 2"), "a dirty write"),
        (("0 begin", "0 append 0 1 ! failed"), "no row says why"),
        (("0 begin", "0 append 0 1", "0 commit ! ended"), "no row says why"),
        (("0 begin", "0 insert 0 1"), "could only fail"),
        (("0 begin", "0 append 0 1", "0 commit ! unknown"), "nobody can know"),
    ],
)
def test_what_read_committed_forbids_is_forbidden(steps: tuple[str, ...], why: str) -> None:
    with pytest.raises(Forbidden, match=re.escape(why)):
        follow(*steps)


def test_an_effect_that_was_lost_is_seen_at_the_end() -> None:
    model = follow("0 begin", "0 append 0 1", "0 commit")
    with pytest.raises(Forbidden, match="an effect was lost"):
        model.finish({0: (), 1: ()})


def test_after_a_failed_statement_all_fail_where_the_engine_says_so_and_nowhere_else() -> None:
    failed = ("0 begin", "0 savepoint a", "0 insert 0 1 ! failed", "0 append 0 1 ! failed")
    follow(*failed, "0 commit ! ended", aborts=True)
    follow(*failed, "0 rollback_to a", "0 append 0 2", "0 commit", aborts=True)
    with pytest.raises(Forbidden, match="`append 0 1`"):
        follow(*failed)


def test_a_refusal_is_needless_where_nobody_holds_the_row() -> None:
    held = follow("0 begin", "0 append 0 1", "1 append 0 2 ! conflict")
    free = follow("0 begin", "0 append 0 1", "1 append 1 2 ! conflict")
    assert [one.needless for one in (*held.refused, *free.refused)] == [False, True]
