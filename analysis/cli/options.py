"""Options that several commands take, and what becomes of their values."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workloads.errors import PlanError

if TYPE_CHECKING:
    from workloads.records import RecordedPlan

RUNS = Path("runs")

RunsOption = Annotated[Path, typer.Option("--runs", help="folder that holds the runs")]
DatabasesOption = Annotated[
    Path | None,
    typer.Option(help="folder for the database while the run goes on (default: a temporary one)"),
]

LoadOption = Annotated[
    list[Path] | None,
    typer.Option("--load", metavar="FILE.py", help="load this file of yours, which it names"),
]
"""A folder may come from anybody: a file that only the folder names is never loaded."""


def load_files(paths: Sequence[Path], plans: Sequence[RecordedPlan]) -> None:
    """Have the files of --load loaded where one of these plans names them.

    Raises PlanError for a file that none of them names: the option would do nothing.
    """
    from workloads.engines import path_of, trust

    named = {path_of(name) for plan in plans for name in (plan.scenario, *plan.engines())} - {None}
    for path in paths:
        if path.resolve() not in named:
            there = ", ".join(sorted(map(str, named))) or "none"
            raise PlanError(f"--load {path}: nothing names this file. The files named: {there}.")
    trust(*paths)


def command_line() -> str:
    """The command that this process was started with, as a user would type it."""
    return shlex.join(["cwkit", *sys.argv[1:]])


def settings_of(pairs: list[str]) -> dict[str, str]:
    """--set NAME=VALUE, as given; the scenario's own model turns the text into its type."""
    settings = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise PlanError(
                f"--set {pair}: give NAME=VALUE. `cwkit list --scenarios` has the names."
            )
        settings[name] = value
    return settings
