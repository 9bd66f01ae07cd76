"""A run on a server that dies in it, and one on a server that somebody else runs."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from workloads.engines import POSTGRES_URL, Settings, find_engine, postgres_elsewhere, serving
from workloads.engines.postgres import Postgres
from workloads.engines.postgres_server import read_address
from workloads.files import made
from workloads.runs import SERVER_ENDED, Progress, make_plan, run

ENGINE = find_engine("postgres")
pytestmark = pytest.mark.skipif(ENGINE.missing() is not None, reason=f"{ENGINE.missing()}")
SERVED = {"scenario": "counter", "database": "postgres", "begin": "serializable", "writers": 2}
SHORT: dict[str, Any] = {**SERVED, "duration_s": 0.3, "warmup_s": 0.05, "synchronous": "off"}
LIMIT_S = 30.0


def test_a_run_whose_server_dies_keeps_what_it_measured_and_leaves_nothing(tmp_path: Path) -> None:
    family: list[psutil.Process] = []

    def kill(progress: Progress) -> None:
        if progress.phase == "measuring" and progress.committed and not family:
            (server,) = (p for p in psutil.Process().children() if p.name() == "postgres")
            family.extend([server, *server.children()])
            server.send_signal(signal.SIGQUIT)

    found = run(make_plan(**{**SHORT, "duration_s": 20}), tmp_path, on_progress=kill)
    manifest = found.manifest
    assert manifest.ended.startswith(f"{SERVER_ENDED}: ") and not manifest.ok
    assert "its server ended" in manifest.unchecked and manifest.under_way is None
    assert sum(len(worker.rows) for worker in found.workers) > 0
    assert family and psutil.wait_procs(family, timeout=LIMIT_S)[1] == []


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
