"""A state machine over several connections beside the model: step by step they must agree.

An engine may refuse what the model allows, which is counted (`--hypothesis-show-statistics` shows
it, and the report's matrix), and may never allow what the model forbids.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from hypothesis import Phase, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from properties.conformance.book import book
from properties.conformance.judge import how_many, model_for
from properties.conformance.known_deviations import left_out
from properties.conformance.model import Forbidden, Model
from properties.conformance.strategies import settings_drawn
from properties.conformance.targets import Runners, Target, refused_schema
from workloads.engines import Settings
from workloads.schedules import FAST, Schedule, ScheduleRunner, Schema, StepResult, pasted, timeline
from workloads.schedules.schedule import parse
from workloads.schedules.schedule_text import as_schedule
from workloads.schedules.steps import StepTaker

SESSIONS = 3
Answer = TypeVar("Answer")
SCHEMAS = {
    "lists": Schema("list", 3, 2, ("index", "trigger")),
    "registers-spread-over-pages": Schema("register", 4, 2, ("unique", "check", "spread"), 1024),
}

session = st.integers(0, SESSIONS - 1)
key = st.integers(0, 4)


class Sessions(RuleBasedStateMachine):
    """Statements, alone or in transactions, over a few connections."""

    taker: StepTaker
    runner: ScheduleRunner

    def __init__(self, runners: Runners, target: Target, schema: Schema) -> None:
        super().__init__()
        self.runners, self.target = runners, target
        modes = (target.mode,) * SESSIONS
        self.model = model_for(schema, target.promise, (target.engine,) * SESSIONS, modes)
        self.written = 0

    @initialize(drawn=settings_drawn())
    def open(self, drawn: Settings) -> None:
        if left_out([self.target], Schedule((), schema=self.model.schema, settings=drawn)):
            drawn = FAST  # a known deviation, with a test of its own
        modes = (self.target.mode,) * SESSIONS
        self.taken: tuple[object, ...] = (self.target, self.model.schema)

        def opened() -> ScheduleRunner:
            runner = self.runners.get(self.target.engine, modes, self.model.schema, drawn)
            self.taker = runner.step_taker()
            return runner

        self.runner = self.once(drawn, opened)

    def once(self, what: object, call: Callable[[], Answer]) -> Answer:
        """See Book.once: the same steps end in the same death."""
        self.taken = (*self.taken, what)
        return book().once(self.taken, call)

    def take(self, number: int, text: str) -> None:
        happened = self.once((number, text), lambda: self.runner.step(number, text))
        counted = len(self.model.refused)
        try:
            self.model.see(happened)
        except Forbidden as forbidden:
            raise self.failure(str(forbidden)) from None
        for refused in self.model.refused[counted:]:
            event(f"refused ({refused.kind}), {'needless' if refused.needless else 'needed'}")

    def failure(self, why: str) -> AssertionError:
        """All that an engine's developer needs, kept for a Ctrl-C too."""
        again = as_schedule(self.taker.events, self.runner.schema, self.runner.settings)
        text = (
            f"{self.target.engine} promises {self.target.promise}, but {why}\n"
            f"{timeline(self.taker.events, self.runner.modes)}\n{self.runner.identity}\n"
            f"@example({pasted(again)})"
        )
        book().found(text)
        return AssertionError(text)

    def value(self) -> int:
        self.written += 1
        return self.written

    # In one that can: left to chance, few transactions would begin, and hardly one commit.
    @precondition(lambda self: len(self.taker.open) < SESSIONS)
    @rule(pick=session)
    def begin(self, pick: int) -> None:
        idle = [number for number in range(SESSIONS) if number not in self.taker.open]
        self.take(idle[pick % len(idle)], "begin")

    @rule(number=session, k=key)
    def read(self, number: int, k: int) -> None:
        self.take(number, f"r {k}")

    @rule(number=session, part=st.sampled_from(["range 0 5", "range 3 5", "where 1"]))
    def read_some(self, number: int, part: str) -> None:
        self.take(number, part)

    @rule(number=session, k=key)
    def write(self, number: int, k: int) -> None:
        word = "append" if self.runner.schema.model == "list" else "w"
        self.take(number, f"{word} {k} {self.value()}")

    @rule(number=session, k=key, word=st.sampled_from(["put", "insert"]))
    def make(self, number: int, k: int, word: str) -> None:
        self.take(number, f"{word} {k} {self.value()}")

    @rule(number=session, k=key)
    def delete(self, number: int, k: int) -> None:
        self.take(number, f"delete {k}")

    @rule(number=session, word=st.sampled_from(["savepoint", "rollback_to"]))
    def savepoint(self, number: int, word: str) -> None:
        txn = self.taker.open.get(number)
        if txn is not None and (word == "savepoint" or txn.marks):
            self.take(number, f"{word} a")

    @precondition(lambda self: self.taker.open)
    @rule(pick=session, word=st.sampled_from(["commit", "commit", "commit", "rollback"]))
    def end(self, pick: int, word: str) -> None:
        inside = sorted(self.taker.open)
        self.take(inside[pick % len(inside)], word)

    @invariant()
    def the_engine_agrees_who_is_in_a_transaction(self) -> None:
        inside = self.once("in a transaction?", self.runner.in_transaction)
        if inside != [number in self.taker.open for number in range(SESSIONS)]:
            raise self.failure("it and the model differ in who is in a transaction")

    def teardown(self) -> None:
        if not hasattr(self, "runner") or self.runner.dead:
            return
        try:
            self.model.finish(self.once("the rows that are left", self.runner.end))
        except Forbidden as forbidden:
            raise self.failure(str(forbidden)) from None


