"""What is exported for other tools is what they read: each file is read back as its format says."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pyarrow.parquet
import pytest

from analysis.compare import FAILED, junit_text, parse_condition
from analysis.compare.gates import PASSED
from analysis.counting import Count, count, export, export_run
from analysis.synthetic import drawn_run, write_folder
from workloads import runs as running
from workloads.errors import PlanError, RunError
from workloads.records import COMMITTED, CONFLICT, Run, read_run
from workloads.runs import make_plan


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two writers and a reader, some of whose attempts are refused."""
    folder = tmp_path_factory.mktemp("formats") / "one"
    made = drawn_run(412, per_s=300, seconds=2.5, writers=2, readers=1, abort=0.2)
    write_folder(made, folder)
    return read_run(folder)


@pytest.fixture(scope="module")
def counted(run: Run) -> Count:
    return count(run)


def exported(run: Run, format_: str, tmp_path: Path) -> str:
    assert export_run(run.folder, format_, tmp_path / "out") > 0
    return (tmp_path / "out").read_text(encoding="utf-8")


# --- a trace: the Trace Event Format's JSON object format -----------------------------------------

NEEDED = {"M": {"args"}, "X": {"ts", "dur"}, "i": {"ts", "s"}, "C": {"ts", "args"}}
"""Phase of an event -> what the format demands of it, beside name, ph and pid."""


def checked_trace(text: str) -> list[dict[str, Any]]:
    """The events of a trace, each as the format has it, and slices of a track nested or apart."""
    document = json.loads(text)
    events: list[dict[str, Any]] = document["traceEvents"]
    assert document["displayTimeUnit"] in ("ms", "ns")
    for event in events:
        assert {"name", "ph", "pid"} | NEEDED[event["ph"]] <= set(event), event
        assert event["ph"] != "i" or event["s"] in ("g", "p", "t")
        assert event.get("dur", 0) >= 0
    for track in {event["tid"] for event in events if event["ph"] == "X"}:
        slices = [event for event in events if event["ph"] == "X" and event["tid"] == track]
        open_until: list[float] = []
        for one in sorted(slices, key=lambda event: (event["ts"], -event["dur"])):
            while open_until and open_until[-1] <= one["ts"] + 1e-6:
                open_until.pop()
            assert not open_until or one["ts"] + one["dur"] <= open_until[-1] + 1e-6, one
            open_until.append(one["ts"] + one["dur"])
    return events


def test_a_trace_has_a_track_a_worker_and_slices_in_each_attempt(tmp_path: Path) -> None:
    plan = make_plan(
        scenario="counter", database="sqlite", writers=2, readers=1, busy_timeout_ms=0,
        duration_s=0.3, warmup_s=0, wal_autocheckpoint=10,
        params={"think_us": 500, "think": "sleep"},
    )  # fmt: skip
    made = running.run(plan, tmp_path / "runs")
    events = checked_trace(exported(made, "trace", tmp_path))
    named = [event["args"]["name"] for event in events if event["name"] == "thread_name"]
    assert named == ["writer 0 sqlite", "writer 1 sqlite", "reader 0 sqlite"]
    first, stop = made.window_ns
    rows = np.concatenate([part for worker in made.workers for part in worker.rows.pieces()])
    rows = rows[(rows["end_ns"] >= first) & (rows["start_ns"] <= stop)]
    many = Counter(event["name"] for event in events)
    assert many["committed"] == (rows["outcome"] == COMMITTED).sum() > 0
    refused = sum(many[name] for name in many if name.startswith("refused: "))
    assert refused == many["conflict"] == (rows["outcome"] == CONFLICT).sum() > 0
    assert many["begin"] == len(rows) and many["commit"] >= many["committed"]
    assert many["WAL"] > 0 and many["checkpoint"] > 0


def test_the_check_of_traces_finds_what_is_none() -> None:
    one = {"name": "a", "ph": "X", "pid": 1, "tid": 1, "ts": 0, "dur": 5}
    for wrong in (one | {"ts": 3}, {"name": "a", "ph": "i", "pid": 1, "ts": 1}, one | {"dur": -1}):
        text = json.dumps({"displayTimeUnit": "ns", "traceEvents": [one, wrong]})
        with pytest.raises(AssertionError):
            checked_trace(text)


def test_a_trace_of_a_long_run_holds_its_first_attempts(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from analysis.counting import formats_out

    monkeypatch.setattr(formats_out, "MOST_TRACED", 50)
    events = json.loads(exported(run, "trace", tmp_path))["traceEvents"]
    assert 45 <= sum(event["name"] == "begin" for event in events) <= 60


# --- an HdrHistogram log --------------------------------------------------------------------------


def test_an_hdr_log_is_read_back_by_the_package(run: Run, counted: Count, tmp_path: Path) -> None:
    pytest.importorskip("hdrh", reason="the package hdrhistogram is not here: make setup")
    from hdrh.histogram import HdrHistogram
    from hdrh.log import HistogramLogReader

    exported(run, "hdr", tmp_path)
    together = {role: HdrHistogram(1, 10**14, 3) for role in ("writer", "reader")}
    intervals: Counter[str] = Counter()
    log = HistogramLogReader(str(tmp_path / "out"), HdrHistogram(1, 10**14, 3))
    while (one := log.get_next_interval_histogram()) is not None:
        together[one.get_tag()].add(one)
        intervals[one.get_tag()] += 1
    log.close()
    for role, found in together.items():
        tally = counted.roles[role]
        assert intervals[role] == int(np.ceil(counted.seconds)) == 3
        assert found.get_total_count() == tally.committed
        median = np.percentile(tally.latency_ns["whole"], 50)
        assert found.get_value_at_percentile(50) == pytest.approx(median, rel=0.01)


# --- OpenMetrics ----------------------------------------------------------------------------------

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"'
SAMPLE = re.compile(
    rf"({NAME})(?:\{{{LABEL}(?:,{LABEL})*\}})? (NaN|[+-]Inf|-?[0-9.]+(?:e[+-]?\d+)?)"
)
META = re.compile(rf"# (TYPE|UNIT|HELP) ({NAME}) (.+)")
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "summary": ("", "_count", "_sum")}


