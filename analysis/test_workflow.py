"""The workflow of docs/ci.md is one, its gates fail where they must, and its steps run."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from analysis.cli.init import STARTER
from analysis.test_house import COMMANDS, ROOT, files_of
from workloads.experiments import read_sweep

FILES = files_of("docs/ci.md")
FLOW: dict[Any, Any] = yaml.safe_load(FILES[".github/workflows/concurrent-writes.yml"])
SWEEP = FILES["bench/sweep.toml"]
JOB = FLOW["jobs"]["gate"]
STEPS: dict[str, dict[str, Any]] = {
    step.get("name", step.get("uses")): step for step in JOB["steps"]
}
RUNS = {name: step["run"] for name, step in STEPS.items() if "run" in step}
LIMIT_S = 300


def test_it_is_a_workflow_of_pinned_actions_that_may_only_read_and_has_a_limit() -> None:
    assert set(FLOW) == {"name", True, "permissions", "jobs"}  # YAML reads the key `on` as True
    assert FLOW[True] == {"pull_request": None} and FLOW["permissions"] == {"contents": "read"}
    assert JOB["timeout-minutes"] <= 60 and re.fullmatch(r"ubuntu-\d\d\.04", JOB["runs-on"])
    for step in JOB["steps"]:
        assert ("run" in step) != ("uses" in step)
        assert set(step) <= {"name", "uses", "with", "run", "env", "if", "working-directory"}
        if "uses" in step:
            assert re.fullmatch(r"actions/[a-z-]+@v\d+\.\d+\.\d+", step["uses"])
        else:  # what a pull request may choose comes by the environment, never into a script
            assert "${{" not in step["run"]


@pytest.mark.parametrize("name", list(RUNS))
def test_each_step_is_bash_and_its_commands_are_ours(
    name: str, pytestconfig: pytest.Config
) -> None:
    subprocess.run(["bash", "-n"], input=RUNS[name], text=True, check=True, timeout=20)
    for line in RUNS[name].splitlines():
        program, *argv = shlex.split(line.partition(" ||")[0].partition(" >>")[0])
        if program == "cwkit":
            COMMANDS.commands[argv[0]].make_context(argv[0], argv[1:])
        elif program == "pytest":
            parser: Any = pytestconfig._parser
            assert not parser.parse_known_and_unknown_args(argv)[1], line
        elif program == "make":
            assert argv == ["-C", "cwkit", "setup"]


@pytest.mark.parametrize(("status", "left"), [(0, 0), (1, 1), (2, 2), (3, 0)])
def test_the_gate_ends_as_compare_does_and_warns_where_it_cannot_be_decided(
    status: int, left: int, tmp_path: Path
) -> None:
    (tmp_path / "cwkit").write_text(f"#!/bin/sh\nexit {status}\n")
    (tmp_path / "cwkit").chmod(0o755)
    done = step("Not slower", tmp_path, {"PATH": f"{tmp_path}:{os.defpath}"})
    assert done.returncode == left
    assert ("::warning::" in done.stdout) == (status == 3)


def test_its_sweep_compares_the_files_of_init_on_two_sides(tmp_path: Path) -> None:
    for side in ("base", "head"):
        shutil.copytree(STARTER, tmp_path / side)
    (tmp_path / "sweep.toml").write_text(SWEEP, encoding="utf-8")
    design = read_sweep(tmp_path / "sweep.toml").design
    assert list(design.arms) == ["base", "head", "base again"] and design.baseline == "base"


def step(name: str, where: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """A step as GitHub runs it where its shell is bash."""
    script = where / ".step.sh"
    script.write_text(RUNS[name], encoding="utf-8")
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)],
        cwd=where,
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )


SLOW = ("-- Work that", "\\sleep 5 ms\n-- Work that")
"""A pull request that is slower."""

TWICE = ("VALUES (:item, :quantity);", "VALUES (:item, :quantity), (:item, 0);")
"""A pull request that notes each sale twice, which the check sees."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "status"), [(("-- Work", "-- The work"), 0), (SLOW, 1), (TWICE, 1)]
)
def test_the_steps_run_and_a_pull_request_that_is_slower_or_wrong_is_refused(
    tmp_path: Path, change: tuple[str, str], status: int
) -> None:
    here = tmp_path / "application"
    shutil.copytree(STARTER, here / "bench")
    # Short runs, and no limit on what others use: they are beside other tests.
    sweep = SWEEP.replace("duration_s = 3", "duration_s = 0.2").replace("= 0.5", "= 0.05")
    sweep = sweep.replace("blocks = 10", "blocks = 6")
    (here / "bench" / "sweep.toml").write_text(sweep, encoding="utf-8")
    git(here, "init", "-q", "-b", "main")
    commit(here)
    git(here, "checkout", "-q", "-b", "change")
    sell = here / "bench" / "sell.sql"
    text = sell.read_text(encoding="utf-8")
    assert change[0] in text
    sell.write_text(text.replace(*change), encoding="utf-8")
    commit(here)
    env = {"BASE": "main", "PATH": f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}"}
    for name in list(RUNS)[1:3]:
        done = step(name, here, env)
        assert done.returncode == (status if change == TWICE and "Measure" in name else 0), done
    assert (here / "gate" / "base" / "sell.sql").read_text(encoding="utf-8") == text
    with pytest.MonkeyPatch.context() as patch:
        gate = RUNS["Not slower"].replace(" --junit", " --foreign-limit 1 --junit")
        patch.setitem(RUNS, "Not slower", gate)
        done = step("Not slower", here, env)
    assert done.returncode == status, done.stdout + done.stderr
    assert (here / "gates.xml").is_file() and (here / "runs" / "gate" / "cells.csv").is_file()
    if status == 0:
        done = step("A history of this run is serializable", here, env)
        assert done.returncode == 0 and "valid: serializable holds" in done.stdout, done


def git(where: Path, *argv: str) -> None:
    subprocess.run(["git", *argv], cwd=where, check=True, timeout=60, capture_output=True)


def commit(where: Path) -> None:
    git(where, "add", "-A")
    git(where, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "files")
