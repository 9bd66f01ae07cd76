"""A run is the same run whether its processes are forked or started by exec."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workloads.engines import engine_names, find_engine, trust
from workloads.errors import PlanError
from workloads.processes import StartMethod, can_fork
from workloads.records import RecordedPlan, Run
from workloads.runs import make_plan, run

METHODS: tuple[StartMethod, StartMethod] = ("fork", "exec")
TIMES = ("intended_ns", "start_ns", "begun_ns", "worked_ns", "end_ns", "within")

ENGINES = [name for name in engine_names() if not name.startswith("faulty-")]
ENGINES += ["faulty-lost-commit", "faulty-stale-read"]  # found broken whichever way
SLOW = (
    *("sqlite", "sqlite-latest", "faulty-stale-read"),
    *("libsql-0.1", "libsql-replica", "postgres"),
)
"""Only with --slow: by exec a run takes a second. Another engine here has the same library, or the
same way to it, or breaks a check as well, or has a server that each process is told of."""

USER = """
import os
from workloads.scenarios.counter import Counter

with open({path!r}, "a") as file:
    print(os.getpid(), file=file)

class Mine(Counter):
    name = "mine"
"""


def made(folder: Path, method: StartMethod, **values: Any) -> Run:
    plan = make_plan(
        **{"scenario": "counter", "writers": 1, "transactions": 200, "duration_s": 60} | values,
        start=method,
    )
    return run(plan, folder / method)


def without_times(one: Run) -> list[np.ndarray]:
    kept = [name for name in one.workers[0].attempts.dtype.names or () if name not in TIMES]
    return [worker.attempts[kept] for worker in one.workers]


@pytest.mark.parametrize(
    "engine",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in ENGINES],
)
def test_both_make_the_same_rows_and_findings(tmp_path: Path, engine: str) -> None:
    if (why := find_engine(engine).missing()) is not None:
        pytest.skip(why)
    forked, execed = (made(tmp_path, method, database=engine, seed=7) for method in METHODS)
    for ours, theirs in zip(without_times(forked), without_times(execed), strict=True):
        assert len(ours) == 200 and np.array_equal(ours, theirs)
    both = [one.manifest.model_dump(mode="json") for one in (forked, execed)]
    for manifest, method in zip(both, METHODS, strict=True):
        assert manifest["plan"].pop("start") == method
    for name in ("plan", "engines", "scenario", "layout", "seed", "ended", "ok", "machine"):
        assert both[0][name] == both[1][name], name
    for key in ("role", "engine", "state", "account", "pragmas", "cpus"):
        assert [w.get(key) for w in both[0]["workers"]] == [w.get(key) for w in both[1]["workers"]]


def test_another_seed_makes_other_rows(tmp_path: Path) -> None:
    """The negative control: what is compared above can differ."""
    bank = {"scenario": "bank", "database": "null"}
    first, second = (
        made(tmp_path / str(seed), "fork", **bank, seed=seed, writers=2) for seed in (1, 2)
    )
    drawn = [
        np.concatenate([worker.attempts[["kind", "result"]] for worker in one.workers])
        for one in (first, second)
    ]
    assert not np.array_equal(drawn[0], drawn[1])


@pytest.mark.parametrize("method", METHODS)
def test_a_users_file_is_loaded_by_each_process_for_itself(
    tmp_path: Path, method: StartMethod
) -> None:
    (tmp_path / "mine.py").write_text(USER.format(path=str(tmp_path / "loaded")))
    trust(tmp_path / "mine.py")
    plan = {"scenario": f"{tmp_path}/mine.py:Mine", "database": "sqlite", "writers": 2}
    assert made(tmp_path, method, **plan).manifest.ok
    loaded = (tmp_path / "loaded").read_text().split()
    assert len(set(loaded)) == len(loaded)


def test_how_it_started_is_in_the_plan_and_an_older_one_started_by_exec() -> None:
    assert make_plan().start == ("fork" if can_fork() else "exec")
    assert RecordedPlan.model_validate({"scenario": "bank"}).start == "exec"


def test_where_nothing_can_be_forked_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workloads.runs.plan.can_fork", lambda: False)
    with pytest.raises(PlanError, match="Give --start exec"):
        make_plan(start="fork")
    assert make_plan(start="exec").start == "exec"
