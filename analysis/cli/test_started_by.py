"""One sweep started by `cwkit sweep`, by pytest and by dask, on the same CPU: the same numbers."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from analysis.counting import Measured, gather
from analysis.statistics import Ratio
from workloads.cluster.local import LocalCluster
from workloads.experiments import read_experiment
from workloads.files import ROOT

SWEEP = """
question = "Do three ways of conducting it agree?"
blocks = 6
baseline = "think_us 0"

[plan]
scenario = "counter"
database = "sqlite"
writers = 1
duration_s = 0.4
warmup_s = 0.1

[grid]
think_us = [0, 200]
"""

CONFINED = """
import os, runpy, sys
os.sched_setaffinity(0, [int(sys.argv[1])])
module = sys.argv[2]
del sys.argv[1:3]
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


def _ratio(measured: Measured, arm: str) -> Ratio:
    return measured.ratio(measured.arms[arm], measured.arms["think_us 0"])


@pytest.mark.slow
def test_whoever_starts_a_sweep_gets_the_same_ratios_within_their_intervals(tmp_path):
    cpu = max(os.sched_getaffinity(0))
    file = tmp_path / "ways.toml"
    file.write_text(SWEEP)

    def run(started_by: str, module: str, *argv: str) -> Path:
        into = tmp_path / started_by
        subprocess.run(
            [sys.executable, "-c", CONFINED, str(cpu), module, *argv, "--into", str(into)],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            timeout=300,
            check=True,
        )
        return into

    folders = [
        run("plain", "analysis.cli", "sweep", str(file)),
        run("pytest", "pytest", "workloads", "-q", "--sweep", str(file), "-n", "1"),
    ]
    with LocalCluster(tmp_path / "cluster") as cluster:
        cluster.worker("only", [cpu])
        cluster.registered("only")
        folders.append(run("dask", "analysis.cli", "sweep", str(file), "--dask", cluster.address))
    # Other programs disturb all three alike: who starts a run is on trial here, not the machine.
    each = {path.name: gather(read_experiment(path), foreign_limit=1.0) for path in folders}
    for name, measured in each.items():
        starters = {
            cell.manifest.conduct.started_by for cell in measured.cells.values() if cell.manifest
        }
        assert starters == {"sweep" if name == "plain" else name}
        assert [place[1] for place in measured.places] == [1]
    thinks = {name: _ratio(m, "think_us 200") for name, m in each.items()}
    again = {name: _ratio(m, "think_us 0 again") for name, m in each.items()}
    texts = {name: (thinks[name].text(), again[name].text()) for name in each}
    for ratios in (thinks, again):
        for one, other in itertools.combinations(ratios.values(), 2):
            assert max(one.low, other.low) <= min(one.high, other.high), texts
    # Ratios that do differ don't pass for the same.
    for one, other in itertools.product(thinks.values(), again.values()):
        assert one.high < other.low, texts
