"""A pragma of a plan is set on every connection, read back and compared."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from workloads.engines import OF_CONNECTION, PRAGMAS, Settings, pragma_values
from workloads.records import RecordedPlan
from workloads.runs import make_plan

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
    assert [field.name for field in fields(Settings)] == [*PRAGMAS, "sync"]  # which is no pragma
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
