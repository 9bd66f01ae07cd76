"""Soaks: each kind of round, going on after an interruption, controls that are caught by name."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from properties.soaks import KINDS, Soak, Soaking, begin_soak, read_soak, resume_soak
from properties.soaks import draws as drawing
from properties.soaks import soaking as going
from properties.soaks.folder import LINES
from properties.soaks.watch import growth
from workloads.errors import EngineMissing, PlanError, RunError, UnknownName
from workloads.files import ROOT
from workloads.processes import fault_library, parse_rule

try:
    fault_library()
except EngineMissing as reason:
    pytestmark = pytest.mark.skip(reason=str(reason))


def soaked(folder: Path, rounds: int, engine: str = "sqlite", seconds: float = 0.2) -> Soak:
    return begin_soak(folder, asked_s=120, engines=(engine,), seconds=seconds, rounds=rounds)


def only(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Rounds of one kind, in one mode."""
    monkeypatch.setattr(drawing, "kind_of", lambda seed, visit, library: kind)
    monkeypatch.setattr(drawing, "target_of", lambda seed, n, engines: (engines[0], "immediate", n))


def found(soak: Soak) -> set[str]:
    return {one.kind for each in soak.broken for one in each.findings}


def test_a_soak_that_is_interrupted_goes_on_to_one_round_of_each_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "soak"
    monkeypatch.setattr(going, "LINE_EACH_S", 0.0)

    def interrupted(line: Soaking) -> None:
        if line.rounds == 2 and line.phase == "measuring":
            raise KeyboardInterrupt

    first = begin_soak(
        folder, asked_s=120, engines=("sqlite",), seconds=0.2, rounds=5, on_line=interrupted
    )
    assert (first.design.ended, len(first.rounds), first.set_aside) == ("interrupted", 2, 1)
    # As a killed process leaves it: a line that was cut, and a folder without a line.
    whole = (folder / LINES).read_bytes()
    (folder / LINES).write_bytes(whole + b'{"number": 2, "ki')
    (folder / "rounds" / "00002-run-sqlite-exclusive").mkdir()
    soak = resume_soak(folder)
    assert (soak.design.ended, len(soak.rounds), soak.set_aside) == ("done", 5, 2)
    assert (folder / LINES).read_bytes().startswith(whole)
    assert {one.kind for one in soak.rounds} == set(KINDS)
    assert not soak.broken, soak.broken
    for one in soak.rounds:
        note = "crash.json" if one.kind == "crash" else "manifest.json"
        assert (folder / "rounds" / one.folder / note).is_file()
    rows = soak.data()["rows"]
    assert sum(row["rounds"] for row in rows) == 5 and any(row["killed"] for row in rows)
    assert all(sum(row[key] for row in rows) > 0 for key in ("acknowledged", "states"))


def test_a_database_is_used_on_and_what_an_earlier_run_left_may_not_be_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, "reopen")
    sound = soaked(tmp_path / "soak", rounds=1)
    assert not sound.broken, sound.broken
    (database,) = tmp_path.glob("soak/kept/*/database.db")
    with sqlite3.connect(database) as connection:
        connection.execute("DELETE FROM account WHERE id = 1")
        for table in ("part", "entry"):
            connection.execute(f"DELETE FROM {table} WHERE (writer, number) = (0, 0)")
    connection.close()
    lost = again(tmp_path / "soak", rounds=2)
    assert {"lost", "torn"} <= found(lost), lost.broken
    assert "postings of earlier runs are there" in str(lost.broken[0].findings)
    # With a finding the database stays with its run, and the next one begins anew.
    assert (tmp_path / "soak" / "rounds" / lost.broken[0].folder / "database.db").exists()
    assert not list(tmp_path.glob("soak/kept/*"))


def again(folder: Path, rounds: int) -> Soak:
    """A soak that was over goes on to so many rounds."""
    path = folder / "soak.json"
    design = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(design | {"rounds": rounds}), encoding="utf-8")
    return resume_soak(folder)


