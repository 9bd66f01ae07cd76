"""A manifest says which code ran: the checkout's, changed or not, and each file of the user's."""

import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from workloads.engines import trust
from workloads.runs import machine
from workloads.runs.conduct import run
from workloads.runs.plan import make_plan


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A copy of the kit's running half, to be changed."""
    skip = shutil.ignore_patterns("__pycache__", "*.so")
    there = Path(shutil.copytree(machine.SOURCES, tmp_path / "workloads", ignore=skip))
    monkeypatch.setattr(machine, "SOURCES", there)
    return there


def test_any_change_of_the_code_that_runs_is_another_source_and_a_test_is_none(tree):
    before = machine.source()
    changed = tree / "engines" / "sqlite.py"
    text = changed.read_bytes()
    changed.write_bytes(text + b"# slower\n")
    after = machine.source()
    changed.write_bytes(text + b"# faster\n")
    assert len({before, after, machine.source()}) == 3
    changed.write_bytes(text)
    (tree / "test_machine.py").write_text("pass\n")
    assert machine.source() == before
    (tree / "engines" / "new.py").write_text("pass\n")
    assert machine.source() != before


def test_the_manifest_tells_the_source_and_each_file_that_the_plan_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("engine", "scenario"):
        place = "engines.sqlite" if name == "engine" else "scenarios.counter"
        kind = "Sqlite" if name == "engine" else "Counter"
        Path(f"{name}.py").write_text(f"from workloads.{place} import {kind} as Mine\n")
    trust("scenario.py", "engine.py")
    plan = make_plan(
        scenario="scenario.py:Mine", database="engine.py:Mine", writers=1, transactions=3
    )
    assert plan.files() == ("engine.py", "scenario.py")
    recorded = run(plan, tmp_path / "runs").manifest.machine
    assert recorded.cwkit_source == machine.source()
    assert recorded.files == {name: machine.digest(Path(name)) for name in plan.files()}
    assert len(set(recorded.files.values())) == 2 and all(recorded.files.values())
    assert make_plan(database="sqlite").files() == ()


# --- what was waited for -----------------------------------------------------------------------


def pressure(folder: Path, **some_us: int) -> Path:
    folder.mkdir(exist_ok=True)
    for name, us in some_us.items():
        (folder / name).write_text(
            f"some avg10=1.00 avg60=0.50 avg300=0.10 total={us}\n"
            f"full avg10=0.00 avg60=0.00 avg300=0.00 total={us // 2}\n"
        )
    return folder


def test_pressure_is_the_share_of_the_time_since_the_meter_was_made(tmp_path, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    meter = machine.PressureMeter(pressure(tmp_path / "p", cpu=5_000_000, io=0, memory=7))
    clock[0] += 2.0
    pressure(tmp_path / "p", cpu=6_000_000, io=1_600_000, memory=7)
    assert meter.read() == {
        "cpu": {"some": 0.5, "full": 0.25},
        "io": {"some": 0.8, "full": 0.4},
        "memory": {"some": 0.0, "full": 0.0},
    }


def test_a_kernel_that_says_nothing_of_pressure_is_none_and_no_error(tmp_path, monkeypatch):
    assert machine.PressureMeter(tmp_path / "none").read() is None
    some = machine.PressureMeter(pressure(tmp_path / "p", cpu=1))
    (tmp_path / "p" / "io").write_text("some avg10=0.00 total=5\n")  # there only at the end
    found = some.read()
    assert found is not None and set(found) == {"cpu"}
    (tmp_path / "p" / "cpu").write_text("no such thing total=x\n")
    assert some.read() is None
    plan = make_plan(scenario="counter", database="null", writers=1, duration_s=0.2, warmup_s=0)
    monkeypatch.setattr(machine.PressureMeter.__init__, "__defaults__", (tmp_path / "none",))
    assert run(plan, tmp_path / "runs").manifest.pressure is None


def test_a_runs_manifest_has_the_pressure_of_its_window(tmp_path):
    plan = make_plan(scenario="counter", database="sqlite", writers=1, duration_s=0.3, warmup_s=0)
    found = run(plan, tmp_path).manifest.pressure
    assert (found is None) is (not machine.PRESSURE.is_dir())
    for shares in (found or {}).values():
        assert set(shares) <= {"some", "full"}
        assert all(0 <= share <= 1 for share in shares.values())


BURNS = (
    "import sys, time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\nsys.stdin.read()"
)
CARRIES = (
    "import subprocess, sys\n"
    "input()\n"
    f"child = subprocess.Popen([sys.executable, '-S', '-c', {BURNS!r}])\n"
    "print(flush=True)\n"
    "child.wait()\n"
)


def test_what_the_children_of_a_worker_use_is_the_run_s_own_and_not_foreign():
    # As a program of a bridge is.
    worker: Any = subprocess.Popen(
        [sys.executable, "-S", "-c", CARRIES],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        worker.stdin.write("\n")
        worker.stdin.flush()
        worker.stdout.readline()
        meter = machine.CpuMeter([worker.pid])
        worker.stdout.readline()  # it has used its time
        assert meter.read()["own_cpu_s"] >= 0.2
        worker.stdin.close()
        assert worker.wait(20) == 0
        assert meter.read()["own_cpu_s"] >= 0.2  # also when it is gone
    finally:
        worker.kill()
        worker.wait()
        worker.stdout.close()
