"""The house keeps its rules: imports run downwards, and the README says what the code does."""

import ast
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer

from analysis.cli import app
from analysis.report.report import MOST_LINES
from analysis.test_rooms import told
from workloads.engines import REGISTRY as ENGINES
from workloads.engines import trust
from workloads.runs import make_plan
from workloads.scenarios import find_scenario
from workloads.scenarios.scenario import REGISTRY as SCENARIOS

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
FLOORS = {"workloads": 0, "properties": 1, "analysis": 2}
COMMANDS: Any = typer.main.get_command(app)


@pytest.mark.parametrize("package", list(FLOORS))
def test_imports_run_downwards_only(package):
    seen = 0
    for path in (ROOT / package).rglob("*.py"):
        for node in told(path.read_text(encoding="utf-8")).imports:
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                names = [node.module] if node.module else []
            for name in names:
                top = name.split(".")[0]
                if top in FLOORS:
                    seen += 1
                    assert FLOORS[top] <= FLOORS[package], f"{path} imports {name}"
    assert seen


def test_no_path_is_resolved_in_the_way_that_links_in_a_circle_break():
    for package in FLOORS:
        for path in (ROOT / package).rglob("*.py"):
            for line in path.read_text(encoding="utf-8").splitlines():
                if ".resolve()" in line and "__file__" not in line and "test_" not in path.name:
                    raise AssertionError(f"{path}: use workloads.files.resolved: {line.strip()}")


def test_every_file_says_its_place_in_the_story():
    for package in FLOORS:
        for path in (ROOT / package).rglob("*.py"):
            story = told(path.read_text(encoding="utf-8")).story
            assert story, f"{path} does not open with its place in the story"


def test_the_readme_lists_every_engine_and_every_scenario():
    for name in ENGINES:
        assert f"`{name}`" in README, f"README.md does not name the engine {name}"
    for name in SCENARIOS:
        story = find_scenario(name).story
        assert f"| `{name}` | {story} |" in README, f"README.md does not tell the scenario {name}"


def readme_commands():
    """Each `cwkit …` of the README, in its tables, in its text and at its prompts."""
    found = re.findall(r"`(cwkit [a-z][^`]*)`", README)
    found += re.findall(r"^(?:\$ (?:\.venv/bin/)?)?(cwkit [a-z].*)$", README, re.MULTILINE)
    return sorted(dict.fromkeys(found))


@pytest.mark.parametrize("line", readme_commands())
def test_every_command_of_the_readme_is_one(line):
    name, *argv = shlex.split(line.partition(";")[0])[1:]
    if name == "COMMAND":
        return
    command = COMMANDS.commands[name]
    if not argv:
        return  # named in a sentence, not to be typed as it stands
    context = command.make_context(name, [w for w in argv if w != "…"], resilient_parsing=False)
    if name == "run":
        renamed = {"duration": "duration_s", "warmup": "warmup_s", "deadline": "deadline_s"}
        renamed |= {"load_limit": "load_limit_s", "check_limit": "check_limit_s"}
        params = ("rows", "record_bytes", "operations", "think_us", "think", "keys")
        other = {"runs", "databases", "keep_database", "set_", "retry", "most_tries"}
        other |= {"quiet", "as_json", "save", "schema", "tx", "check", "define", "scale"}
        other |= {"from_db", "foreign_limit"}
        values = {
            renamed.get(key, key): value
            for key, value in context.params.items()
            if value is not None and key not in (*params, *other) and not key.startswith("retry_")
        }
        given = {key: context.params[key] for key in params if context.params[key] is not None}
        trust(context.params["scenario"])
        make_plan(**values, params=given)


def test_the_readme_has_commands_to_try():
    assert len(readme_commands()) > 8


def test_the_readme_shows_the_example_scenario_as_it_is():
    source = (ROOT / "examples" / "scenario_wallet.py").read_text(encoding="utf-8")
    assert source.strip() in README


def test_what_the_report_links_to_is_published_and_nothing_else_is():
    published = ROOT / "analysis" / "published"
    there = {path for path in published.rglob("*") if path.is_file()}
    linked = set()
    for page in (ROOT / "REPORT.md", *published.glob("*.md")):
        for place in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            if (to := (page.parent / place).resolve()).is_relative_to(published):
                linked.add(to)
    assert linked == there


@pytest.mark.skipif(
    not (ROOT / "analysis" / "published" / "method.md").exists(),
    reason="the committed report was written before reports had pages",
)
def test_the_committed_report_is_short():
    assert len((ROOT / "REPORT.md").read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def test_a_bench_that_misses_its_target_stops_no_other(tmp_path):
    (tmp_path / "python").write_text("#!/bin/sh\ncase $1 in *checker*) exit 1;; esac\n")
    (tmp_path / "python").chmod(0o755)
    command = ["make", "-o", "ready", "bench", f"venv={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    run = [line.removeprefix("== ") for line in done.stdout.splitlines() if line[:3] == "== "]
    assert run == sorted(
        path.relative_to(ROOT).as_posix() for path in ROOT.glob("tools/bench/b*.py")
    )
    assert len(run) >= 3 and done.returncode == 2  # make's own word for a recipe that failed


def test_the_readme_has_no_gap_left_to_fill():
    assert not re.findall(r"\b[A-Z]+_(?:OUTPUT|ROWS|FILE)\b", README)
