"""A field of a plan is written once, and is then an option, a key of a sweep and of a manifest."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from analysis.cli import app
from analysis.cli.options import option_of, seconds_of
from analysis.cli.search import NOT_SEARCHED
from workloads.errors import PlanError
from workloads.records import RecordedPlan

ROOT = Path(__file__).resolve().parents[2]
FIELD = '    nap_ms: int = Field(7, ge=0, description="a nap that nobody takes, ms")\n'
SWEEP = """
name = "naps"
question = "Does a nap help?"
seed = 1
blocks = 2
control = false

[plan]
scenario = "counter"
database = "null"
writers = 1

[grid]
nap_ms = [1, 2]
"""
COMMANDS: Any = typer.main.get_command(app)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree with one line more, in the plan."""
    folder = tmp_path_factory.mktemp("tree")
    for room in ("workloads", "properties", "analysis"):
        leave = shutil.ignore_patterns("published")
        shutil.copytree(ROOT / room, folder / room, ignore=leave)
    plan = folder / "workloads" / "records" / "manifest.py"
    text = plan.read_text(encoding="utf-8")
    assert text.count("    mmap_bytes: int") == 1
    plan.write_text(text.replace("    mmap_bytes: int", f"{FIELD}    mmap_bytes: int"), "utf-8")
    return folder


def cwkit_of(copy: Path, *argv: str) -> str:
    line = [sys.executable, "-m", "analysis.cli", *argv]
    done = subprocess.run(line, cwd=copy, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("command", ["run", "search"])
def test_a_new_field_is_an_option_with_its_help(copy: Path, command: str) -> None:
    help_text = " ".join(cwkit_of(copy, command, "--help").split())
    assert "--nap-ms N a nap that nobody takes, ms [default: 7]" in help_text


def test_a_new_field_is_a_key_of_a_sweeps_file(copy: Path) -> None:
    (copy / "naps.toml").write_text(SWEEP, encoding="utf-8")
    assert "nap_ms: 1, 2" in cwkit_of(copy, "sweep", "naps.toml", "--dry-run")


def test_a_new_field_is_in_the_manifest(copy: Path) -> None:
    argv = ("--scenario", "counter", "--database", "null", "--writers", "1", "--nap-ms", "3")
    cwkit_of(copy, "run", *argv, "--duration", "0.1", "--warmup", "0")
    (manifest,) = (copy / "runs").glob("*/manifest.json")
    assert json.loads(manifest.read_text(encoding="utf-8"))["plan"]["nap_ms"] == 3


def test_run_has_every_field_with_a_description_and_search_all_that_it_does_not_set() -> None:
    fields = {name for name, field in RecordedPlan.model_fields.items() if field.description}
    for command, without in (("run", set[str]()), ("search", set(NOT_SEARCHED))):
        options = {option for one in COMMANDS.commands[command].params for option in one.opts}
        for name in fields:
            assert (option_of(name) in options) == (name not in without), f"{command}: {name}"


@pytest.mark.parametrize("text", ["3x", "", "1 day", "٣s", "1_000s", "s"])
def test_a_time_that_is_none_is_one_sentence(text: str) -> None:
    with pytest.raises(PlanError, match=r"^--warmup: .* is no time\. Give seconds, or a number"):
        seconds_of(text, "--warmup")
