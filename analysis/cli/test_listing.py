"""`cwkit list` shows every folder that it can, and of each other one why it cannot."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from analysis.cli.test_forged import run_cwkit
from analysis.synthetic import drawn_run, made_experiment, write_folder
from workloads.records.test_attempts import FORGED, write_rows, write_run

OTHERS = {
    "experiment.json": ("pipe", "cut", "folder"),
    "campaign.json": ("pipe", "cut"),
    "search.json": ("cut", "folder"),
    "hunt.json": ("cut", "folder"),
    "crash.json": ("cut", "pipe"),
    "faults.json": ("cut", "folder"),
}


def test_no_damaged_folder_stops_the_others_from_being_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    runs = tmp_path / "runs"
    runs.mkdir()
    write_folder(drawn_run(1), runs / "a first")
    write_folder(drawn_run(1), runs / "z last")
    made_experiment(runs / "y sweep", {"one": {}}, lambda arm, block: drawn_run(block), blocks=1)
    bad = set()
    for number, (forgery, (harm, _)) in enumerate(FORGED.items()):
        folder = write_run(runs / f"f{number:02}")
        write_rows(folder, 4)
        if not forgery.endswith("00 workers"):  # a manifest of 80 MB takes its time
            harm(folder)
            bad.add(folder.name)
    for name, kinds in OTHERS.items():
        for kind in kinds:
            folder = runs / f"o-{name[:2]}-{kind}"
            folder.mkdir()
            make: Any = {"pipe": os.mkfifo, "cut": _cut, "folder": Path.mkdir}[kind]
            make(folder / name)
            bad.add(folder.name)
    (runs / "o-loop").symlink_to("o-loop")
    (runs / "o-file").touch()
    status, out, err = run_cwkit(capsys, ["list"])
    assert status == 0 and not err
    lines = {line[:12].strip(): line for line in out.splitlines() if line[:1].strip()}
    assert (
        "ok" in lines["a first"] and "ok" in lines["z last"] and "1 of 1 cells" in lines["y sweep"]
    )
    # In some only the attempts are damaged, which a list does not read.
    unread = {name for name, line in lines.items() if "unreadable" in line}
    assert {name for name in bad if name.startswith("o-")} <= unread
    assert len(unread) > 30 and unread <= bad
    assert not {"o-loop", "o-file"} & set(lines)


def _cut(path: Path) -> None:
    path.write_text('{"cwkit": 1, "exp', encoding="utf-8")


def test_a_campaign_that_is_not_over_is_listed_with_what_goes_on_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in (("crash", '{"cwkit": 1}'), ("hunt", '{"cwkit": 1, "ended": "running"}')):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / f"{name}.json").write_text(text, encoding="utf-8")
    _, out, _ = run_cwkit(capsys, ["list"])
    assert "unfinished: cwkit crash --into runs/crash" in " ".join(out.split())
    assert "running, or killed" in out
    for name, why in (("crash", "is not over"), ("hunt", "still runs")):
        status, out, err = run_cwkit(capsys, ["show", name])
        assert status == 2 and not out and why in err
