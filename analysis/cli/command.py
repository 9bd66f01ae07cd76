"""The command `cwkit` itself: the table of its commands. Each is imported when it is called.

A new command is one line of COMMANDS and a function with its options, in a file of this room.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command_from_info
from typer.models import CommandInfo


class Line(NamedTuple):
    """One command: its function, as `module:function` of this room, and its help."""

    function: str
    help: str


COMMANDS = {
    "run": Line(
        "run:run_command", "Hammer one database with many processes, and check what is left of it."
    ),
    "sweep": Line(
        "sweep:sweep_command",
        "Run every combination of a grid in randomised blocks; once interrupted, it goes on.",
    ),
    "search": Line(
        "search:search_command",
        "The highest rate that meets an objective. 0 found, 1 not met, 2 bad input, 3 undecided.",
    ),
    "report": Line(
        "report:report_command",
        "Run the report's experiments and write REPORT.md. --into goes on with an interrupted one.",
    ),
    "claims": Line(
        "claims:claims_command",
        "The article's claims with their verdicts; with names, measure what those claims need.",
    ),
    "list": Line(
        "listing:list_command",
        "The runs, sweeps and reports there are, newest last; or the workloads or sweeps to run.",
    ),
    "show": Line(
        "show:show_command",
        "One run: throughput, conflicts, latency, fairness, checks; or a sweep's table.",
    ),
    "compare": Line(
        "compare:compare_command",
        "Compare B with A: ratio, interval, verdict. 0 done, 1 --fail-if, 2 refused, 3 undecided.",
    ),
    "conflicts": Line(
        "models:conflicts_command",
        "Why transactions were refused: kind, wait, pages and rows, and what a model predicts.",
    ),
    "scaling": Line(
        "models:scaling_command",
        "Fit the Universal Scalability Law to an experiment's arms that differ in writers only.",
    ),
    "check": Line(
        "check:check_command",
        "Judge recorded histories: 0 valid, 1 violated, 2 bad input, 3 cannot be decided.",
    ),
    "fuzz": Line(
        "fuzz:fuzz_command",
        "Hunt for what no engine may show: drawn programs, judged, shrunk, each with a script.",
    ),
    "export": Line(
        "export:export_command",
        "Every attempt of a run, all who were due, or every cell of a sweep, as Parquet or CSV.",
    ),
    "engines": Line(
        "engines:engines_command",
        "Ask each engine what it is, which BEGIN modes it accepts, and who may open its files.",
    ),
    "recover": Line(
        "recover:recover_command",
        "Finish what was killed: count it, read its history, check its database, clear the rest.",
    ),
}


class _Commands(Mapping[str, Any]):
    """The commands by name. A command's module is imported when the command is asked for."""

    def __init__(self) -> None:
        self.built: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self.built:
            self.built[name] = self._built(name)
        return self.built[name]

    def _built(self, name: str) -> Any:
        module, _, function = COMMANDS[name].function.partition(":")
        found = getattr(importlib.import_module(f"analysis.cli.{module}"), function)
        info = CommandInfo(name, callback=found, help=COMMANDS[name].help)
        return get_command_from_info(info, pretty_exceptions_short=True, rich_markup_mode=None)

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class _Group(TyperGroup):
    """`cwkit`. Its help is made from the table, so that no command is imported for it."""

    def __init__(self, **how: Any) -> None:
        super().__init__(**{**how, "commands": _Commands()})

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        lines: Any = {name: TyperCommand(name, help=line.help) for name, line in COMMANDS.items()}
        TyperGroup(commands=lines).format_commands(ctx, formatter)


app = typer.Typer(
    name="cwkit",
    cls=_Group,
    help="Concurrent writes on embedded databases: property tests, experiments, a report.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback()
def _cwkit() -> None:
    """`cwkit` has no option of its own. This callback makes `app` a group of commands."""
