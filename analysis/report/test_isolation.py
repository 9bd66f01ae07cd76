"""The isolation part of the report says what the matrix says, a broken promise first."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from analysis.report import isolation
from analysis.report.evidence import read_evidence
from analysis.report.findings import findings, tell
from analysis.report.report import write_report
from analysis.synthetic import whole_report

ROOT = Path(__file__).resolve().parents[2]


def row(engine="libsql", mode="immediate", **changes):
    made = {
        "engine": engine,
        "mode": mode,
        "accepted": True,
        "words": "",
        "promised": {"level": "serializable", "source": "a page"},
        "observed": "strict-serializable",
        "observed_violated": [],
        "anomalies": {
            "G2-item": {
                "result": "prevented",
                "how": "refused",
                "step": "T1: commit",
                "words": "locked",
                "story": "Write skew.",
                "source": "Adya 1999",
                "forbidden": True,
                "schedule": "Schedule(('begin',), '0')",
            }
        },
        "schedules": 10,
        "transactions": {"committed": 3},
        "refusals": {"stale": {"refused": 4, "needless": 1}},
        "others": {},
        "deviations": [],
    }
    return made | changes


SEEN = row()["anomalies"]["G2-item"] | {"result": "possible", "how": "", "step": "", "words": ""}
ALLOWED = row(
    "turso",
    "concurrent",
    promised={"level": "snapshot-isolation", "source": "its manual"},
    anomalies={"G2-item": SEEN},
    others={"G2-item-process": 2},
)
BROKEN = row("broken", anomalies={"G2-item": SEEN}, deviations=["T1 before T2 before T1"])
KNOWN = [
    {
        "name": "skew between files",
        "sentence": "two snapshots",
        "engine": engine,
        "mode": "deferred",
        "seen": seen,
        "words": "" if seen else "no ATTACH here",
        "text": "step by step" if seen else "",
        "schedule": "",
    }
    for engine, seen in (("libsql", True), ("sqlite", True), ("turso", None))
]
REFUSED = {"engine": "libsql", "mode": "concurrent", "accepted": False, "words": "syntax error"}


def test_a_refused_mode_has_no_row():
    assert isolation.accepted([row(), REFUSED]) == [row()]
    assert isolation.sentence([REFUSED]).startswith("Isolation: not measured")


def test_an_anomaly_that_the_promise_allows_is_no_breach():
    text = isolation.sentence([row(), ALLOWED])
    assert "turso BEGIN CONCURRENT allows G2-item, as its promise of snapshot-isolation" in text
    assert "breaks" not in text
    assert "1 of 4 by turso" in text


def test_a_broken_promise_is_named():
    text = isolation.sentence([row(), BROKEN])
    assert "**broken BEGIN IMMEDIATE breaks its promise of serializable** (G2-item seen)" in text


def test_an_engine_that_died_is_told_without_an_anomaly_that_nobody_saw():
    died = row("mortal", died=3, deviations=["mortal took its process down"], observed=None)
    text = isolation.sentence([row(), died])
    assert "**mortal BEGIN IMMEDIATE took its process down in 3 of 10 schedules**" in text
    assert "breaks its promise" not in text
    both = isolation.sentence([row(), BROKEN | {"died": 1}])
    assert "took its process down in 1 of 10" in both and "breaks its promise" in both


def test_a_known_deviation_is_told_where_it_was_seen_and_where_not():
    (one,) = isolation.known(KNOWN)
    assert one["seen"] == "libsql BEGIN and sqlite BEGIN"
    assert one["not_seen"] == "turso BEGIN (no ATTACH here)"
    text = isolation.sentence([row()], KNOWN)
    assert text.startswith("**Beyond one file") and "sqlite BEGIN).** Isolation, 10 sched" in text
    assert "skew between files (libsql BEGIN and sqlite BEGIN)" in text
    assert isolation.sentence([row()], KNOWN[2:]).startswith("Isolation, 10 schedules")


def test_modes_with_the_same_answers_share_a_row_of_the_matrix():
    table = isolation.matrix_table([row(), row(mode="exclusive"), ALLOWED])
    assert [cells[1:] for cells in table.rows] == [("refused",), ("**possible**",)]
    assert table.rows[0][0] == "libsql BEGIN IMMEDIATE and BEGIN EXCLUSIVE"


@pytest.mark.parametrize(
    ("rows", "known", "place", "said"),
    [
        ([row(), ALLOWED], [], 0, "No broken promise of isolation was seen"),
        ([row(), ALLOWED], KNOWN, 2, "Beyond one file or usual settings, promises"),
        ([row(), BROKEN], KNOWN, 2, "broken BEGIN IMMEDIATE breaks the promise of serializable"),
    ],
    ids=["kept", "known", "broken"],
)
def test_what_breaks_a_promise_is_told_right_behind_a_lost_commit(
    made_beside, rows, known, place, said
):
    folder, experiments = made_beside  # with a lost commit
    (folder / "isolation.json").write_text(json.dumps({"matrix": rows, "known": known}))
    told = tell(read_evidence(folder, experiments))
    assert (told.place("lost-commits"), told.place("isolation")) == (1, place)
    assert told.every["isolation"].sentence.startswith(said)
    assert (told.every["isolation"] in told.not_found) == (place == 0)
    if rows[1] is ALLOWED and known:
        assert told.every["isolation"].holds == "skew between files (libsql and sqlite)"


@pytest.mark.parametrize("rows", [[row(), ALLOWED], [row(), BROKEN]], ids=["kept", "broken"])
def test_the_report_tells_the_matrix_and_a_breach_first(made_beside, tmp_path, rows):
    folder, experiments = made_beside
    (folder / "isolation.json").write_text(json.dumps({"matrix": rows, "known": KNOWN}))
    write_report(folder, tmp_path / "REPORT.md", tmp_path / "figures", experiments)
    text = whole_report(tmp_path / "REPORT.md", tmp_path / "figures")
    second = text.split("## Findings")[1].strip().splitlines()[1]
    assert ("breaks the promise" in second) == (rows[1] is BROKEN)
    assert "**possible**" in text
    assert "Schedule(('begin',), '0')" in text
    assert ("T1 before T2 before T1" in text) == (rows[1] is BROKEN)


def test_the_matrix_is_made_in_a_process_of_its_own(tmp_path):
    path = tmp_path / "isolation.json"
    argv = [sys.executable, "-m", "analysis.report.isolation", str(path), "2"]
    subprocess.run(argv, check=True, timeout=120, capture_output=True, cwd=ROOT)
    rows = json.loads(path.read_text())["matrix"]
    by_mode = {(r["engine"], r["mode"]): r for r in rows}
    assert not by_mode["libsql", "concurrent"]["accepted"]
    assert by_mode["libsql", "immediate"]["anomalies"]["G2-item"]["result"] == "prevented"
    assert isolation.levels_table(rows).rows


def test_at_most_ten_findings(made_beside):
    folder, experiments = made_beside
    assert len(findings(read_evidence(folder, experiments))) <= 10
    matrix = {"matrix": [row(), BROKEN], "known": KNOWN}
    (folder / "isolation.json").write_text(json.dumps(matrix))
    assert len(findings(read_evidence(folder, experiments))) <= 10
