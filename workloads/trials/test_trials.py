"""A trial is measured in a process of its own, and what was measured is kept."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from workloads.engines import sqld_server
from workloads.errors import RunError, UnknownName
from workloads.files import ROOT
from workloads.processes import read_last_words
from workloads.trials import files, items, measure, measurement, older, read, read_manifest, replica

LIMIT_S = 60.0


@pytest.fixture
def server() -> None:
    """A skip that says why there is no sqld here."""
    if why := sqld_server.why_missing():
        pytest.skip(why)


@pytest.fixture
def no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in the place of .build/sqld."""
    place = tmp_path / "build"
    place.mkdir()
    monkeypatch.setattr(sqld_server, "BUILD", place)
    return place


def job(folder: Path, home: Path, **more: object) -> dict[str, object]:
    for place in (folder, home):
        place.mkdir()
    manifest = {"folder": str(folder), "home": str(home), "quick": True, "seed": 1, "blocks": 6}
    manifest["trial"] = "replica"
    return manifest | more


@pytest.mark.parametrize("why", ["", "npm could not fetch it: E404.\n"], ids=["never", "failed"])
def test_a_missing_server_is_one_sentence_with_the_way_out(
    no_server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    if why:
        (no_server / "why-missing.txt").write_text(why)
    assert measurement.main([json.dumps(job(tmp_path / "served", tmp_path / "home"))]) == 0
    measured = read(tmp_path / "served")
    assert measured.blocks == 0
    assert measured.manifest["ended"] == "missing"
    assert measured.manifest["failure"] == (
        f"libSQL's server, sqld, is missing: {why.strip().rstrip('.') or 'it was never fetched'}. "
        "Get it with: make setup"
    )


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("killed", ["the measuring process", "its parent"])
def test_everything_ends_with_a_process_that_is_killed(tmp_path: Path, killed: str) -> None:
    program = "import sys; from workloads.trials import measure; from pathlib import Path; "
    program += "measure('replica', Path(sys.argv[1]))"
    top = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "served")],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    below: list[psutil.Process] = []
    try:
        limit = time.monotonic() + LIMIT_S
        while len(below) < 4 and time.monotonic() < limit and top.poll() is None:
            below = psutil.Process(top.pid).children(recursive=True)
        assert len(below) == 4, "the measuring process, the server and two others did not start"
        (measuring,) = psutil.Process(top.pid).children()
        victim = measuring.pid if killed == "the measuring process" else top.pid
        os.kill(victim, signal.SIGKILL)
        _, alive = psutil.wait_procs(below, timeout=LIMIT_S)
        assert not alive
    finally:
        if killed == "its parent" or not below:
            top.kill()
        top.wait(LIMIT_S)
    if killed == "the measuring process":
        manifest = read_manifest(tmp_path / "served")
        assert (manifest["ended"], manifest["failure"]) == ("failed", "signal 9 (SIGKILL)")


