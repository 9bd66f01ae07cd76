"""Every engine that is broken on purpose is caught, and by the name of what it does.

Searched for, not shown: Hypothesis finds the schedule by itself and shrinks it.
"""

from __future__ import annotations

import pytest
from hypothesis import Phase, find, settings
from hypothesis.errors import NoSuchExample

from properties.checker import GUARANTEES
from properties.conformance.judge import judge, run_schedule
from properties.conformance.strategies import schedules
from workloads.engines import REGISTRY
from workloads.files import ROOT
from workloads.schedules import Schedule, ScheduleRunner, Schema

# Engine -> the names that it must be caught with.
CAUGHT = {
    "faulty-torn-read": ("G0", "G1a", "G1b", "G1c", "fractured-read"),
    "faulty-lost-update": ("lost-update", "G-single", "G2-item", "G2"),
    "faulty-silent-conflict": ("lost-update", "G2-item"),
    "faulty-aborted-read": ("G1a",),
    "faulty-stale-read": ("G-single-realtime",),
    "faulty-blind-to-itself": ("internal",),
    "faulty-double-write": ("duplicate-elements",),
    "faulty-write-skew": ("G2-item",),
}
# Engine -> programs that show, one after the other, the one session guarantee that it breaks.
READER = "begin; r 1; r 0; commit"
WITHOUT = {
    "faulty-replica": ("read-your-writes", ("begin; append 0 1; commit; begin; r 0; commit",)),
    "faulty-replica-moves": (
        "monotonic-reads",
        ("begin; append 0 1; commit", "begin; r 1; commit; begin; r 0; commit; begin; r 0; commit"),
    ),
    "faulty-replica-torn": (
        "monotonic-writes",
        ("begin; append 0 1; commit; begin; append 1 2; commit", READER),
    ),
}
ELSEWHERE = {
    "faulty-early-ack": "properties/crashes/test_crashes.py",
    "faulty-forgets": "properties/crashes/test_crashes.py",
    "faulty-refuses-and-keeps": "workloads/runs/test_fault_effects.py",
    "faulty-keeps-its-lock": "workloads/runs/test_fault_effects.py",
    **dict.fromkeys(
        (
            "faulty-never-locks",
            "faulty-trusts-its-log",
            "faulty-dies-of-damage",
            "faulty-throws-its-log-away",
        ),
        "properties/faults/test_faults.py",
    ),
    "faulty-leaks-memory": "properties/soaks/test_soaks.py",
    "faulty-leaks-descriptors": "properties/soaks/test_soaks.py",
}
"""Engine -> the test that catches it: in short runs without crash or fault it is sound."""

FOLLOWS = ("begin; append 0 1; commit", "begin; r 0; append 1 2; commit", READER)
CASES = [(engine, name) for engine, names in CAUGHT.items() for name in names]
SLOW = {("faulty-lost-update", "G2")}
"""Drawn in vain a thousand times: the engine is caught by three other names, G2-item among them."""


def searched(engine: str, mode: str, name: str, *, shrink: bool = False) -> Schedule:
    """A schedule in which the engine shows an anomaly of this name."""
    program = schedules(Schema("list", 2, 2), sessions=(2, 3), operations=3, patient=False)
    with ScheduleRunner(engine, (mode,) * 3, Schema("list", 2, 2)) as runner:
        return find(
            program,
            lambda schedule: name in judge(runner.run(schedule), "serializable").anomalies,
            settings=settings(
                max_examples=2000,
                derandomize=True,
                database=None,
                # The shrunk schedule is tested once, below: shrinking takes most of the time.
                phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
            ),
        )


@pytest.mark.parametrize(
    ("engine", "name"),
    [pytest.param(*case, marks=[pytest.mark.slow] * (case in SLOW)) for case in CASES],
)
def test_a_broken_engine_is_caught_by_name(engine: str, name: str) -> None:
    mode = "concurrent" if engine == "faulty-write-skew" else "deferred"
    try:
        searched(engine, mode, name)
    except NoSuchExample:
        pytest.fail(f"no schedule of 2,000 showed {name} on {engine}")


def test_a_counterexample_is_shrunk_to_its_steps() -> None:
    schedule = searched("faulty-lost-update", "deferred", "lost-update", shrink=True)
    assert len(schedule.programs) == 2
    assert sum(len(steps) for steps in schedule.steps()) <= 10, schedule


def test_every_broken_engine_of_the_registry_is_among_them() -> None:
    assert {name for name in REGISTRY if name.startswith("faulty-")} == {
        *CAUGHT,
        *WITHOUT,
        "faulty-lost-commit",
        *ELSEWHERE,
    }
    for name, file in ELSEWHERE.items():
        assert name in (ROOT / file).read_text(encoding="utf-8"), f"{file} has no {name}"


def levels_of(engine: str, programs: tuple[str, ...]) -> dict[str, bool | str]:
    schedule = Schedule(programs, schema=Schema("list", 2, 2))
    verdict = judge(run_schedule(engine, "deferred", schedule), "serializable").verdict
    assert verdict is not None
    return verdict.levels


@pytest.mark.parametrize("engine", WITHOUT)
def test_a_broken_replica_breaks_its_session_guarantee_and_no_other(engine: str) -> None:
    guarantee, programs = WITHOUT[engine]
    levels = levels_of(engine, programs)
    assert [level for level in GUARANTEES if levels[level] is not True] == [guarantee]
    assert levels["serializable"] is True  # which knows of no session
    sound = levels_of("sqlite", programs)
    assert all(sound[level] is True for level in GUARANTEES)


def test_what_was_read_before_a_write_and_is_missing_beside_it_is_named() -> None:
    levels = levels_of("faulty-replica-torn", FOLLOWS)
    assert levels["writes-follow-reads"] is levels["consistent-prefix"] is False
    assert levels["monotonic-writes"] is levels["monotonic-reads"] is True
    assert set(levels_of("sqlite", FOLLOWS).values()) == {True}


def test_an_acknowledged_commit_that_is_lost_is_caught() -> None:
    # It loses every seventh: more than a drawn program has.
    writes = "; ".join(f"begin; append 0 {n}; commit" for n in range(1, 9))
    run = run_schedule("faulty-lost-commit", "deferred", Schedule((f"{writes}; r 0",)))
    judged = judge(run, "serializable")
    assert "G-single-process" in judged.anomalies
    assert any("model" in sentence for sentence in judged.wrong)
