"""The matrix says what the schedules showed: possible, prevented and by what, refused modes too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from properties.conformance.classics import CLASSICS
from properties.conformance.known_deviations import KNOWN, known_findings
from properties.conformance.matrix import isolation_matrix
from workloads.engines import find_engine, trust

FILE = Path(__file__).with_name("mortal.py")


def test_a_row_of_a_single_writer_has_everything_and_nothing_possible() -> None:
    (row,) = isolation_matrix(["sqlite"], ["deferred"], examples=20)
    assert json.loads(json.dumps(row)) == row
    assert {found["result"] for found in row["anomalies"].values()} == {"prevented"}
    assert row["anomalies"]["G0"]["how"] == "blocked"
    assert row["anomalies"]["P4"]["how"] in ("refused", "blocked")
    assert row["anomalies"]["G1a"]["how"] == "snapshot"
    assert row["promised"]["level"] == "serializable"
    assert row["observed"] == "strict-serializable"
    assert row["schedules"] == len(CLASSICS) + 20
    assert row["deviations"] == []


def test_a_broken_engine_s_row_tells_the_deviation_first() -> None:
    (row,) = isolation_matrix(["faulty-lost-update"], ["deferred"], examples=2)
    assert row["anomalies"]["P4"]["result"] == "possible"
    assert row["anomalies"]["P4"]["forbidden"]
    assert "serializable" in row["observed_violated"]
    assert "lost-update" in row["others"]
    assert "@example(Schedule(" in row["deviations"][0]


def test_an_engine_that_takes_its_process_down_has_a_row_with_what_was_seen_before() -> None:
    trust(FILE)
    (row,) = isolation_matrix([f"{FILE}:Aborts"], ["immediate"], examples=2)
    assert row["accepted"]
    assert 0 < row["died"] < row["schedules"]
    assert "signal 6 (SIGABRT)" in row["deviations"][0]
    assert "@example(Schedule(" in row["deviations"][0]
    assert row["anomalies"]["G0"]["how"] == "died"  # it writes twice in a transaction
    assert row["anomalies"]["P4"]["how"] == "blocked"
    assert row["observed"] == "strict-serializable"


def test_a_refused_mode_is_a_row_in_the_engine_s_own_words() -> None:
    (row,) = isolation_matrix(["sqlite"], ["concurrent"])
    assert not row["accepted"]
    assert "CONCURRENT" in row["words"]


def test_snapshot_isolation_is_told_from_serializable_and_needs_fewer_refusals() -> None:
    for name in ("turso", "sqlite-concurrent"):
        if why := find_engine(name).missing():
            pytest.skip(why)
    rows = isolation_matrix(["turso", "sqlite-concurrent"], ["concurrent"], examples=60)
    snapshot, serializable = rows
    assert snapshot["anomalies"]["G2-item"]["result"] == "possible"
    assert not snapshot["anomalies"]["G2-item"]["forbidden"]
    assert serializable["anomalies"]["G2-item"]["how"] == "refused"
    share = [
        sum(r["needless"] for r in row["refusals"].values())
        / max(sum(r["refused"] for r in row["refusals"].values()), 1)
        for row in rows
    ]
    assert share[0] < share[1], "an engine that decides by page refuses more than one by row"


def test_known_findings_are_looked_for_again_and_told_in_full() -> None:
    rows = known_findings(["sqlite", "faulty-torn-read"])
    assert {row["name"] for row in rows} < {known.name for known in KNOWN}
    assert all(("promises" in row["text"]) == bool(row["seen"]) for row in rows)
    assert json.loads(json.dumps(rows)) == rows
