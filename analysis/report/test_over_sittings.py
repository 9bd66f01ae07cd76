"""A report's claims over its sittings: what differs between them is seen, and nothing else is."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from analysis.cli import sittings as command
from analysis.cli.entry import main
from analysis.cli.sittings import refuse_sittings, seconds_apart
from analysis.report import measurements
from analysis.report.evidence import Evidence, read_evidence
from analysis.report.measurements import of_sitting
from analysis.report.over_sittings import Again, again, doubts, sentence, table
from analysis.report.report import write_report
from analysis.synthetic import Planted, edit
from workloads.errors import PlanError
from workloads.experiments import Design
from workloads.records import read_manifest, write_manifest

Sat = Callable[[Path, Sequence[float]], Evidence]

PLANTED: dict[tuple[int, float], Path] = {}
"""Number of a sitting, factor of the mode -> what was planted for it, once."""


@pytest.fixture
def sat(tmp_path_factory: pytest.TempPathFactory) -> Sat:
    """Makes a report with a sitting for each factor of the mode; each scatters in its own way."""

    def make(folder: Path, modes: Sequence[float]) -> Evidence:
        for number, mode in enumerate(modes, 1):
            if (number, mode) not in PLANTED:
                planted = Planted(tmp_path_factory.mktemp("sat"), noise=0.01 + 0.0005 * number)
                planted.headline(mode=mode)
                PLANTED[number, mode] = planted.folder / "headline"
            place = folder if number == 1 else folder / f"sitting-{number}"
            Planted(place).suite()
            # A file is written anew where a test changes it, and the links stay what they were.
            shutil.copytree(PLANTED[number, mode], place / "headline", copy_function=os.link)
        return read_evidence(folder)

    return make


def of_mode(evidence: Evidence) -> Again:
    (one,) = [
        one
        for one in again(evidence)
        if one.name == "headline: branch concurrent / branch immediate, throughput"
    ]
    return one


def test_sittings_that_agree_leave_the_interval_about_as_it_was(sat: Sat, tmp_path: Path) -> None:
    evidence = sat(tmp_path / "r", [1.6] * 4)
    one = of_mode(evidence)
    alone = one.first.ratio.high / one.first.ratio.low
    assert one.over.known and len(one.over.each) == 4
    assert one.over.high / one.over.low < 1.2 * alone
    assert one.stands is True and not one.turned and doubts(evidence) == []


def test_sittings_that_differ_widen_it_until_the_claim_does_not_stand(
    sat: Sat, tmp_path: Path
) -> None:
    evidence = sat(tmp_path / "r", [1.6, 1.0, 1.4, 0.8])
    one = of_mode(evidence)
    assert one.over.high / one.over.low > 1.5 * one.first.ratio.high / one.first.ratio.low
    assert one.stands is False and one.turned
    assert any(
        "Claimed in the first sitting, and not over 4 sittings" in d for d in doubts(evidence)
    )
    shown = table(again(evidence))
    assert shown is not None and any(row[-1] == "no" for row in shown.rows)


def test_two_sittings_give_a_range_and_one_gives_none(sat: Sat, tmp_path: Path) -> None:
    two = sat(tmp_path / "two", [1.6, 1.5])
    assert of_mode(two).stands is None and not of_mode(two).over.known
    assert "of fewer the range" in sentence(two, again(two))
    one = sat(tmp_path / "one", [1.6])
    assert again(one) == [] and sentence(one, []) == "" and table([]) is None


def test_the_method_tells_each_sitting_and_what_they_come_to(sat: Sat, tmp_path: Path) -> None:
    sat(tmp_path / "r", [1.6, 1.5, 1.7])
    write_report(tmp_path / "r", tmp_path / "R.md", tmp_path / "f")
    page = (tmp_path / "f" / "method.md").read_text(encoding="utf-8")
    assert "was measured in 3 sittings on one machine" in page
    assert "headline: branch concurrent / branch immediate, throughput | 1.60" in page
    assert "2 later sittings measured again" in (tmp_path / "R.md").read_text(encoding="utf-8")


def test_each_machine_of_a_sitting_counts_as_one(sat: Sat, tmp_path: Path) -> None:
    sat(tmp_path / "r", [1.6, 1.5])
    for path in (tmp_path / "r" / "sitting-2" / "headline").glob("b*/manifest.json"):
        if path.parent.name < "b05":
            manifest = edit(read_manifest(path.parent), machine={"id": "0123456789ab"})
            write_manifest(path.parent, manifest)
    one = of_mode(read_evidence(tmp_path / "r"))
    assert len(one.over.each) == 3 and one.over.known


def test_a_sitting_that_cannot_be_read_is_a_doubt(sat: Sat, tmp_path: Path) -> None:
    sat(tmp_path / "r", [1.6, 1.5])
    (tmp_path / "r" / "sitting-2" / "campaign.json").write_text("{", encoding="utf-8")
    evidence = read_evidence(tmp_path / "r")
    assert evidence.sittings == ()
    assert [line for line in evidence.unread if "The sitting sitting-2 is not told." in line]


# --- the command ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["", "1", "h", "-1h", "1e9h", "169h", "1d", "nan h", "9" * 40 + "s"]
)
def test_no_time_between_sittings_is_refused(text: str) -> None:
    with pytest.raises(PlanError, match="--apart"):
        seconds_apart(text)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ((0, None, None, False), "--sittings 0"),
        ((21, None, None, False), "from 1 to 20"),
        ((1, "1h", None, False), "is between sittings"),
        ((1, None, "tcp://x:1", False), "--dask"),
        ((2, None, None, True), "--only-write and --sittings"),
    ],
)
def test_options_that_mean_nothing_together_are_refused(given: Any, why: str) -> None:
    with pytest.raises(PlanError, match=why) as found:
        refuse_sittings(*given)
    assert "\n" not in str(found.value)


def test_a_sitting_asks_again_what_is_claimed_with_draws_of_its_own() -> None:
    asked = of_sitting(False, 7, 3, 4000.0)
    assert {"headline", "hot", "offered"} <= {design.name for design in asked}
    assert not {"acked", "mission", "fairness"} & {design.name for design in asked}
    assert {design.seed for design in asked} == {9}
    assert [design.name for design in of_sitting(True, 7, 2, None)] == ["headline"]


def test_sittings_are_measured_apart_interrupted_and_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    null = {"database": "null", "scenario": "counter", "writers": 1, "transactions": 50}
    tiny = {"duration_s": 5.0, "warmup_s": 0.0}

    def designs(quick: bool, seed: int) -> list[Design]:
        return [Design("two", "?", {"a": null | tiny}, blocks=6, seed=seed)]

    monkeypatch.setattr(measurements, "designs", designs)
    monkeypatch.setattr(measurements, "engine_names", lambda: ["null"])
    monkeypatch.setattr(measurements, "_isolation", lambda folder, quick, notify: None)
    monkeypatch.setattr(measurements, "_trials", lambda folder, quick, seed, notify: None)
    monkeypatch.chdir(tmp_path)

    def cwkit(*argv: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["cwkit", "report", "--quick", *argv])
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capsys.readouterr()
        return int(left.value.code or 0), out + err

    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(command, "rest", interrupted)
        status, out = cwkit("--sittings", "2", "--apart", "2h")
    assert status == 130, out
    (folder,) = (tmp_path / "runs").iterdir()
    assert "sitting 2 of 2 begins in 119 minutes" in out or "in 120 minutes" in out
    assert f"cwkit report --quick --into runs/{folder.name} --sittings 2 --apart 2h" in out
    assert (folder / "REPORT.md").exists() and not (folder / "sitting-2").exists()
    began = time.monotonic()
    status, out = cwkit("--into", f"runs/{folder.name}", "--sittings", "2", "--apart", "0s")
    assert status == 0 and time.monotonic() - began < 3600, out
    sitting = folder / "sitting-2"
    assert len(list((sitting / "two").glob("b0?-a"))) == 6
    assert "2 sittings" in (folder / "published" / "method.md").read_text(encoding="utf-8")
    shutil.rmtree(sitting / "two" / "b05-a")
    (sitting / "two" / "b05-a.cell.json").unlink()
    status, out = cwkit("--into", f"runs/{folder.name}", "--sittings", "2", "--apart", "2h")
    assert status == 0 and "begins in" not in out  # it had begun: it goes on at once
    assert len(list((sitting / "two").glob("b0?-a"))) == 6
