"""Faults that Hypothesis draws: whatever call fails, of whatever file and whenever, what was
acknowledged is there, and what was refused is not.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from workloads.engines import find_engine
from workloads.errors import EngineMissing
from workloads.processes import FaultRule, fault_library, parse_rule
from workloads.runs import make_plan, run

EIO, ENOSPC, EINTR = 5, 28, 4
FILES = st.sampled_from(["*", "*-wal", "database.db", "*-log", "*-journal"])


@st.composite
def rules(draw: st.DrawFn, most: int = 60) -> FaultRule:
    """One fault: which call of which file, which time, and what then."""
    call = draw(st.sampled_from(["write", "write", "sync", "truncate", "unlink", "open"]))
    actions = ["fail", "fail", "fail", "kill", "kill-after", "slow", "stop"]
    actions += ["short", "torn"] if call == "write" else []
    action = draw(st.sampled_from(actions))
    argument = 0
    if action == "fail":
        argument = draw(st.sampled_from([EIO, ENOSPC]))
    elif action in ("slow", "stop"):
        argument = draw(st.integers(1, 40))
    elif action in ("short", "torn"):
        argument = draw(st.integers(0, 4000))
    first = draw(st.integers(1, most))
    last = draw(st.sampled_from([first, first, first + 2]))
    worker = draw(st.sampled_from([None, 0, 1]))
    return FaultRule(call, draw(FILES), first, last, action, argument, worker)


@given(rule=rules())
def test_a_fault_is_read_back_as_it_is_told(rule: FaultRule) -> None:
    assert parse_rule(str(rule)) == rule


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "begin"),
    [("sqlite", "immediate"), ("libsql", "immediate"), ("sqlite-concurrent", "concurrent")],
)
@settings(max_examples=8)
@given(rule=rules(), seed=st.integers(0, 3))
def test_no_fault_breaks_what_an_engine_acknowledged(
    engine: str, begin: str, rule: FaultRule, seed: int
) -> None:
    if why := find_engine(engine).missing():
        pytest.skip(why)
    try:
        fault_library()
    except EngineMissing as reason:
        pytest.skip(str(reason))
    plan = make_plan(
        scenario="ledger", database=engine, begin=begin, synchronous="full", writers=2, readers=0,
        transactions=12, duration_s=30, warmup_s=0, wal_autocheckpoint=20, seed=seed,
        fault=[str(rule)],
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        made = run(plan, Path(folder))
    for finding in made.manifest.findings:
        note(finding.sentence)
    assert made.manifest.ok, (rule, made.manifest.ended, made.manifest.troubles)
