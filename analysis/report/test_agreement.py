"""Two reports agree where their claims do, and a planted contradiction is seen."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.cli.entry import main
from analysis.report.agreement import (
    FACTS_FILE,
    Fact,
    Facts,
    Held,
    Number,
    agree,
    agreement_sentences,
    facts_of_report,
    hold,
    read_facts,
)
from analysis.report.evidence import read_evidence
from analysis.synthetic import Planted
from workloads.errors import RunError


def made(folder: Path, noise: float = 0.01, **planted: dict[str, Any]) -> Path:
    """A small report's runs."""
    report = Planted(folder, noise=noise)
    report.headline(**planted.get("headline", {}))
    report.hot(**planted.get("hot", {}))
    report.suite()
    return folder


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("first") / "a")


def row_of(rows: list[Held], key: str, what: str = "") -> Held:
    (row,) = [row for row in rows if (row.key, row.what) == (key, what)]
    return row


def test_a_report_agrees_with_one_that_scatters_alike(first: Path, tmp_path: Path) -> None:
    here, there = read_facts(first), read_facts(made(tmp_path / "b", noise=0.012))
    rows = hold(here, there)
    assert agree(rows)
    mode = row_of(rows, "mode", "mode")
    assert (mode.here, mode.there, mode.overlap, mode.word) == ("more", "more", True, "agree")
    assert "The reports agree" in agreement_sentences(here, there, rows)[0]


def test_a_claim_that_is_turned_round_is_seen(first: Path, tmp_path: Path) -> None:
    other = read_facts(made(tmp_path / "b", headline={"mode": 0.6}))
    rows = hold(read_facts(first), other)
    assert not agree(rows)
    assert row_of(rows, "mode").opposite and row_of(rows, "mode", "mode").word == "opposite"
    assert any(row.opposite for row in rows if not row.key)


def test_an_interval_of_a_claim_that_is_apart_is_seen(first: Path, tmp_path: Path) -> None:
    other = read_facts(made(tmp_path / "b", headline={"mode": 1.9}))
    rows = hold(read_facts(first), other)
    mode = row_of(rows, "mode", "mode")
    assert not agree(rows) and not mode.opposite
    assert (mode.overlap, mode.word) == (False, "intervals apart")


def number(low: float | None, high: float | None, verdict: str = "") -> Number:
    return Number("x", verdict, 1.0, low, high, 10)


@pytest.mark.parametrize(
    ("here", "there", "verdict", "wanted"),
    [
        (number(1.1, 1.2, "more"), number(1.15, 1.3, "more"), "more", True),
        (number(1.1, 1.2, "more"), number(1.3, 1.4, "more"), "more", False),
        (number(1.1, 1.2, "more"), number(0.9, 1.15, "none"), "more", True),
        (number(0.9, 1.0, "none"), number(1.1, 1.2, "none"), "none", True),
        (number(1.1, 1.2, "more"), number(None, None, "unknown"), "more", True),
        (number(1.1, 1.2, "more"), number(0.8, 0.9, "less"), "none", False),
    ],
)
def test_only_claims_decide(here: Number, there: Number, verdict: str, wanted: bool) -> None:
    one = Facts([Fact("k", verdict, parts=[here])], [])
    other = Facts([Fact("k", verdict, parts=[there])], [])
    assert agree(hold(one, other)) is wanted
    assert agree(hold(other, one)) is wanted


def test_a_lost_promise_against_a_kept_one_is_opposite() -> None:
    rows = hold(
        Facts([Fact("lost-commits", "broken")], []),
        Facts([Fact("lost-commits", "kept")], []),
    )
    assert not agree(rows)
    assert agree(hold(Facts([Fact("lost-commits", "broken")], []), Facts([], [])))


def test_facts_are_kept_with_the_runs_and_are_those_of_the_folder(
    first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    other = made(tmp_path / "b", headline={"mode": 0.6})

    def cwkit(*argv: str) -> tuple[int, str]:
        monkeypatch.setattr(
            sys, "argv", ["cwkit", "report", "--only-write", "--out", "R.md", *argv]
        )
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capsys.readouterr()
        return int(left.value.code or 0), out + err

    place = ("--into", str(first), "--figures", "f")
    assert cwkit(*place)[0] == 0
    assert (
        read_facts(first / FACTS_FILE) == facts_of_report(read_evidence(first)) == read_facts(first)
    )
    status, out = cwkit(*place, "--against", str(other))
    assert status == 1 and "The reports do not agree" in out and "opposite" in out
    page = (first / "against.md").read_text(encoding="utf-8")
    assert "# Does `a` agree with `b`?" in page and "| opposite |" in page
    kept = json.loads((first / "against.json").read_text(encoding="utf-8"))
    assert kept["agree"] is False and any(row["opposite"] for row in kept["rows"])
    alike = tmp_path / "facts.json"
    alike.write_bytes((first / FACTS_FILE).read_bytes())
    status, out = cwkit(*place, "--against", str(alike))
    assert status == 0 and "The reports agree" in out
    for wrong, why in (
        (str(first), "is the report itself"),
        ("nowhere", "is no report's folder"),
        (str(first / "campaign.json"), "campaign.json"),
    ):
        status, out = cwkit(*place, "--against", wrong)
        assert (status, out.count("\n")) == (2, 1) and why in out, out


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def with_key(key: str, value: Any) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}), encoding="utf-8")

    return change


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (cut, "cannot be read"),
        (with_key("cwkit", 99), "later cwkit"),
        (with_key("findings", 3), "`findings`"),
        (with_key("told", [{"name": "x", "blocks": -1}]), "blocks"),
        (with_key("told", [{"name": "x", "low": 1e308}]), "low"),
    ],
)
def test_damaged_facts_are_refused_in_a_sentence(
    tmp_path: Path, damage: Callable[[Path], None], why: str
) -> None:
    path = tmp_path / "facts.json"
    path.write_text('{"cwkit": 1, "findings": [], "told": []}', encoding="utf-8")
    damage(path)
    with pytest.raises(RunError, match=why) as found:
        read_facts(path)
    assert "\n" not in str(found.value)
