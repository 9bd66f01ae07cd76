"""Writers of several modes work on one database at once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from workloads.errors import PlanError, UnknownName
from workloads.runs import make_plan, run

COUNTER = {"scenario": "counter", "database": "sqlite"}


def test_each_writer_of_a_mix_begins_in_its_own_mode(tmp_path: Path) -> None:
    plan = make_plan(**COUNTER, writers="2:immediate,1:deferred", transactions=3)
    assert (plan.writers, plan.begin) == (3, "2:immediate,1:deferred")
    made = run(plan, tmp_path)
    assert made.manifest.ok
    assert [w.begin for w in made.role("writer")] == ["immediate", "immediate", "deferred"]
    assert len(made.role("writer:deferred")) == 1 and not made.role("writer:concurrent")
    outcomes = Counter(w.begin for w in made.workers for row in w.attempts if row["outcome"] == 1)
    assert outcomes == {"immediate": 6, "deferred": 3}


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"writers": "1:concurent,1:immediate"}, "no mode 'concurent'"),
        ({"writers": "2:immediate", "begin": "deferred"}, "leave out --begin"),
        ({"writers": 3, "begin": "1:immediate,1:deferred"}, "is 2 writers, and 3 are asked for"),
        ({"writers": "0:immediate,2:deferred"}, "give how many processes write, such as 4"),
        ({"writers": "200:immediate,200:deferred"}, "less than or equal to 256"),
        ({"writers": "1:autocommit,1:immediate"}, "needs transactions"),
    ],
)
def test_a_mix_that_makes_no_sense_is_refused_in_a_sentence(asked: Any, why: str) -> None:
    with pytest.raises((PlanError, UnknownName), match=why):
        make_plan(**COUNTER, **asked)


def test_a_mix_is_a_value_of_the_axis_begin() -> None:
    plan = make_plan(**COUNTER, writers=2, begin="1:immediate,1:deferred")
    assert plan.roles()[1] == ("writer", "sqlite", "deferred")
