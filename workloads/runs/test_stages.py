"""Stages of load are a Poisson process whose rate changes, drawn again from the seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from workloads.errors import PlanError
from workloads.runs import make_plan, warp_of, windows_ns
from workloads.runs.pacing import arrivals, due_before, due_in_turn
from workloads.runs.stages import parse_stages

COUNTER: dict[str, Any] = {"scenario": "counter", "database": "null"}
S = 10**9


def test_each_stage_has_the_arrivals_of_its_rate() -> None:
    plan = make_plan(**COUNTER, stages="10s:100/s,5s:0/s,20s:2000/s", warmup_s=2)
    assert plan.duration_s == 35 and plan.rate == pytest.approx(41_000 / 35)
    warp, start = warp_of(plan, "writer"), 7 * S
    parts = due_in_turn(start + 40 * S, plan.rate, start, np.random.default_rng(3), warp=warp)
    due = np.concatenate(list(parts))
    assert (np.diff(due) >= 0).all()
    windows = windows_ns(parse_stages(plan.stages), start + 2 * S, start + 37 * S)
    many = [int(((due >= first) & (due < last)).sum()) for first, last in windows]
    # Five standard deviations of a Poisson count.
    assert abs(many[0] - 1_000) < 160 and many[1] == 0 and abs(many[2] - 40_000) < 1_000
    warm = int((due < start + 2 * S).sum())
    assert abs(warm - 200) < 75, "the warm-up has the first stage's rate"
    assert abs(int((due >= start + 37 * S).sum()) - 6_000) < 400, "the last rate goes on"


def test_a_worker_and_a_reader_of_its_run_draw_the_same() -> None:
    plan = make_plan(**COUNTER, stages="1s:50/s,1s:500/s")
    warp = warp_of(plan, "writer")
    drawn = arrivals(plan.rate, S, np.random.default_rng(1), warp)
    parts = due_in_turn(4 * S, plan.rate, S, np.random.default_rng(1), warp=warp)
    again = np.concatenate(list(parts))
    assert [drawn() for _ in again] == again.tolist()
    plain = due_before(4 * S, plan.rate, S, np.random.default_rng(1))
    assert again.tolist() != plain.tolist() and warp_of(plan, "reader") is None


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"stages": "10s"}, "give up to 100 stages as 10s:100/s,30s:400/s"),
        ({"stages": "10s:0/s"}, "the first stage has a rate above 0"),
        ({"stages": "0s:5/s"}, "each stage takes some time"),
        ({"stages": "1s:5/s", "rate": 7}, "leave out --rate"),
        ({"stages": "1s:5/s", "duration_s": 7}, "leave out --duration"),
        ({"stages": "1s:5/s", "transactions": 7}, "leave out --transactions"),
        ({"stages": "1s:5/s", "writers": 0, "readers": 1}, "is the writers'"),
    ],
)
def test_stages_that_make_no_sense_are_refused_in_a_sentence(asked: Any, why: str) -> None:
    with pytest.raises(PlanError, match=why):
        make_plan(**COUNTER | asked)