def run(runners: Runners, target: Target, schema: Schema, **options: Any) -> None:
    run_state_machine_as_test(
        lambda: Sessions(runners, target, schema),  # type: ignore[arg-type]  # a factory does, too
        settings=settings(settings(), stateful_step_count=30, **options),
    )


@pytest.mark.parametrize("schema", SCHEMAS)
@pytest.mark.drawn
def test_sessions_do_what_the_model_allows(runners: Runners, target: Target, schema: str) -> None:
    if message := refused_schema(*target, SCHEMAS[schema]):
        pytest.skip(f"{target.engine}: {message}")
    # Fewer than a dozen may end before anything commits.
    run(runners, target, SCHEMAS[schema], max_examples=max(12, how_many(0.4)))


@pytest.mark.parametrize("saved", ["before", "after", "never"])
@pytest.mark.parametrize("saw", [(0, 1, 2), (1, 2)], ids=["the rows before", "the rows after"])
def test_only_a_savepoint_takes_a_snapshot_before_the_first_read(
    saved: str, saw: tuple[int, ...]
) -> None:
    """Saved before another commits, a session may see the rows before it; else those after."""
    model = Model(Schema("list", 3, 0), "serializable", [False, False])
    steps = [(0, 0, "begin"), (1, 1, "delete 0"), (0, 0, "range 0 5")]
    if saved != "never":
        steps.insert(1 if saved == "before" else 2, (0, 0, "savepoint a"))
    seen = tuple((k, ()) for k in saw)
    *others, last = [
        StepResult(at, session, txn, parse(text), "ok", seen if text == "range 0 5" else None)
        for at, (session, txn, text) in enumerate(steps)
    ]
    for happened in others:
        model.see(happened)
    if saved == "before" or 0 not in saw:
        model.see(last)
        return
    with pytest.raises(Forbidden, match="could only be"):
        model.see(last)


# A lost update takes many steps that are drawn in vain: another broken engine stands for it.
@pytest.mark.parametrize(
    "engine", ["faulty-torn-read", pytest.param("faulty-lost-update", marks=pytest.mark.slow)]
)
def test_the_state_machine_catches_a_broken_engine(runners: Runners, engine: str) -> None:
    target = Target(engine, "deferred")
    with pytest.raises((AssertionError, ExceptionGroup)):
        # Found, not shrunk: that takes a hundred times as long and shows nothing more here.
        run(
            runners,
            target,
            SCHEMAS["lists"],
            max_examples=2000,
            phases=[Phase.generate],
            report_multiple_bugs=False,
        )
