"""A command starts with what it uses: help and the list load no numbers, pictures or engines."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import typer

from analysis.cli import app, listing
from analysis.cli.campaigns import FAULTS
from analysis.cli.command import COMMANDS
from analysis.report import SUITE_FILE
from analysis.search import SEARCH
from analysis.synthetic import drawn_run, write_folder
from properties.crashes import DESIGN as CRASH
from properties.hunter import HUNT
from properties.soaks import SOAK
from workloads.experiments import NOTE, Design, begin
from workloads.records import MANIFEST

HEAVY = (
    *("scipy", "matplotlib", "pyarrow", "jinja2", "distributed", "dask", "hypothesis", "pytest"),
    *("libsql_experimental", "turso", "apsw", "sqlite3"),
)
"""Packages that no list and no help needs."""

ASKED = """
import json, os, sys
from analysis.cli import main
for argv in json.loads(sys.argv[1]):
    if not (child := os.fork()):
        sys.argv = ["cwkit", *argv]
        try:
            main()
        finally:
            print(json.dumps(sorted(sys.modules)), file=sys.stderr)
    if os.waitpid(child, 0)[1]:
        sys.exit(f"{argv} failed")
"""


def loaded(*commands: Sequence[str]) -> list[set[str]]:
    """The modules after each command: in a process of its own, forked before any has begun."""
    line = [sys.executable, "-c", ASKED, json.dumps(commands)]
    done = subprocess.run(line, capture_output=True, text=True, check=True, timeout=120)
    found = [set(json.loads(line)) for line in done.stderr.splitlines()]
    assert len(found) == len(commands)
    return found


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run and an experiment."""
    folder = tmp_path_factory.mktemp("starting")
    write_folder(drawn_run(1, per_s=80, seconds=0.3, writers=1, engine="null"), folder / "one")
    begin(Design("tiny", "How many?", {"null": {"database": "null"}}, 1, 1), folder / "tiny")
    return folder


def test_help_loads_no_command() -> None:
    (found,) = loaded(["--help"])
    assert not sorted(found & {*HEAVY, "numpy", "pydantic", "rich"})
    modules = {f"analysis.cli.{line.function.partition(':')[0]}" for line in COMMANDS.values()}
    assert not sorted(found & modules)


def test_the_list_loads_no_numbers(runs: Path) -> None:
    (found,) = loaded(["list", "--runs", str(runs)])
    assert not sorted(found & {*HEAVY, "numpy"})


@pytest.fixture(scope="module")
def helps(made_once: Callable[..., Path]) -> dict[str, set[str]]:
    """The modules after the help of each command."""

    def make(folder: Path) -> None:
        each = map(sorted, loaded(*([name, "--help"] for name in COMMANDS)))
        (folder / "helps.json").write_text(json.dumps(dict(zip(COMMANDS, each, strict=True))))

    told = json.loads((made_once("helps", make) / "helps.json").read_text())
    return {name: set(modules) for name, modules in told.items()}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_loads_no_numbers(command: str, helps: dict[str, set[str]]) -> None:
    found = helps[command]
    assert not sorted(found & {*HEAVY, "numpy", "psutil"})
    # The options of a plan are made from its model; no other help needs one of ours.
    models = {"workloads.records.manifest", "workloads.scenarios.shape"}
    assert found & models == (models if command in ("advise", "run", "search") else set())


def test_a_run_is_shown_and_a_history_judged_without_what_draws_and_reports(runs: Path) -> None:
    heavy = {*HEAVY, "scipy.stats"} - {"scipy"}
    history = runs / "h.jsonl"
    history.write_text('{"type": "invoke", "process": 0, "f": "txn", "value": [["append", 1, 1]]}')
    shown, judged = loaded(["show", str(runs / "one")], ["check", str(history)])
    assert not sorted(shown & {*heavy, "analysis.report.report"})
    assert not sorted(judged & heavy)


def test_every_line_of_the_table_is_a_command() -> None:
    built: Any = typer.main.get_command(app)
    for name, line in COMMANDS.items():
        assert built.commands[name].help == line.help


def test_the_list_knows_a_folder_by_the_names_that_the_rooms_give() -> None:
    assert set(listing.KINDS) == {NOTE, SUITE_FILE, MANIFEST, SEARCH, HUNT, CRASH, SOAK, FAULTS}