def checked_metrics(text: str) -> dict[str, float]:
    """Name with labels -> value, where the text is as OpenMetrics 1.0's grammar has it."""
    assert text.endswith("\n# EOF\n")
    family, kind, seen, found = "", "", set(), {}
    for line in text.splitlines()[:-1]:
        if meta := META.fullmatch(line):
            if meta[1] == "TYPE":
                family, kind = meta[2], meta[3]
                assert family not in seen
                seen.add(family)
            assert meta[2] == family
            assert meta[1] != "UNIT" or family.endswith(f"_{meta[3]}")
            continue
        sample = SAMPLE.fullmatch(line)
        assert sample, line
        assert sample[1].removeprefix(family) in SUFFIXES[kind], line
        key = line.rpartition(" ")[0]
        assert key not in found
        found[key] = float(sample[2])
    return found


def test_metrics_are_what_prometheus_takes(run: Run, counted: Count, tmp_path: Path) -> None:
    found = checked_metrics(exported(run, "openmetrics", tmp_path))
    writer = counted.roles["writer"]
    (key,) = (key for key in found if 'role="writer",outcome="committed"' in key)
    assert key.startswith("cwkit_attempts_total{run=") and found[key] == writer.committed
    (key,) = (key for key in found if 'role="writer",quantile="0.5"' in key)
    assert found[key] == pytest.approx(writer.whole()[0, 0] / 1e9)


def test_a_scenario_of_anybodys_is_a_label_and_no_line(tmp_path: Path) -> None:
    write_folder(drawn_run(1, per_s=80, seconds=0.3, writers=1, engine="null"), tmp_path / "one")
    manifest = json.loads((tmp_path / "one" / "manifest.json").read_text())
    manifest["plan"]["scenario"] = 'x"} 1\nforged 2\\'
    (tmp_path / "one" / "manifest.json").write_text(json.dumps(manifest))
    found = checked_metrics(exported(read_run(tmp_path / "one"), "openmetrics", tmp_path))
    assert all("forged" not in key.partition("{")[0] for key in found)
    checked_trace(exported(read_run(tmp_path / "one"), "trace", tmp_path))


@pytest.mark.parametrize(
    "text",
    ["a 1\n", "# TYPE a counter\na 1\n# EOF\n", '# TYPE a gauge\na{b="c"d"} 1\n# EOF\n'],
)
def test_the_check_of_metrics_finds_what_is_none(text: str) -> None:
    with pytest.raises(AssertionError):
        checked_metrics(text)


# --- a row a second, and gates --------------------------------------------------------------------


def test_a_time_series_adds_up_to_the_run(run: Run, counted: Count, tmp_path: Path) -> None:
    assert export(run.folder, "parquet", "series", tmp_path / "s.parquet") == 6
    rows = pyarrow.parquet.read_table(tmp_path / "s.parquet").to_pylist()
    for role, tally in counted.roles.items():
        mine = [row for row in rows if row["role"] == role]
        assert [row["second"] for row in mine] == [0, 1, 2]
        assert sum(row["committed"] for row in mine) == pytest.approx(tally.committed, abs=1)
        assert sum(row["conflicts"] for row in mine) == pytest.approx(tally.conflicted, abs=1)
        assert sum(row["length_s"] for row in mine) == pytest.approx(counted.seconds)


def test_what_is_of_one_run_is_refused_of_a_sweep(tmp_path: Path) -> None:
    (tmp_path / "experiment.json").write_text("{}")
    with pytest.raises(PlanError, match="is of one run"):
        export(tmp_path, "csv", "series", tmp_path / "out")
    with pytest.raises(RunError, match="is of one run"):
        export_run(tmp_path, "trace", tmp_path / "out")


class Told:
    """What JUnit needs of a gate."""

    def __init__(self, outcome: str) -> None:
        self.condition = parse_condition("throughput < 0.95")
        self.found, self.outcome = self, outcome
        self.a, self.b, self.sentence = "A", "<B>\x1b", "it is \x00 so & so"


def test_gates_are_test_cases_with_a_failure_where_one_failed() -> None:
    gates: Any = [Told(PASSED), Told(FAILED), Told("cannot be decided")]
    suite = ElementTree.fromstring(junit_text(gates, ["integrity: broken"]).encode())
    assert suite.tag == "testsuite"
    assert [suite.get(key) for key in ("tests", "failures", "errors")] == ["4", "2", "1"]
    assert [[inner.tag for inner in case] for case in suite] == [
        [], ["failure"], ["error"], ["failure"]
    ]  # fmt: skip
