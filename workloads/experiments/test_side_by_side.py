"""Cells side by side: CPUs of their own, and nothing lost whoever is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from workloads.engines import trust
from workloads.errors import PlanError
from workloads.experiments import cpus as parting
from workloads.experiments.conduct import run_experiment
from workloads.experiments.cpus import slots
from workloads.experiments.experiment import Design, read_experiment
from workloads.records import read_manifest
from workloads.runs import CpuMeter

FAST = {"scenario": "counter", "writers": 1, "duration_s": 0.05, "warmup_s": 0, "database": "null",
        "params": {"think_us": 1000, "think": "sleep"}}  # fmt: skip
ALLOWED = sorted(os.sched_getaffinity(0))
LIMIT_S = 60


def design(**changes: Any) -> Design:
    arms = {f"null {n}": {**FAST, "writers": n} for n in (1, 2)}
    values: dict[str, Any] = {"name": "t", "question": "?", "arms": arms, "blocks": 2, "seed": 4}
    return Design(**values | changes)


def until(true: Callable[[], Any]) -> None:
    """Wait for something that another process does; fail where it does not come."""
    end = time.monotonic() + LIMIT_S
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def machine_of(monkeypatch: pytest.MonkeyPatch, cpus: set[int]) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: cpus)


def test_each_cell_gets_cpus_of_its_own(monkeypatch):
    machine_of(monkeypatch, {0, 1, 2, 3, 4})
    parted, over = slots(2)
    assert not over
    assert [len(slot) for slot in parted] == [2, 2]
    assert not set(parted[0]) & set(parted[1])
    assert len(parting.spare(parted)) == 1
    assert slots(1) == ([(0, 1, 2, 3, 4)], False)
    assert [len(slot) for slot in slots(5)[0]] == [1] * 5
    assert [len(slot) for slot in slots(2, cpus_each=1)[0]] == [1, 1]


@pytest.mark.parametrize("jobs", [0, 6])
def test_more_cells_than_cpus_are_refused(monkeypatch, jobs):
    machine_of(monkeypatch, {0, 1, 2, 3, 4})
    with pytest.raises(PlanError) as caught:
        slots(jobs)
    assert "\n" not in str(caught.value)
    with pytest.raises(PlanError, match="--oversubscribe"):
        slots(3, cpus_each=2)
    parted, over = slots(6, oversubscribe=True)
    assert over and len(parted) == 6 and all(len(slot) == 1 for slot in parted)
    with pytest.raises(PlanError, match="cannot have more"):
        slots(1, cpus_each=9, oversubscribe=True)
    with pytest.raises(PlanError, match="at least one CPU"):
        slots(2**63, cpus_each=-1)
    with pytest.raises(PlanError, match="at most 320 cells of 1 CPUs share 5 CPUs"):
        slots(2**63, oversubscribe=True)


def test_jobs_run_side_by_side_each_on_its_cpus(tmp_path):
    jobs = 2
    over = len(ALLOWED) < jobs
    seen: list[tuple[int, str]] = []
    made = run_experiment(
        design(blocks=1),
        tmp_path / "e",
        jobs=jobs,
        oversubscribe=True,
        started_by="sweep",
        command="cwkit sweep t",
        watch=lambda block, arm, progress: seen.append((block, arm)),
    )
    assert made.complete and made.cells == read_experiment(tmp_path / "e").cells
    parted = {tuple(slot) for slot in slots(jobs, oversubscribe=True)[0]}
    used = set()
    for cell in made.cells.values():
        manifest = cell.read().manifest
        assert manifest.ok, manifest
        conduct = manifest.conduct
        assert (conduct.started_by, conduct.jobs, conduct.oversubscribed) == ("sweep", jobs, over)
        assert manifest.command == "cwkit sweep t"
        assert all(worker.cpus == conduct.cpus for worker in manifest.workers)
        assert "conductor_cpu_s" in manifest.foreign.data()
        used.add(conduct.cpus)
    assert used <= parted
    assert seen and set(seen) <= set(made.cells)
    assert not (tmp_path / "e" / ".cwkit-templates").exists()


def test_one_cell_at_a_time_runs_on_as_many_cpus_as_were_asked_for(tmp_path):
    asked = design(blocks=1, arms={"null": FAST})
    for cpus_each, wanted in ((1, list(slots(1, cpus_each=1)[0][0])), (0, ALLOWED)):
        made = run_experiment(asked, tmp_path / str(cpus_each), cpus_each=cpus_each)
        manifest = made.cells[0, "null"].read().manifest
        assert list(manifest.conduct.cpus) == wanted
        assert all(list(worker.cpus) == wanted for worker in manifest.workers)
    assert sorted(os.sched_getaffinity(0)) == ALLOWED
    own = design(arms={"null": {**FAST, "cpus": ALLOWED[:1]}})
    with pytest.raises(PlanError, match="says on which CPUs it runs"):
        run_experiment(own, tmp_path / "own", cpus_each=1)
    assert not (tmp_path / "own").exists()


def test_oversubscription_is_in_every_manifest(tmp_path):
    jobs = len(ALLOWED) + 1
    with pytest.raises(PlanError, match="--oversubscribe"):
        run_experiment(design(), tmp_path / "e", jobs=jobs)
    assert not (tmp_path / "e").exists()
    asked = design(blocks=1, arms={"null": FAST})
    made = run_experiment(asked, tmp_path / "e", jobs=jobs, oversubscribe=True)
    assert made.complete and all(
        cell.read().manifest.conduct.oversubscribed for cell in made.cells.values()
    )


def test_arms_with_cpus_of_their_own_do_not_run_side_by_side(tmp_path):
    arms = {"here": {**FAST, "cpus": [ALLOWED[0]]}}
    with pytest.raises(PlanError, match="says on which CPUs"):
        run_experiment(design(arms=arms), tmp_path / "e", jobs=2, oversubscribe=True)


def test_a_confined_run_is_measured_on_its_own_cpus_only():
    cpu = ALLOWED[0]
    burning = "import os, sys\nos.sched_setaffinity(0, {int(sys.argv[1])})\n"
    burning += "print(flush=True)\nwhile True: pass"
    argv = [sys.executable, "-c", burning, str(cpu)]
    stranger = subprocess.Popen(argv, stdout=subprocess.PIPE)
    try:
        assert stranger.stdout is not None
        stranger.stdout.readline()
        confined, whole = CpuMeter([], (cpu,)), CpuMeter([], conductor=stranger.pid)
        begun = time.monotonic()
        while (there := confined.read())["total_cpu_s"] < 0.5:
            assert time.monotonic() - begun < LIMIT_S
            time.sleep(0.05)
        took, everywhere = time.monotonic() - begun, whole.read()
    finally:
        stranger.kill()
        stranger.communicate()
    # One CPU's time, in steps of 10 ms, and all of it somebody's: the stranger's or another's.
    assert there["total_cpu_s"] == pytest.approx(took, abs=0.1 + 0.1 * took)
    assert there["cpu_share"] + there["steal_share"] > 0.8
    cpus = psutil.cpu_count()
    assert everywhere["total_cpu_s"] == pytest.approx(cpus * took, rel=0.3)
    assert 0 < everywhere["conductor_cpu_s"] <= took + 0.1


PLANTED = """
import os, sys
from workloads.scenarios.counter import Counter

