"""A state machine over several connections beside the model: step by step they must agree.

An engine may refuse what the model allows, which is counted (`--hypothesis-show-statistics` shows
it, and the report's matrix), and may never allow what the model forbids.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import Phase, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from properties.judging import how_many, pasted_settings, snapshot_at_begin, timeline
from properties.known import left_out
from properties.model import Forbidden, Model
from properties.strategies import settings_drawn
from properties.targets import Stages, Target, refused_schema
from workloads.engines import Settings
from workloads.interleave import Stage
from workloads.player import Event, Player
from workloads.schedule import FAST, Schedule, Schema, parse
from workloads.watchdog import watched

SESSIONS = 3
SCHEMAS = {
    "lists": Schema("list", 3, 2, ("index", "trigger")),
    "registers-spread-over-pages": Schema("register", 4, 2, ("unique", "check", "spread"), 1024),
}

session = st.integers(0, SESSIONS - 1)
key = st.integers(0, 4)


class Sessions(RuleBasedStateMachine):
    """Statements, alone or in transactions, over a few connections."""

    player: Player
    stage: Stage

    def __init__(self, stages: Stages, target: Target, schema: Schema) -> None:
        super().__init__()
        self.stages, self.target = stages, target
        at_begin = [snapshot_at_begin(target.engine, target.mode)] * SESSIONS
        self.model = Model(schema, target.promise, at_begin)
        self.written = 0

    @initialize(drawn=settings_drawn())
    def open(self, drawn: Settings) -> None:
        if left_out([self.target], Schedule((), schema=self.model.schema, settings=drawn)):
            drawn = FAST  # a known deviation, with a test of its own
        modes = (self.target.mode,) * SESSIONS
        self.stage = self.stages.get(self.target.engine, modes, self.model.schema, drawn)
        self.player = self.stage.player()

    def take(self, number: int, text: str) -> None:
        with watched(f"{self.told('this is the last step')}\nsession {number}: {text}"):
            happened = self.player.step(number, parse(text))
        counted = len(self.model.refused)
        try:
            self.model.see(happened)
        except Forbidden as forbidden:
            raise AssertionError(self.told(str(forbidden))) from None
        for refused in self.model.refused[counted:]:
            event(f"refused ({refused.kind}), {'needless' if refused.needless else 'needed'}")

    def told(self, why: str) -> str:
        return (
            f"{self.target.engine} promises {self.target.promise}, but {why}\n"
            f"{timeline(self.player.events, self.stage.modes)}\n{self.stage.identity}\n"
            f"{pasted_settings(self.stage.settings)}"
        )

    def value(self) -> int:
        self.written += 1
        return self.written

    @rule(number=session)
    def begin(self, number: int) -> None:
        if number not in self.player.open:
            self.take(number, "begin")

    @rule(number=session, k=key)
    def read(self, number: int, k: int) -> None:
        self.take(number, f"r {k}")

    @rule(number=session, part=st.sampled_from(["range 0 5", "range 3 5", "where 1"]))
    def read_some(self, number: int, part: str) -> None:
        self.take(number, part)

    @rule(number=session, k=key)
    def write(self, number: int, k: int) -> None:
        word = "append" if self.stage.schema.model == "list" else "w"
        self.take(number, f"{word} {k} {self.value()}")

    @rule(number=session, k=key, word=st.sampled_from(["put", "insert"]))
    def make(self, number: int, k: int, word: str) -> None:
        self.take(number, f"{word} {k} {self.value()}")

    @rule(number=session, k=key)
    def delete(self, number: int, k: int) -> None:
        self.take(number, f"delete {k}")

    @rule(number=session, word=st.sampled_from(["savepoint", "rollback_to"]))
    def savepoint(self, number: int, word: str) -> None:
        txn = self.player.open.get(number)
        if txn is not None and (word == "savepoint" or txn.marks):
            self.take(number, f"{word} a")

    @rule(number=session, word=st.sampled_from(["commit", "commit", "commit", "rollback"]))
    def end(self, number: int, word: str) -> None:
        if number in self.player.open:
            self.take(number, word)

    @invariant()
    def the_engine_agrees_who_is_in_a_transaction(self) -> None:
        for number, handle in enumerate(self.player.sessions):
            assert handle.in_transaction() == (number in self.player.open), self.told("it differs")

    def teardown(self) -> None:
        self.player.give_up()
        rows = self.player.sessions[0].rows("SELECT id, value FROM item WHERE id >= 0")
        try:
            self.model.finish({k: self.stage.schema.value(v) for k, v in rows})
        except Forbidden as forbidden:
            raise AssertionError(self.told(str(forbidden))) from None


def run(stages: Stages, target: Target, schema: Schema, **options: Any) -> None:
    run_state_machine_as_test(
        lambda: Sessions(stages, target, schema),  # type: ignore[arg-type]  # a factory does, too
        settings=settings(settings(), stateful_step_count=30, **options),
    )


@pytest.mark.parametrize("schema", SCHEMAS)
def test_sessions_do_what_the_model_allows(stages: Stages, target: Target, schema: str) -> None:
    if words := refused_schema(*target, SCHEMAS[schema]):
        pytest.skip(f"{target.engine}: {words}")
    run(stages, target, SCHEMAS[schema], max_examples=how_many(0.4))


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
        Event(at, session, txn, parse(text), "ok", seen if text == "range 0 5" else None)
        for at, (session, txn, text) in enumerate(steps)
    ]
    for happened in others:
        model.see(happened)
    if saved == "before" or 0 not in saw:
        model.see(last)
        return
    with pytest.raises(Forbidden, match="could only be"):
        model.see(last)


@pytest.mark.parametrize("engine", ["faulty-torn-read", "faulty-lost-update"])
def test_the_state_machine_catches_a_broken_engine(stages: Stages, engine: str) -> None:
    target = Target(engine, "deferred")
    with pytest.raises((AssertionError, ExceptionGroup)):
        # Found, not shrunk: that takes a hundred times as long and shows nothing more here.
        run(
            stages,
            target,
            SCHEMAS["lists"],
            max_examples=200,
            phases=[Phase.generate],
            report_multiple_bugs=False,
        )
