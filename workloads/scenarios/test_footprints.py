"""A scenario's footprint agrees with the rows that its own draws touch."""

from collections import Counter

import numpy as np
import pytest

from workloads.runs import context_of, make_plan
from workloads.scenarios.footprint import NoFootprint, Touch
from workloads.scenarios.scenario import Draw, find_scenario

DRAWN = 20_000
SHAPES = {
    "register rmw": ("register", {"mix": "read-modify-write=1", "keys": "zipfian:0.99"}),
    "register A": ("register", {"mix": "A"}),
    "register A, three": ("register", {"mix": "A", "operations": 3}),
    "register B, uniform": ("register", {"mix": "B", "keys": "uniform", "operations": 2}),
    "register inserts": ("register", {"mix": "insert=1,update=3", "keys": "hotspot:80:10"}),
    "counter": ("counter", {"keys": "zipfian:0.8"}),
    "counter, three": ("counter", {"operations": 3}),
    "request": ("request", {"keys": "zipfian:0.8"}),
    "bank": ("bank", {}),
    "bank, two": ("bank", {"operations": 2}),
}


def made(name, params):
    plan = make_plan(scenario=name, params={"rows": 40} | params, database="null", seed=3)
    return plan, find_scenario(name)(plan.shape())


@pytest.mark.parametrize("name", SHAPES)
def test_chances_are_those_of_the_draws(name):
    plan, scenario = made(*SHAPES[name])
    footprint = scenario.footprint()
    assert footprint.reads.sum() + footprint.writes.sum() + footprint.appends == pytest.approx(1)
    draw, rows = scenario.draw(context_of(plan, 0)), len(footprint.writes)
    touched, written = np.zeros(rows), np.zeros(rows)
    count = appended = 0
    for _ in range(DRAWN):
        drawn = draw()
        if drawn.kind not in footprint.kinds:
            continue
        count += 1
        touches = scenario.touches(drawn)
        assert all(touch.table == footprint.table for touch in touches)
        appended += any(touch.row >= rows for touch in touches)
        for touch in touches:
            if touch.row < rows:
                touched[touch.row] += 1
                written[touch.row] += touch.wrote
    each = footprint.operations
    expected_touched = 1 - (1 - footprint.reads - footprint.writes) ** each
    expected_written = 1 - (1 - footprint.writes) ** each
    for seen, expected in ((touched, expected_touched), (written, expected_written)):
        # Five standard deviations for each of 40 rows: one false alarm in 40,000 seeds.
        spread = np.sqrt(expected * (1 - expected) / count)
        assert (np.abs(seen / count - expected) < 5 * spread + 1e-9).all()
    assert appended / count == pytest.approx(1 - (1 - footprint.appends) ** each, abs=0.02)


def test_scans_beside_writes_and_mixes_without_writes_have_no_footprint():
    with pytest.raises(NoFootprint, match="scan"):
        made("register", {"mix": "E", "operations": 2})[1].footprint()
    with pytest.raises(NoFootprint, match="writes nothing"):
        made("register", {"mix": "C"})[1].footprint()
    assert made("register", {"mix": "E"})[1].footprint().appends == 1  # only its inserts may fail


def test_a_scan_touches_every_row_of_it_and_a_row_read_and_written_is_written():
    scenario = made("register", {})[1]
    scan = Draw(3, (3, 7, 3, 0))
    assert scenario.touches(scan) == [Touch("register", row, False) for row in (7, 8, 9)]
    mixed = Draw(5, ((1, 4, 1, 0), (0, 4, 1, 0), (0, 5, 1, 0)))
    assert scenario.touches(mixed) == [Touch("register", 4, True), Touch("register", 5, False)]


def test_inserts_of_ids_that_the_engine_allocates_all_want_the_same_one():
    for ids, tables in {
        "sequential": {"event": 1},
        "autoincrement": {"event": 1, "sqlite_sequence": 1},
        "random": {"event": 200},
    }.items():
        plan, scenario = made("ingest", {"ids": ids})
        draw = scenario.draw(context_of(plan, 0))
        rows = {(t.table, t.row) for _ in range(200) for t in scenario.touches(draw())}
        assert Counter(table for table, _ in rows) == tables