if sys.argv[0].endswith("cell.py"):
    os.kill(os.getpid(), 9)

class Killer(Counter):
    pass
"""


def test_a_cell_whose_process_is_killed_is_a_failure_and_the_rest_goes_on(tmp_path):
    (tmp_path / "killer.py").write_text(PLANTED)
    trust(tmp_path / "killer.py")
    arms = {
        "killed": {**FAST, "scenario": f"{tmp_path}/killer.py:Killer"},
        "refused": {**FAST, "database": "sqlite", "begin": "concurrent"},
        "sound": FAST,
    }
    made = run_experiment(
        design(arms=arms, blocks=1), tmp_path / "e", jobs=2, oversubscribe=True, started_by="sweep"
    )
    states = {arm: cell.state for (_, arm), cell in made.cells.items()}
    assert states == {"killed": "failed", "refused": "refused", "sound": "done"}
    assert "signal 9" in made.cells[0, "killed"].reason


CONDUCT = """
import json, signal, sys
from pathlib import Path
from workloads.experiments import Design, run_experiment

def terminated(number, frame):
    raise KeyboardInterrupt

signal.signal(signal.SIGTERM, terminated)
folder, jobs, asked = Path(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3])
try:
    run_experiment(Design(**asked), folder, jobs=jobs, oversubscribe=True)
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.parametrize(
    ("jobs", "how"),
    [(1, signal.SIGKILL), (2, signal.SIGKILL), (2, signal.SIGTERM)],
    ids=["alone killed", "beside killed", "beside terminated"],
)
def test_a_conductor_that_is_killed_goes_on_where_it_was(tmp_path, jobs, how):
    # The arm "long" is always cut: it would take longer than this test has.
    asked: dict[str, Any] = {
        "name": "t",
        "question": "?",
        "arms": {"short": FAST, "long": {**FAST, "duration_s": 3 * LIMIT_S}},
        "blocks": 1,
        "seed": next(s for s in range(99) if first(s) == "short"),
    }
    folder = tmp_path / "e"
    argv = [sys.executable, "-c", CONDUCT, str(folder), str(jobs), json.dumps(asked)]
    conductor = subprocess.Popen(argv, process_group=0)
    try:
        until((folder / "b00-short.cell.json").exists)
        until(lambda: list((folder / "b00-long").glob("worker-000.npy")))
        family = psutil.Process(conductor.pid).children(recursive=True)
        assert len(family) >= jobs
        before = (folder / "b00-short.cell.json").read_text()
        conductor.send_signal(how)
        assert conductor.wait(LIMIT_S) == (-9 if how == signal.SIGKILL else 130)
    finally:
        if conductor.poll() is None:
            conductor.kill()
            conductor.wait()
    # Resumed at once: what is left of the cut cell must not disturb the new one.
    asked["arms"] = {"short": FAST, "long": {**FAST, "duration_s": 0.05}}
    data = json.loads((folder / "experiment.json").read_text())
    (folder / "experiment.json").write_text(json.dumps(data | {"arms": asked["arms"]}))
    said_of_it: list[str] = []
    made = run_experiment(
        Design(**asked), folder, jobs=jobs, oversubscribe=True, notify=said_of_it.append
    )
    assert made.complete
    assert made.cells[0, "long"].read().manifest.ended == "duration"
    assert (folder / "b00-short.cell.json").read_text() == before
    there = {path.name for path in folder.iterdir() if path.is_dir()}
    assert there - {"earlier"} == {"b00-long", "b00-short"}
    # The cut cell's run is kept, finished, and reported, unless it had measured nothing.
    kept = list((folder / "earlier").glob("*"))
    assert all(run.name == "b00-long.1" for run in kept)
    assert all(read_manifest(run).under_way is None for run in kept)
    assert all(str(run) in said_of_it[0] for run in kept)
    _, alive = psutil.wait_procs(family, timeout=LIMIT_S)
    assert not alive, alive


def first(seed: int) -> str:
    return Design("t", "?", {"short": {}, "long": {}}, 1, seed).order()[0][0]


def test_the_database_is_loaded_once_for_all_processes(tmp_path):
    loads = tmp_path / "loads"
    (tmp_path / "loud.py").write_text(
        "from workloads.scenarios.counter import Counter\n"
        "class Loud(Counter):\n"
        "    def load(self, session, rng):\n"
        f"        open({str(loads)!r}, 'a').write('loaded ')\n"
        "        super().load(session, rng)\n"
    )
    scenario = f"{tmp_path}/loud.py:Loud"
    trust(scenario)
    arms = {f"a{n}": {**FAST, "database": "sqlite", "scenario": scenario} for n in range(2)}
    made = run_experiment(design(arms=arms, blocks=1), tmp_path / "e", jobs=2, oversubscribe=True)
    assert [cell.state for cell in made.cells.values()] == ["done"] * 2
    assert loads.read_text() == "loaded "
    assert not Path(tmp_path / "e" / ".cwkit-templates").exists()
