"""A run on a server: its CPU time, its death in the run, and one that somebody else runs."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from workloads.engines import POSTGRES_URL, Settings, find_engine, postgres_elsewhere, serving
from workloads.engines.postgres import Postgres
from workloads.engines.postgres_server import read_address
from workloads.errors import PlanError
from workloads.files import made
from workloads.records import COMMITTED, Run
from workloads.runs import SERVER_ENDED, Progress, make_plan, run

ENGINE = find_engine("postgres")
here = pytest.mark.skipif(ENGINE.missing() is not None, reason=f"{ENGINE.missing()}")
SERVED = {"scenario": "counter", "database": "postgres", "begin": "serializable", "writers": 2}
SHORT: dict[str, Any] = {**SERVED, "duration_s": 0.3, "warmup_s": 0.05, "synchronous": "off"}
LIMIT_S = 30.0


@here
@pytest.mark.slow
def test_the_command_of_a_run_whose_server_dies_says_so_ends_with_status_2_and_leaves_nothing(
    tmp_path: Path, cwkit: Callable[..., Any]
) -> None:
    family: list[psutil.Process] = []
    over = threading.Event()

    def kill() -> None:
        while not over.wait(0.05):
            found = next(tmp_path.glob("runs/*/manifest.json"), None)
            if found is None or "measuring" not in found.read_text(encoding="utf-8"):
                continue
            (server,) = (p for p in psutil.Process().children() if p.name() == "postgres")
            family.extend([server, *server.children()])
            server.send_signal(signal.SIGQUIT)
            return

    thread = threading.Thread(target=kill)
    thread.start()
    options = ["--scenario", "counter", "--begin", "serializable", "--duration", "30"]
    done = cwkit("run", "--database", "postgres", *options, "--runs", tmp_path / "runs")
    over.set()
    thread.join()
    assert done.returncode == 2 and f"ended early: {SERVER_ENDED}" in done.stdout
    assert "Traceback" not in done.stderr
    assert family and psutil.wait_procs(family, timeout=LIMIT_S)[1] == []


@here
def test_a_run_on_somebody_elses_server_says_what_that_has_and_leaves_no_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with made("test", within=Path("/tmp")) as place:
        with serving(ENGINE, place / "lent.db", Settings(synchronous="off")):
            address = read_address(place / "lent.db")
            url = f"postgresql://cwkit:{address.password}@127.0.0.1:{address.port}/cwkit"
            monkeypatch.setenv(POSTGRES_URL, url)
            for kept in (postgres_elsewhere._why, postgres_elsewhere._looked_at):
                kept.cache_clear()
            plan = make_plan(**{**SHORT, "synchronous": "full"}, network="rtt=0")
            found = run(plan, tmp_path, keep_database=True)
            one = Postgres().connect(str(place / "lent.db"))
            left = one.rows("SELECT 1 FROM pg_namespace WHERE nspname LIKE 'cwkit%'")
            one.close()
    manifest = found.manifest
    assert manifest.ok and left == []
    assert manifest.server is not None and manifest.server.fsync == "off"  # whatever was asked
    assert "somebody else runs" in manifest.database_kept
    assert manifest.network is not None and manifest.network.connections == 2
    for path in found.folder.rglob("*"):
        assert address.password.encode() not in path.read_bytes(), path


# --- libSQL's server, and either -----------------------------------------------------------------

MIXED: dict[str, Any] = {"database": "libsql-remote", "read_engine": "libsql-replica", "readers": 1}


def measured(
    tmp_path: Path, on_progress: Callable[[Progress], None] | None = None, **plan: Any
) -> Run:
    if why := find_engine(plan["database"]).missing():
        pytest.skip(why)
    asked = {"scenario": "acked", "writers": 2, "duration_s": 0.6, "warmup_s": 0.1} | plan
    return run(make_plan(**asked), tmp_path / "runs", databases=tmp_path, on_progress=on_progress)


def server_of(tmp_path: Path) -> psutil.Process:
    """The server of the run under way, by its address."""
    (home,) = tmp_path.glob("cwkit-run-*")
    address = json.loads((home / "database.db").read_text(encoding="utf-8"))
    return psutil.Process(address["pid"])


def test_writers_at_the_server_and_readers_of_replicas_share_a_database(tmp_path: Path) -> None:
    one = measured(tmp_path, **MIXED)
    assert one.manifest.ok
    assert not one.manifest.broken and not one.manifest.unmade
    for worker in one.workers:
        assert (worker.attempts["outcome"] == COMMITTED).any()
    assert [worker.begin for worker in one.workers] == ["immediate", "immediate", "readonly"]
    assert {entry.file_format for entry in one.manifest.engines.values()} == {"sqld"}
    has_its_servers_cpu_time(one)


def has_its_servers_cpu_time(one: Run) -> None:
    foreign = one.manifest.foreign
    assert foreign.server_cpu_s is not None
    assert 0 < foreign.server_cpu_s <= foreign.own_cpu_s + 0.02  # ticks of a child's children


@pytest.mark.slow
def test_the_cpu_time_of_every_process_of_a_server_is_the_runs_own(tmp_path: Path) -> None:
    has_its_servers_cpu_time(measured(tmp_path, database="postgres"))


@pytest.mark.parametrize(
    "name", ["libsql-remote", pytest.param("postgres", marks=pytest.mark.slow)]
)
def test_a_server_that_dies_ends_the_run_with_what_it_had_and_nothing_acknowledged_is_lost(
    tmp_path: Path, name: str
) -> None:
    killed: list[psutil.Process] = []

    def kill(progress: Progress) -> None:
        if progress.phase == "measuring" and progress.committed > 20 and not killed:
            killed.append(server_of(tmp_path))
            killed[0].kill()

    one = measured(tmp_path, kill, database=name, duration_s=30, synchronous="full")
    assert killed
    assert one.manifest.ended.startswith(f"{SERVER_ENDED}: signal 9 (SIGKILL)")
    assert not one.manifest.ok and not one.manifest.broken and not one.manifest.unmade
    # What progress counts is of readers as well.
    assert sum(int((w.attempts["outcome"] == COMMITTED).sum()) for w in one.workers) > 20
    assert list(tmp_path.glob("cwkit-run-*")) == []


def test_what_a_server_cannot_is_refused_in_words(tmp_path: Path) -> None:
    del tmp_path
    if why := find_engine("libsql-remote").missing():
        pytest.skip(why)
    with pytest.raises(PlanError, match="libsql-remote checkpoints by itself"):
        make_plan(database="libsql-remote", checkpointers=1)
    with pytest.raises(PlanError, match="cannot share one database file"):
        make_plan(database="libsql-remote", read_engine="libsql", readers=1)
