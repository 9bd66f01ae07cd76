"""Who may work without transactions, and what is refused in words before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from workloads.engines import AUTOCOMMIT, engine_names, find_engine, modes_of
from workloads.errors import PlanError, UnknownName
from workloads.runs import make_plan, run

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a scenario that needs transactions": (
        {"scenario": "bank", "begin": AUTOCOMMIT},
        "--begin autocommit: bank needs transactions with these parameters",
    ),
    "its readers": (
        {"scenario": "bank", "readers": 1, "read_begin": AUTOCOMMIT},
        "--read-begin autocommit: bank needs transactions with these parameters",
    ),
    "reads that are written back": (
        {"scenario": "register", "begin": AUTOCOMMIT, "params": {"mix": "F"}},
        "register needs transactions with these parameters",
    ),
    "transactions of several statements": (
        {"scenario": "register", "begin": AUTOCOMMIT, "params": {"mix": "B", "operations": 2}},
        "register needs transactions with these parameters",
    ),
    "events that belong together": (
        {"scenario": "ingest", "autocommit": True, "params": {"operations": 2}},
        "--begin autocommit: ingest needs transactions with these parameters",
    ),
    "a mode beside the switch": (
        {"scenario": "ingest", "autocommit": True, "begin": "immediate"},
        "--autocommit leaves BEGIN out, and --begin immediate asks for one",
    ),
    "a mode of readers beside the switch": (
        {"scenario": "ingest", "autocommit": True, "read_begin": "deferred"},
        "--autocommit leaves BEGIN out, and --read-begin deferred asks for one",
    ),
    "a pipeline of an engine without one": (
        {"scenario": "request", "readers": 1, "params": {"how": "pipeline"}},
        "asks for a pipeline with these parameters, and sqlite has none",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_in_one_sentence(case: str) -> None:
    values, sentence = REFUSED[case]
    with pytest.raises(PlanError, match=sentence):
        make_plan(**({"database": "sqlite"} | values))


def test_a_misspelt_mode_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'autocommit'"):
        make_plan(scenario="request", database="sqlite", begin="autocomit")


def test_a_history_is_one_of_transactions() -> None:
    values = {"scenario": "register", "database": "sqlite", "begin": AUTOCOMMIT}
    make_plan(**values)
    with pytest.raises(PlanError, match="records a history, which is one of transactions"):
        make_plan(**values, params={"history": True})


@pytest.mark.parametrize("engine", engine_names())
def test_it_is_no_mode_of_an_engine_and_each_can_be_asked_for_it(engine: str) -> None:
    assert AUTOCOMMIT not in modes_of(find_engine(engine))
    if find_engine(engine).missing() is None:
        make_plan(scenario="request", database=engine, begin=AUTOCOMMIT, readers=1)


def test_the_switch_leaves_out_begin_for_both_roles_and_loses_nothing(tmp_path: Path) -> None:
    plan = make_plan(
        scenario="ingest", database="sqlite", writers=2, readers=1, transactions=5, autocommit=True
    )
    made = run(plan, tmp_path)
    assert made.manifest.ok and made.manifest.plan.autocommit
    assert {worker.begin for worker in made.workers} == {AUTOCOMMIT}
    assert sum(len(worker.attempts) for worker in made.role("writer")) == 10
