"""The systems' page, its claims and its row of "What to do" tell the times that were planted."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.claims import (
    CLAIMS,
    HOLDS,
    HOPS,
    IN_PART,
    NOT,
    NOT_MEASURED,
    SYSTEMS,
    UNDECIDED,
    Seen,
    against,
    broken,
    costs,
    embedded,
    find_claim,
    fitting,
    ways,
    work_ratios,
)
from analysis.claims.hops import share_of_trips
from analysis.counting import Measured, gather
from analysis.report.evidence import Evidence, read_evidence
from analysis.report.finding import LESS, MORE, UNKNOWN
from analysis.report.instead import postgres_instead
from analysis.report.report import write_report
from analysis.synthetic.systems import (
    LOST,
    MODIFY,
    RTT_MS,
    made_hops,
    made_systems,
    request_us,
    transaction_us,
)
from workloads.experiments import read_experiment

Make = Callable[..., Measured]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Both sweeps with the times that they have where nobody asks for others."""
    made = tmp_path_factory.mktemp("made")
    return made_hops(made / "hops"), made_systems(made / "systems")


@pytest.fixture
def hops(tmp_path: Path, folders: tuple[Path, Path]) -> Make:
    def make(**how: Any) -> Measured:
        return gather(read_experiment(made_hops(tmp_path / "h", **how) if how else folders[0]))

    return make


@pytest.fixture
def systems(tmp_path: Path, folders: tuple[Path, Path]) -> Make:
    def make(**how: Any) -> Measured:
        return gather(read_experiment(made_systems(tmp_path / "s", **how) if how else folders[1]))

    return make


def verdict(name: str, **sweeps: Measured) -> Any:
    return find_claim(name).verdict(Seen(sweeps=sweeps))


# --- hops ---------------------------------------------------------------------------------------


def test_a_request_of_another_way_is_so_many_queries_in_the_process(hops: Make) -> None:
    found = ways(hops())
    base = embedded(found)
    assert base is not None
    by = {way.label: way for way in found}
    assert list(by) == [
        "libSQL in the process", "PostgreSQL (socket)", "PostgreSQL (2.20 ms)",
        "PostgreSQL (2.20 ms, one statement)",
    ]  # fmt: skip
    far = by["PostgreSQL (2.20 ms)"]
    assert far.rtt_ms == RTT_MS
    ratio = against(far, base, 10)
    assert ratio.value == pytest.approx(2300 / 6, rel=0.01)
    assert fitting(ratio, 10).startswith("3,830 [")
    low, share, high = share_of_trips(far, 10)
    assert low <= share <= high
    assert share == pytest.approx(2200 / 2300, rel=0.05)


def test_systems_that_differ_in_their_way_alone_go_by_their_names(hops: Make) -> None:
    labels = {str(arm.point["system"]): arm.label for arm in hops().arms.values()}
    assert labels.pop("libsql") == "libsql autocommit"
    assert all(label == system for system, label in labels.items()) and len(labels) == 3


def test_the_way_is_what_a_request_pays_where_each_is_slower(hops: Make) -> None:
    found = verdict("hops", hops=hops())
    assert found.verdict == HOLDS and found.runs == HOPS
    assert "as long as 3,830 [" in str(found.number)


CASES: dict[str, tuple[Callable[[str, int], float], str]] = {
    "together it is no slower": (
        lambda s, k: 6.0 * k if "statement" in s else request_us(s, k),
        IN_PART,
    ),
    "another cost than the hop": (
        lambda s, k: request_us(s, k) * (3 if "2 ms" in s else 1),
        IN_PART,
    ),
    "a server is faster": (lambda s, k: request_us(s, k) / (9 if "socket" in s else 1), NOT),
}


@pytest.mark.parametrize("case", CASES)
def test_the_verdict_on_hops_follows_the_times(hops: Make, case: str) -> None:
    times, expected = CASES[case]
    assert verdict("hops", hops=hops(times=times)).verdict == expected


def test_too_few_blocks_decide_nothing(hops: Make, systems: Make) -> None:
    few = {HOPS: hops(blocks=3), SYSTEMS: systems(blocks=3)}
    for name in ("hops", "reads", "concurrent", "cost"):
        assert verdict(name, **few).verdict == UNDECIDED


def test_without_the_sweeps_it_is_said_what_measures_them() -> None:
    for name in ("hops", "cost"):
        found = verdict(name)
        assert found.verdict == NOT_MEASURED and "cwkit" in str(found.number)


# --- systems ------------------------------------------------------------------------------------


def test_reads_and_updates_are_compared_with_themselves_alone(systems: Make) -> None:
    found = costs(systems())
    assert {(one.kind, one.processes) for one in found} == {("read", 4), ("update", 4)}
    for one in found:
        assert one.ratio.value == pytest.approx({"read": 1.5, "update": 2.0}[one.kind], rel=0.02)


def test_one_writer_is_enough_where_nobody_commits_more(systems: Make) -> None:
    assert verdict("reads", systems=systems()).verdict == IN_PART
    assert verdict("reads").verdict == NOT_MEASURED


def test_one_writer_is_not_enough_where_another_commits_more(systems: Make) -> None:
    faster = systems(times=lambda s, k, m: transaction_us(s, k, m) / (9 if "postgres" in s else 1))
    found = verdict("reads", systems=faster)
    assert found.verdict == NOT
    assert "postgres autocommit, socket with 4 processes: 2.24 [" in str(found.number)


