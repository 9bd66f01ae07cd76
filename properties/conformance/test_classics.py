"""The literature's anomalies as fixed schedules, on every engine and mode, and on broken engines.

Each must be found by name where an engine shows it, and stay unnamed where its programs ran one
after the other.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from properties.checker import FORBIDS
from properties.conformance.classics import CLASSICS, RESULTS, how
from properties.conformance.judge import LOCKED_AT_BEGIN, complaint, insist, judge, run_schedule
from properties.conformance.targets import Runners, Target
from workloads.engines import find_engine

# A broken engine that shows it: no test that could not fail. Torn commits after its first write
# and begins again; late begins only at its first write.
TORN, LATE = "faulty-torn-read", "faulty-lost-update"
SHOWN_BY = {
    "G0": TORN,
    "G1a": TORN,
    "G1b": TORN,
    "G1c": TORN,
    "OTV": LATE,
    "PMP": LATE,
    "P4": LATE,
    "G-single": LATE,
    "G-single-predicate": LATE,
    "G2-item": LATE,
    "G2": LATE,
    "read-only": LATE,
}


@pytest.mark.parametrize("name", CLASSICS)
def test_a_classic_is_prevented_or_not_promised(
    runners: Runners, target: Target, name: str
) -> None:
    classic = CLASSICS[name]
    schedule = classic.schedule
    if name == "G1a" and target.mode in LOCKED_AT_BEGIN:
        # T0 rolls back, and T1 does not begin while T0 holds the lock, so that nothing would
        # commit, on an engine that commits nothing too. One after the other T1 does.
        serial = replace(schedule, order="")
        insist(runners.run(target.engine, (target.mode,) * 3, serial), target.promise)
    run = runners.run(target.engine, (target.mode,) * 3, schedule)
    judged = insist(run, target.promise)
    found = how(classic, run)
    assert found.result in RESULTS
    if found.result == "seen":
        assert set(classic.names) & set(judged.anomalies), complaint(judged)
        assert not set(classic.names) & FORBIDS[target.promise]
    else:
        assert found.step, f"{name} did not happen and nothing prevented it: {run.events}"


@pytest.mark.parametrize("name", CLASSICS)
@pytest.mark.parametrize("engine", ["libsql", "sqlite"])
def test_a_classic_in_which_locks_are_waited_for_is_serial(engine: str, name: str) -> None:
    if why := find_engine(engine).missing():
        pytest.skip(why)
    schedule = replace(CLASSICS[name].schedule, patient=True)
    run = run_schedule(engine, "immediate", schedule)
    assert not judge(run, "strict-serializable").wrong
    assert {txn.outcome for txn in run.txns} <= {"committed", "failed"}
    assert any(event.status == "blocked" for event in run.events)
    assert not any(event.status == "conflict" for event in run.events)


@pytest.mark.parametrize("name", CLASSICS)
def test_a_broken_engine_shows_the_classic_and_it_is_named(name: str) -> None:
    classic = CLASSICS[name]
    run = run_schedule(SHOWN_BY[name], "deferred", classic.schedule)
    assert classic.seen(run), run.events
    judged = judge(run, "serializable")
    assert set(classic.names) & set(judged.anomalies), judged.anomalies
    assert any("checker" in sentence for sentence in judged.wrong)


@pytest.mark.parametrize("name", CLASSICS)
@pytest.mark.parametrize("engine", ["sqlite", LATE])
def test_a_classic_s_programs_one_after_the_other_show_nothing(engine: str, name: str) -> None:
    run = run_schedule(engine, "deferred", replace(CLASSICS[name].schedule, order=""))
    judged = judge(run, "strict-serializable")
    assert not judged.wrong, complaint(judged)
    assert not judged.anomalies


def test_every_classic_has_a_story_a_source_and_a_broken_engine() -> None:
    assert list(SHOWN_BY) == list(CLASSICS)
    for classic in CLASSICS.values():
        assert classic.story.endswith(".")
        assert any(digit in classic.source for digit in "12")
