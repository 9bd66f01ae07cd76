"""A pragma of a plan is set on every connection, read back and compared."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from workloads.engines import OF_CONNECTION, PRAGMAS, Settings, find_engine, pragma_values
from workloads.errors import PlanError
from workloads.records import RecordedPlan
from workloads.runs import make_plan, run

OTHERS: dict[str, Any] = {
    "journal_mode": "delete",
    "synchronous": "full",
    "busy_timeout_ms": 1234,
    "cache_size": 10,
    "page_bytes": 8192,
    "wal_autocheckpoint": 7,
    "mmap_bytes": 1 << 20,
}
"""Another value than the default for each field: a new field has its line here, or this fails."""


def test_every_setting_has_another_value_here() -> None:
    assert list(OTHERS) == list(PRAGMAS)
    assert [field.name for field in fields(Settings)] == [*PRAGMAS, "sync", "pragma"]  # no pragmas
    assert set(OF_CONNECTION) < set(PRAGMAS.values())


@pytest.mark.parametrize("field", OTHERS)
def test_a_setting_is_an_option_of_a_plan_and_reaches_its_pragma(field: str) -> None:
    option = RecordedPlan.model_fields[field]
    assert option.description, f"{field} is no option of `cwkit run`"
    assert option.default == getattr(Settings(), field)
    settings = make_plan(**{field: OTHERS[field]}).settings()
    assert settings == replace(Settings(), **{field: OTHERS[field]})
    journal = settings.journal_mode or "wal"
    assert pragma_values(settings, journal)[PRAGMAS[field]] == OTHERS[field]


def test_pragmas_that_have_no_option_are_set_on_every_connection_and_read_back(
    tmp_path: Path,
) -> None:
    asked = ["foreign_keys=ON", "auto_vacuum=incremental", "nobody_knows=3"]
    plan = make_plan(
        scenario="counter", database="sqlite", writers=1, readers=1, transactions=2, pragma=asked
    )
    assert plan.pragma == "foreign_keys=on,auto_vacuum=incremental,nobody_knows=3"
    made = run(plan, tmp_path)
    assert made.manifest.plan.pragma == plan.pragma
    for worker in made.workers:
        names = ("foreign_keys", "auto_vacuum", "nobody_knows")
        found = {name: worker.entry.pragmas[name] for name in names}
        # auto_vacuum is the file's from its first page: set after journal_mode it would be 0.
        assert found == {"foreign_keys": 1, "auto_vacuum": 2, "nobody_knows": "(no answer)"}


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ("foreign_keys", "'foreign_keys' sets no pragma: give NAME=VALUE"),
        ("a=1;DROP", "sets no pragma"),
        ("busy_timeout=5", "has an option of its own: give --busy-timeout-ms"),
        ("key=secret", "takes a password"),
        ("wal_checkpoint=full", "is a command"),
        (["cache_spill=1", "cache_spill=2"], "is given twice"),
    ],
)
def test_what_sets_no_pragma_is_refused_in_a_sentence(asked: Any, why: str) -> None:
    with pytest.raises(PlanError) as refused:
        make_plan(database="sqlite", pragma=asked)
    assert why in str(refused.value) and "secret" not in str(refused.value)


def test_an_engine_without_pragmas_refuses_them() -> None:
    with pytest.raises(PlanError, match="connections of null take none"):
        make_plan(database="null", pragma="foreign_keys=on")
    assert getattr(find_engine("libsql"), "takes_pragmas", True)