def test_row_locks_stand_beside_the_mode_and_what_is_broken_has_no_rate(systems: Make) -> None:
    measured = systems()
    ratios = {arm.point["system"]: ratio.value for arm, ratio in work_ratios(measured)}
    assert ratios["branch CONCURRENT, work"] == pytest.approx(1.5, rel=0.01)
    assert ratios["postgres SERIALIZABLE, work"] == pytest.approx(2.0, rel=0.01)
    assert LOST not in ratios
    assert broken(measured) == {
        "postgres READ COMMITTED": "whose check did not hold (lost updates)"
    }
    found = verdict("concurrent", systems=measured)
    assert found.verdict == IN_PART
    assert "postgres SERIALIZABLE commits 2.00 [2.00, 2.00] times" in str(found.number)


def test_the_cost_is_cpu_time_of_workers_and_server(systems: Make) -> None:
    found = verdict("cost", systems=systems())
    assert found.verdict == IN_PART
    # Four times as long on twice as many cores.
    assert re.search(r" 7\.98 \[7\.\d+, .*\] times libSQL's 4\.\d+ µs", str(found.number))
    assert "prices, memory, people" in str(found.number)


# --- the page and the row -----------------------------------------------------------------------


def evidence_of(tmp_path: Path, folders: tuple[Path, Path], **made: Any) -> Evidence:
    (folder := tmp_path / "runs").mkdir()
    systems = made_systems(tmp_path / "systems", **made) if made else folders[1]
    return read_evidence(folder, [folders[0], systems])


@pytest.mark.parametrize(
    ("factor", "expected", "says"),
    [
        (1.0, MORE, "For several writers at once with work inside"),
        (3.0, LESS, "Not for several writers at once"),
    ],
)
def test_the_row_says_when_postgresql_pays(
    tmp_path: Path, folders: tuple[Path, Path], factor: float, expected: str, says: str
) -> None:
    def times(system: str, kind: int, mix: str) -> float:
        slower = factor if kind == MODIFY and "postgres" in system else 1.0
        return slower * transaction_us(system, kind, mix)

    row = postgres_instead(
        evidence_of(tmp_path, folders, **({"times": times} if factor != 1 else {}))
    )
    assert row is not None
    assert (row.verdict, says in row.do) == (expected, True)
    assert "10 queries take 61.5 µs in the process" in row.why


def test_too_few_blocks_say_nothing_of_when_it_pays(
    tmp_path: Path, folders: tuple[Path, Path]
) -> None:
    row = postgres_instead(evidence_of(tmp_path, folders, blocks=3))
    assert row is not None and row.verdict == UNKNOWN


def test_the_page_has_both_sweeps_and_their_charts(
    tmp_path: Path, folders: tuple[Path, Path]
) -> None:
    (runs := tmp_path / "runs").mkdir()
    write_report(runs, tmp_path / "R.md", tmp_path / "published", folders)
    page = (tmp_path / "published" / "systems.md").read_text(encoding="utf-8")
    assert "| PostgreSQL (2.20 ms) | 2.36 ms | 23.6 ms |" in page
    assert "postgres READ COMMITTED: whose check did not hold (lost updates)" in page
    assert "| libsql autocommit | 4 | 1.50 [1.50, 1.50] | 2 [1.99, 2.02] |" in page
    for chart in ("hops", "systems-costs"):
        assert f"]({chart}.svg)" in page and (tmp_path / "published" / f"{chart}.svg").is_file()
    told = (tmp_path / "published" / "sweeps.md").read_text(encoding="utf-8")
    assert "Sweep `hops` is told on [the page of the systems](systems.md)" in told
    assert "## Sweep `hops`" not in told
    assert len(CLAIMS) == 9


@pytest.mark.parametrize(
    ("kept", "name", "value"),
    [
        ("params", "queries", "ten"),
        ("kinds", "", []),
        pytest.param("params", "queries", -1, marks=pytest.mark.slow),
        pytest.param("params", "rows", None, marks=pytest.mark.slow),
        pytest.param("plan", "network", "none that there is", marks=pytest.mark.slow),
    ],
)
def test_a_sweep_of_somebody_elses_that_lacks_something_is_told_without_it(
    tmp_path: Path, kept: str, name: str, value: Any
) -> None:
    sweeps = made_hops(tmp_path / "hops", blocks=1), made_systems(tmp_path / "systems", blocks=1)
    for path in (path for sweep in sweeps for path in sweep.glob("*/manifest.json")):
        manifest = json.loads(path.read_text(encoding="utf-8"))
        scenario = manifest["scenario"]
        {"params": scenario["params"], "kinds": {}, "plan": manifest["plan"]}[kept][name] = value
        scenario["kinds"] = value if kept == "kinds" else scenario["kinds"]
        manifest["plan"]["params"] = scenario["params"]
        path.write_text(json.dumps(manifest), encoding="utf-8")
    (runs := tmp_path / "runs").mkdir()
    write_report(runs, tmp_path / "R.md", tmp_path / "published", sweeps)
    page = (tmp_path / "published" / "systems.md").read_text(encoding="utf-8")
    assert "## A request over the network" in page and "nan" not in page