@pytest.mark.parametrize(
    ("engine", "kind", "named", "seconds"),
    [
        ("faulty-lost-commit", "run", "lost", 0.2),
        pytest.param("faulty-lost-commit", "kill", "lost", 0.3, marks=pytest.mark.slow),
        pytest.param("faulty-lost-commit", "reopen", "lost", 0.3, marks=pytest.mark.slow),
        pytest.param("faulty-forgets", "crash", "lost", 0.2, marks=pytest.mark.slow),
        pytest.param("faulty-leaks-memory", "run", "leaks memory", 2, marks=pytest.mark.slow),
        pytest.param("faulty-leaks-descriptors", "run", "leaks descriptors", 2,
                     marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_a_broken_engine_is_caught_by_name(
    engine: str,
    kind: str,
    named: str,
    seconds: float,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    only(monkeypatch, kind)
    monkeypatch.setattr(drawing, "_scenario", lambda draw, kind: "ledger")
    soak = soaked(tmp_path / "soak", 1 if kind == "run" and named == "lost" else 3, engine, seconds)
    assert named in found(soak), soak.rounds


SERIES: dict[str, tuple[list[int], bool]] = {
    "a leak": ([1000 * n for n in range(30)], True),
    "a leak with noise": ([1000 * n + 300 * (n % 3) for n in range(30)], True),
    "a cache that fills": ([min(1000 * n, 12_000) for n in range(30)], False),
    "one jump": ([0] * 20 + [30_000] * 10, False),
    "nothing": ([5000] * 30, False),
    "up and down": ([20_000 * (n % 2) for n in range(30)], False),
    "too few looks": ([1000 * n for n in range(6)], False),
}


@pytest.mark.parametrize("name", list(SERIES))
def test_only_what_grows_in_proportion_to_commits_is_a_leak(name: str) -> None:
    values, leaks = SERIES[name]
    assert (growth([(10 * n, value) for n, value in enumerate(values)], 5000) > 0) is leaks


def test_the_same_seed_draws_the_same_rounds() -> None:
    facts, _ = drawing.engines_here(("sqlite", "faulty-lost-commit"))

    def drawn(seed: int) -> list[Any]:
        rest = {"seconds": 1.0, "library": True, "calls": {}, "chains": {}}
        return [drawing.draw_round(seed, number, facts, **rest) for number in range(12)]  # type: ignore[arg-type]

    one = drawn(1)
    assert one == drawn(1) != drawn(2)
    assert {each.kind for each in one} == set(KINDS)
    assert any(each.plan.fault for each in one if each.kind == "fault")


def test_no_fault_is_drawn_that_nobody_could_get_over() -> None:
    draw = random.Random(1)
    rules = [drawing._fault(draw, {"write *-wal": 90, "open *-wal": 1}, 2) for _ in range(300)]
    for rule in map(parse_rule, rules):
        assert rule.last is not None or rule.action in ("slow", "lie")
    assert {parse_rule(rule).action for rule in rules} >= {"fail", "short", "kill", "stop", "slow"}


def test_what_is_no_soak_is_refused_in_a_sentence(tmp_path: Path) -> None:
    for engine, why in (
        ("null", "embedded engines"),
        ("postgres", "embedded engines"),
        ("sqlit", "Did you mean 'sqlite'"),
    ):
        with pytest.raises((PlanError, UnknownName), match=why):
            begin_soak(tmp_path / "x", asked_s=1, engines=(engine,))
    with pytest.raises(RunError, match=r"no soak's folder"):
        read_soak(tmp_path)
    (tmp_path / "others").write_text("", encoding="utf-8")
    with pytest.raises(PlanError, match="holds something else"):
        begin_soak(tmp_path, asked_s=1, engines=("sqlite",))
    folder = tmp_path / "forged"
    folder.mkdir()
    (folder / "soak.json").write_text(
        '{"cwkit": 1, "seed": 1, "engines": ["sqlite"], "asked_s": 1, "seconds": 1}',
        encoding="utf-8",
    )
    line = {"number": 0, "kind": "run", "engine": "x", "mode": "y", "scenario": "z", "seed": 1}
    for forged in ({**line, "number": 1}, {**line, "acknowledged": -1}, {**line, "findings": 3}):
        (folder / LINES).write_text(json.dumps(forged) + "\n", encoding="utf-8")
        with pytest.raises(RunError, match=r"rounds\.jsonl"):
            read_soak(folder)


@pytest.mark.slow
def test_a_soak_that_is_killed_leaves_its_whole_rounds_and_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "soak"
    argv = [sys.executable, "-m", "analysis.cli", "soak", "--engines", "sqlite", "--minutes", "2",
            "--rounds", "6", "--seconds", "0.5", "--into", str(folder), "-q"]  # fmt: skip
    child = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while time.monotonic() < until and len(_lines(folder)) < 2:
        time.sleep(0.05)
    child.send_signal(signal.SIGKILL)
    assert child.wait(30) == -signal.SIGKILL
    before = _lines(folder)
    done = subprocess.run(
        [*argv[:4], "--into", str(folder), "-q"], cwd=ROOT, timeout=240, capture_output=True
    )
    assert done.returncode == 0, done
    assert _lines(folder)[: len(before)] == before and len(_lines(folder)) == 6


def _lines(folder: Path) -> list[bytes]:
    path = folder / LINES
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []
