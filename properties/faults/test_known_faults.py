"""What an engine is known to do under a fault: when a test here fails, the engine has mended it."""

from __future__ import annotations

from pathlib import Path

import pytest

from properties.faults import StoryResult
from workloads.engines import find_engine
from workloads.errors import EngineMissing
from workloads.processes import fault_library
from workloads.runs import make_plan, run

try:
    fault_library()
except EngineMissing as reason:
    pytestmark = pytest.mark.skip(reason=str(reason))

MENDED = "pyturso keeps nothing of a COMMIT any more whose sync failed: tell it so, and delete this"


@pytest.mark.parametrize(("engine", "keeps"), [("turso", True), ("sqlite", False)])
def test_a_commit_whose_sync_fails_is_refused_and_kept_by_turso_alone(
    tmp_path: Path, engine: str, keeps: bool
) -> None:
    if why := find_engine(engine).missing():
        pytest.skip(why)
    log = "log" if engine == "turso" else "wal"
    plan = make_plan(
        scenario="ledger", database=engine, begin="immediate", synchronous="full", writers=1,
        transactions=6, duration_s=20, warmup_s=0, fault=f"sync:*-{log}:4:EIO",
    )  # fmt: skip
    made = run(plan, tmp_path)
    assert [one.fired for one in made.manifest.faults] == [1]
    (refused,) = (one for one in made.manifest.findings if one.check == "refused postings")
    assert refused.ok != keeps, MENDED
    assert made.manifest.ok != keeps
    result = StoryResult("commit-calls", engine, "immediate", 0)
    result.add(made)
    assert result.known == (["a refused COMMIT that is kept"] if keeps else [])
    assert len(result.found) == len(result.known)