@pytest.mark.usefixtures("server")
def test_one_block_is_measured_checked_and_kept(tmp_path: Path) -> None:
    folder = tmp_path / "served"
    manifest = measure("replica", folder, blocks=1, seed=3)
    assert manifest["ended"] == "done", manifest
    assert all(check["ok"] for check in manifest["checks"]), manifest["checks"]
    assert len(manifest["checks"]) == 3
    assert (
        manifest["pragmas"]["local"]["synchronous"] == manifest["pragmas"]["server"]["synchronous"]
    )
    measured = read(folder)
    assert measured.blocks == 1
    assert {arm: each.shape[1:] for arm, each in measured.ns.items()} == older.ARMS
    # The engine's promises, on any machine: sync() fetches, and one's own write is seen.
    assert all(row["seen_after_sync"] and row["own_seen"] for row in measured.rows[0])
    assert len(measured.rows[0]) == replica.TRIALS
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert measure("replica", folder, blocks=1) == manifest
    assert before == {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_what_takes_too_long_is_ended_and_said(tmp_path: Path) -> None:
    manifest = measure("replica", tmp_path / "replica", blocks=1, limit_s=0.0)
    assert manifest["ended"] == "failed"
    assert manifest["failure"] == "not done after 0 s"


def test_what_the_measuring_process_wrote_before_it_died_is_kept(tmp_path: Path) -> None:
    why = measurement._apart({"folder": "?"}, tmp_path, 60)
    assert why.startswith("exit status 1: ")
    assert "Traceback" in read_last_words(tmp_path / "trial.stderr")


def test_a_cut_attempt_is_kept_beside_the_next(tmp_path: Path) -> None:
    folder = tmp_path / "served"
    for number in (1, 2):
        files.Written(folder, {"cwkit": 1, "trial": "x", "ended": "running", "seed": number})
        files.set_aside(folder)
    assert not folder.exists()
    assert [read_manifest(tmp_path / f"served.{n}")["seed"] for n in (1, 2)] == [1, 2]


GOOD = {"local": (7, items.ROWS), "server": (9, items.ROWS), "replica": (9, items.ROWS)}


@pytest.mark.parametrize(
    ("planted", "whole", "broken"),
    [
        ({}, "ok", []),
        ({"local": (6, items.ROWS)}, "ok", ["acknowledged writes, local"]),
        ({"server": (10, items.ROWS)}, "ok", ["acknowledged writes, server", "replica"]),
        ({"replica": (8, items.ROWS)}, "ok", ["replica"]),
        ({"replica": (9, items.ROWS - 1)}, "ok", ["replica"]),
        ({}, "row 3 missing from index", ["replica"]),
    ],
    ids=["nothing", "a lost write", "a write twice", "an old replica", "a lost row", "corrupt"],
)
def test_the_checks_find_what_is_planted(
    planted: dict[str, tuple[int, int]], whole: str, broken: list[str]
) -> None:
    found = replica.judged(GOOD | planted, {"local": 7, "server": 9}, whole)
    assert [check["check"] for check in found if not check["ok"]] == broken


def kept(folder: Path, blocks: int = 2, ended: str = "done") -> Path:
    written = files.Written(
        folder, {"cwkit": 1, "trial": "x", "ended": "running", "arms": {"read": [3, 2]}}
    )
    for block in range(blocks):
        written.keep(
            {"read": np.full((3, 2), block + 1)},
            [{"seen": True}],
            {"cpu_share": 0, "steal_share": 0},
        )
    written.note(ended=ended)
    return folder


def test_a_block_that_was_cut_off_is_none(tmp_path: Path) -> None:
    folder = kept(tmp_path / "x", 2, "running")
    with (folder / files.BLOCKS).open("ab") as file:
        file.write(b'{"ns":{"read":[[1,')
    measured = read(folder)
    assert measured.blocks == 2
    assert measured.ns["read"][:, 0, 0].tolist() == [1, 2]
    assert [list(rows) for rows in measured.rows] == [[{"seen": True}]] * 2


DAMAGES = {
    "another shape": (files.BLOCKS, lambda text: text.replace(b"[[1,1],", b"[[1],", 1)),
    "a time of 0": (files.BLOCKS, lambda text: text.replace(b"[[1,1],", b"[[0,1],", 1)),
    "an arm less": (files.BLOCKS, lambda text: text.replace(b'"read"', b'"none"', 1)),
    "no JSON": (files.BLOCKS, lambda text: b"{\n" + text),
    "cut": (files.BLOCKS, lambda text: text[:-5]),
    "no text": (files.MANIFEST, lambda text: b"\xff"),
    "a huge shape": (files.MANIFEST, lambda text: text.replace(b"3", b"999999999")),
    "a later version": (files.MANIFEST, lambda text: text.replace(b'"cwkit": 1', b'"cwkit": 99')),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_folder_is_one_sentence(tmp_path: Path, damage: str) -> None:
    folder = kept(tmp_path / "x")
    name, change = DAMAGES[damage]
    before = (folder / name).read_bytes()
    (folder / name).write_bytes(change(before))
    assert (folder / name).read_bytes() != before
    with pytest.raises(RunError, match=r"later cwkit|cut|edited"):
        read(folder)


def test_an_unknown_trial_gets_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="Did you mean 'replica'"):
        measure("replicas", tmp_path / "x")
    assert not (tmp_path / "x").exists()
