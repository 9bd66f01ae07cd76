"""`cwkit show`: one run as sentences and tables, or a sweep's table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from analysis import counting
from analysis.cli import terminal
from analysis.cli.experiment_summary import show_folder
from analysis.cli.options import RUNS, ForeignLimitOption, JsonOption, RunsOption
from workloads import records
from workloads.files import json_text

if TYPE_CHECKING:
    from workloads.records import Run


def show_command(
    name: Annotated[str, typer.Argument(metavar="RUN", help="its folder, name or a part of it")],
    as_json: JsonOption = False,
    foreign_limit: ForeignLimitOption = counting.FOREIGN_LIMIT,
    runs: RunsOption = RUNS,
) -> None:
    folder, console = records.find_run(name, runs), terminal.console()
    if not show_folder(folder, console, as_json=as_json, foreign_limit=foreign_limit):
        show_run(records.read_run(folder), console, as_json=as_json, foreign_limit=foreign_limit)


def show_run(
    run: Run,
    console: Console,
    *,
    as_json: bool = False,
    foreign_limit: float = counting.FOREIGN_LIMIT,
) -> None:
    """Print a run as sentences and tables, or as its document."""
    from analysis.cli.documents import run_document  # here: no help needs what it imports
    from analysis.cli.run_summary import summary_lines

    if as_json:
        print(json_text(run_document(run, foreign_limit)))
        return

    for line in summary_lines(run, foreign_limit=foreign_limit):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
