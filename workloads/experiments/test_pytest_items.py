"""pytest runs a sweep's cells: distributed, selected, run again, in the command's own folder."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from workloads.experiments.experiment import read_experiment
from workloads.experiments.pytest_items import SweepItems
from workloads.experiments.sweep import read_sweep

ROOT = Path(__file__).resolve().parents[2]
CPUS = len(os.sched_getaffinity(0))
LIMIT_S = 240
SWEEP = """\
question = "Does it run?"
name = "tiny"
blocks = 1
control = false
[plan]
scenario = "counter"
transactions = 200
writers = 2
duration_s = 30
[[system]]
name = "sound"
database = "null"
[[system]]
name = "broken"
database = "faulty-lost-commit"
[[system]]
name = "refused"
begin = "concurrent"
"""


@pytest.fixture
def run(tmp_path):
    """Runs pytest on a sweep in a process of its own: its status and what it printed."""
    (tmp_path / "tiny.toml").write_text(SWEEP, encoding="utf-8")

    def run_pytest(*argv: str) -> tuple[int, str]:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "workloads", "--no-header", "-v"),
                *("--sweep", str(tmp_path / "tiny.toml"), "--into", str(tmp_path / "e")),
                *("-o", f"cache_dir={tmp_path / 'cache'}", *argv),
            ],
            cwd=ROOT,
            env={k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")},
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )
        return done.returncode, done.stdout + done.stderr

    return run_pytest


def test_pytest_runs_the_cells_of_a_sweep_and_nothing_else(run, tmp_path):
    over = ["--oversubscribe"] if CPUS < 2 else []
    status, out = run("-n", "2", *over)
    assert status == 1, out
    assert "1 failed, 1 passed, 1 skipped" in out, out
    assert "committed increments" in out and "syntax error" in out
    assert "Traceback" not in out and f"cwkit show {tmp_path / 'e'}" in out
    made = read_experiment(tmp_path / "e")
    states = {arm: cell.state for (_, arm), cell in made.cells.items()}
    assert states == {"sound": "done", "broken": "failed", "refused": "refused"}
    assert list(made.design.arms) == list(read_sweep(tmp_path / "tiny.toml").design.arms)
    conducts = [cell.read().manifest.conduct for cell in made.cells.values() if cell.folder]
    assert all(conduct.started_by == "pytest" and conduct.jobs == 2 for conduct in conducts)
    assert all(len(conduct.cpus) == max(CPUS // 2, 1) for conduct in conducts)
    assert not (tmp_path / "e" / ".cwkit-templates").exists()

    # Again: what is finished is not run again, and a failure stays one.
    before = {path: path.read_text() for path in (tmp_path / "e").glob("*.cell.json")}
    status, out = run("-k", "b00/sound or broken")
    assert status == 1 and "1 failed, 1 passed, 1 deselected" in out
    assert "b00/sound DONE BEFORE" in out and "committed increments" in out
    assert {path: path.read_text() for path in (tmp_path / "e").glob("*.cell.json")} == before
    # --lf runs the failed one again, and keeps the earlier one.
    status, out = run("--lf")
    assert status == 1 and "1 failed" in out and "passed" not in out
    changed = {path.name for path, text in before.items() if path.read_text() != text}
    assert changed == {"b00-broken.cell.json"}
    assert (tmp_path / "e" / "earlier" / "b00-broken.1" / "manifest.json").exists()


def test_pytest_takes_the_name_of_a_shipped_sweep(run):
    status, out = run("--sweep", "planted-slowdown", "--collect-only", "-q")
    assert status == 0 and "b00/slower" in out, out


@pytest.mark.parametrize(
    ("sweep", "why"),
    [
        ("planted-slow", "Did you mean 'planted-slowdown'?"),
        ("tiny.toml", "tiny.toml, line 3: there is no key 'blcks' here."),
    ],
)
def test_a_sweep_that_cannot_be_read_is_an_error_of_usage(sweep, why, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("tiny.toml").write_text(SWEEP.replace("blocks", "blcks"), encoding="utf-8")
    config: Any = SimpleNamespace(getoption={"--sweep": sweep}.get)
    with pytest.raises(pytest.UsageError) as caught:
        SweepItems(config)
    assert why in str(caught.value)


def test_what_pytest_cannot_run_is_one_sentence(run, tmp_path):
    status, out = run("-n", str(CPUS + 1))
    assert status == 4 and "--oversubscribe" in out and not (tmp_path / "e").exists()
    assert out.strip().splitlines()[-1].startswith(f"ERROR: {CPUS + 1} workers (-n) at a time")
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "app.py").touch()
    status, out = run()
    assert status == 4 and "is not empty (it holds 'app.py')" in out and "Traceback" not in out
    assert [path.name for path in (tmp_path / "e").iterdir()] == ["app.py"]
